"""Manifests: what a checkpoint says of itself, sealed by hashes.

The manifest has the sha256 of every other file (on an object store only its size), and in its first field that of
the rest of itself. An amendment completes a manifest that is sealed already: what was due when the state was saved
and has been done since.
"""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from etils import epath

from gan_jax.runs.files import is_link, is_local, read_regular, reason, write_atomically
from gan_jax.runs.strict_json import dumps, from_json

MANIFEST = "manifest.json"
AMENDMENT = "amendment.json"
FORMAT = 2
READ_FORMATS = (1, 2)
_HASHING_THREADS = 4
_CHUNK = 1 << 20


class DamagedError(Exception):
    """Why a step does not count; a predicate for a sentence about it."""


class ProtectedError(Exception):
    """A step that may be good: it must be neither passed over nor deleted; a predicate, and what to do about it.

    Another version has written it, it cannot be read now (a disk that does not answer), or it lies behind a link.
    """


def _unreadable(name: str, error: OSError) -> ProtectedError:
    return ProtectedError(
        f"cannot be read ({name}: {reason(error)}). Nothing was changed: make it readable, or move it elsewhere"
    )


def refuse_link(path: epath.Path, name: str = "") -> None:
    """Checks that a step's directory, or a file of it, is no link.

    Raises:
      ProtectedError: if it is.
    """
    if is_link(path / name if name else path):
        raise ProtectedError(
            f"{'leads elsewhere by ' + name if name else 'is a link'}, and no link is followed. Nothing was "
            "changed: put there what it leads to, or remove the link"
        )


def _refuse_irregular(path: epath.Path, name: str) -> None:
    """Checks that a file of a step is a regular one: of a pipe a reader would wait for ever.

    Raises:
      ProtectedError: if it is not.
    """
    try:
        irregular = not stat.S_ISREG(os.lstat(path / name).st_mode)
    except FileNotFoundError:
        return  # a run that trains there has just deleted it
    except OSError as error:
        raise _unreadable(name, error) from error
    if irregular:
        raise _unreadable(name, OSError(errno.EINVAL, "it is not a regular file"))


def verify(path: epath.Path) -> dict[str, Any]:
    """Reads every file of one step's directory against its manifest, and returns the manifest.

    Raises:
      DamagedError: saying what is wrong.
      ProtectedError: if it is not to be touched.
    """
    manifest = read_manifest(path)
    if is_local(path):
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                refuse_link(path, os.path.relpath(os.path.join(folder, name), path))
            for name in files:
                _refuse_irregular(path, os.path.relpath(os.path.join(folder, name), path))

    def check(item: tuple[str, dict[str, Any]]) -> None:
        name, entry = item
        if is_local(path) and (os.path.isabs(name) or ".." in name.split("/")):
            raise DamagedError(f"leads outside by {name}")
        try:
            size, digest = hash_file(path / name) if entry["sha256"] else (size_of(path / name), "")
        except (FileNotFoundError, NotADirectoryError):
            raise DamagedError(f"lacks the file {name}") from None
        except OSError as error:
            raise _unreadable(name, error) from error
        if size != entry["bytes"]:
            raise DamagedError(f"has {size} bytes in {name} where {entry['bytes']} were written")
        if digest != entry["sha256"]:
            raise DamagedError(f"has another content in {name} than was written (its sha256 differs)")

    with concurrent.futures.ThreadPoolExecutor(_HASHING_THREADS) as pool:
        list(pool.map(check, manifest["files"].items()))
    return manifest


def hash_files(path: epath.Path) -> dict[str, dict[str, Any]]:
    """The size and the sha256 of every file of a step but its manifest and amendment, by name.

    On an object store the sha256 is left empty: to compute it the whole checkpoint would be downloaded again, and
    the store checks each object by a sum of its own, as it is written and as it is read.
    """
    names = sorted(_walk(path, ""))
    local = is_local(path)

    def measured(name: str) -> tuple[int, str]:
        return hash_file(path / name) if local else (size_of(path / name), "")

    with concurrent.futures.ThreadPoolExecutor(_HASHING_THREADS) as pool:
        hashes = pool.map(measured, names)
        return {
            name: {"bytes": size, "sha256": digest}
            for name, (size, digest) in zip(names, hashes, strict=True)
        }


def _walk(path: epath.Path, prefix: str) -> Iterator[str]:
    for child in path.iterdir():
        name = prefix + child.name
        if child.is_dir():
            yield from _walk(child, name + "/")
        elif name not in (MANIFEST, AMENDMENT) and not child.name.endswith(".tmp"):
            yield name


def hash_file(path: epath.Path) -> tuple[int, str]:
    """A file's size and sha256."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def size_of(path: epath.Path) -> int:
    """A file's size, which is not read for it."""
    return int(path.stat().length)


def seal(content: dict[str, Any]) -> bytes:
    """A manifest or an amendment as bytes, with its sha256 in front."""
    return _with_digest(dumps(content, indent=1, name="checkpoint")[1:].encode())


def _with_digest(rest: bytes) -> bytes:
    return b'{"sha256": "' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def _unsealed(data: bytes) -> Any:
    """The JSON value of sealed bytes; `None` where the seal is broken."""
    rest = data[len(_with_digest(b"")) :]
    if data != _with_digest(rest):
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return {}


def read_manifest(path: epath.Path) -> dict[str, Any]:
    """The manifest of a step's directory, in the form of the current format, with its amendment.

    Raises:
      DamagedError: saying what is wrong.
      ProtectedError: if it is not to be touched.
    """
    refuse_link(path)
    refuse_link(path, MANIFEST)
    try:
        data = read_regular(path / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedError("has no manifest (its save did not finish)") from None
    except OSError as error:
        raise _unreadable(MANIFEST, error) from error
    manifest = _unsealed(data)
    if manifest is None:
        raise DamagedError(f"has a damaged {MANIFEST}")
    known = " and ".join(map(str, READ_FORMATS))
    if not isinstance(manifest, dict) or manifest.get("format") not in READ_FORMATS:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise ProtectedError(
            f"is of format {found}, and this version reads {known}. Nothing was changed: go on with the version "
            "that wrote it, or move it elsewhere"
        )
    if not _is_well_formed(manifest):
        raise DamagedError(f"has a malformed {MANIFEST}")
    if str(manifest["step"]) != path.name:
        raise DamagedError(f"says that it is step {manifest['step']}")
    if manifest["format"] == 1:
        manifest = _migrated(manifest)
    manifest |= {name: from_json(manifest[name]) for name in ("metadata", "metrics")}
    amendment = _read_amendment(path)
    for name in ("metadata", "metrics"):
        manifest[name] |= amendment.get(name, {})
    manifest["due"] = amendment.get("due", manifest["due"])
    return manifest


def _is_well_formed(manifest: Any) -> bool:
    try:
        files, leaves = manifest["files"].values(), manifest["leaves"].values()
        return (
            all(isinstance(f["bytes"], int) and isinstance(f["sha256"], str) for f in files)
            and all(isinstance(manifest[name], dict) for name in ("metadata", "metrics"))
            and all(isinstance(e["shape"], list) and isinstance(e["dtype"], str) for e in leaves)
            and isinstance(manifest["step"], int)
            and (manifest["format"] == 1 or _are_names(manifest["due"]))
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _migrated(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest of format 1, which called a player's `model_state` `stats` and its `objective_state` `memory`.

    A renamed leaf says in `stored` by which name its array was written.
    """
    leaves = {}
    for name, entry in manifest["leaves"].items():
        renamed = _FORMAT_1_FIELD.sub(lambda match: match[1] + _FORMAT_1_NAMES[match[2]], name, count=1)
        leaves[renamed] = {**entry, "stored": name}
    return {**manifest, "leaves": leaves, "due": []}


_FORMAT_1_NAMES = {"stats": "model_state", "memory": "objective_state"}
# `players.critic.stats...`, or in the long form of names with a dot `.players['critic'].stats...`
_FORMAT_1_FIELD = re.compile(r"^(players\.[^.]+\.|\.players\[[^\]]*\]\.)(stats|memory)(?![^.\[])")


def write_amendment(path: epath.Path, content: dict[str, Any]) -> None:
    """Completes the manifest of a step's directory: `due`, and further `metrics` and `metadata`.

    What an earlier amendment says stays unless it is replaced: a launch that draws what is left does not know the
    evaluation of the launch before.

    Raises:
      OSError: the file system's error; the step is then as it was.
      ProtectedError: if the earlier one is there and cannot be read.
    """
    before = _read_amendment(path)
    merged = {name: {**before.get(name, {}), **content[name]} for name in ("metrics", "metadata")}
    write_atomically(path / AMENDMENT, seal({**content, **merged}))


def _read_amendment(path: epath.Path) -> dict[str, Any]:
    """The amendment, empty if there is none or it is damaged: then what was due is done again.

    Raises:
      ProtectedError: if it is there and cannot be read.
    """
    refuse_link(path, AMENDMENT)
    try:
        amendment = _unsealed(read_regular(path / AMENDMENT))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _unreadable(AMENDMENT, error) from error
    if not isinstance(amendment, dict) or not _are_names(amendment.get("due")):
        return {}
    if not all(isinstance(amendment.get(name), dict) for name in ("metadata", "metrics")):
        return {}
    return from_json(amendment)
