"""Decoded images on disk, so that reading them a second time costs a copy.

An entry is a folder of raw arrays beside a `record.json` with their shapes and sha256 sums. It is written
elsewhere and renamed into place, so a half-written entry is never seen; one that does not match its sums is made
again. The folder is `$GAN_JAX_CACHE`, or `gan_jax` in `$XDG_CACHE_HOME`, or `~/.cache/gan_jax`; it may be deleted
at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gan_jax.files import locked

FORMAT = 2
"""Part of every key: raise it where the meaning of an entry changes."""

ONCE = "once"
"""The entry of a record by which a build says that it would be another the next time: it is not kept."""
_BUILDING = ".building-"
"""How the names of folders begin in which an entry is being built."""
_ABANDONED_SECONDS = 3600.0

Write = Callable[[str, np.ndarray], None]
"""`write(name, rows)` appends `rows [n, ...]` to the array `name`."""

_log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """Arrays by name, `[N, ...]`, and what is to be known about them (JSON)."""

    arrays: dict[str, np.ndarray]
    record: dict[str, Any]


def cache_root() -> pathlib.Path:
    """Where entries are kept."""
    if chosen := os.environ.get("GAN_JAX_CACHE"):
        return pathlib.Path(chosen).expanduser()
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gan_jax"


def cached(
    key: Mapping[str, Any],
    build: Callable[[Write], dict[str, Any]],
    *,
    use_cache: bool = True,
    memory_map: bool = False,
) -> Stored:
    """What `build` writes, from the cache where `key` was built before.

    Args:
      key: all that the result depends on, as JSON; files as `images.listing` has them.
      build: `write -> record`: writes arrays row by row and returns the record; where `record[ONCE]` is true,
        nothing is kept.
      use_cache: if false, nothing is read from or written to disk.
      memory_map: leave the arrays on disk, read-only, for sets larger than the memory; then only their sizes are
        checked.

    Where the cache cannot be written (a full or read-only disk) the result is built in memory, with a warning.
    """
    if not use_cache:
        return build_in_memory(build)
    return load_entry(key, memory_map=memory_map) or make_entry(key, build, memory_map=memory_map)


def load_entry(key: Mapping[str, Any], *, memory_map: bool = False) -> Stored | None:
    """What was built under `key` before; `None` where nothing was, or it is damaged."""
    return _load(_entry(key), memory_map)


def make_entry(
    key: Mapping[str, Any], build: Callable[[Write], dict[str, Any]], *, memory_map: bool = False
) -> Stored:
    """What `build` writes, which is kept under `key`; for the arguments see `cached`."""
    entry = _entry(key)
    try:
        cache_root().mkdir(parents=True, exist_ok=True)
        _clear_abandoned()
        staging = pathlib.Path(tempfile.mkdtemp(prefix=_BUILDING, dir=cache_root()))
    except OSError as error:
        return _without_disk(build, error)
    try:
        try:
            with locked(staging, wait=False):
                record = _build_on_disk(staging, build)
            if record.get(ONCE):  # a mapped file outlives its name
                return _load(staging, memory_map) or build_in_memory(build)
            _move(staging, entry)
        except OSError as error:
            return _without_disk(build, error)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return _load(entry, memory_map) or build_in_memory(build)


def _clear_abandoned() -> None:
    """Removes what processes that were killed have left half built; nothing that is younger than an hour."""
    for folder in cache_root().glob(f"{_BUILDING}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.lstat().st_mtime > _ABANDONED_SECONDS:
                with locked(folder, wait=False) as held:
                    if held:
                        shutil.rmtree(folder, ignore_errors=True)


def _entry(key: Mapping[str, Any]) -> pathlib.Path:
    digest = hashlib.sha256(json.dumps([FORMAT, key], sort_keys=True).encode()).hexdigest()
    return cache_root() / digest[:32]


def _without_disk(build: Callable[[Write], dict[str, Any]], error: OSError) -> Stored:
    _log.warning(
        "The cache %s cannot be written (%s): the data are read anew each time. "
        "Set GAN_JAX_CACHE to a folder with space.",
        cache_root(),
        error,
    )
    return build_in_memory(build)


def build_in_memory(build: Callable[[Write], dict[str, Any]]) -> Stored:
    """What `build` writes, without the disk."""
    rows: dict[str, list[np.ndarray]] = {}
    record = build(lambda name, part: rows.setdefault(name, []).append(np.asarray(part)))
    return Stored({name: np.concatenate(parts) for name, parts in rows.items()}, record)


def _build_on_disk(staging: pathlib.Path, build: Callable[[Write], dict[str, Any]]) -> dict[str, Any]:
    arrays: dict[str, dict[str, Any]] = {}
    sums: dict[str, Any] = {}

    with contextlib.ExitStack() as opened:
        files: dict[str, Any] = {}

        def write(name: str, part: np.ndarray) -> None:
            if name not in files:
                # Written, not mapped: a full disk is an OSError here and would be a SIGBUS there.
                files[name] = opened.enter_context((staging / f"{name}.bin").open("wb"))
                arrays[name] = {"shape": [0, *part.shape[1:]], "dtype": part.dtype.str}
                sums[name] = hashlib.sha256()
            data = np.ascontiguousarray(part).data
            arrays[name]["shape"][0] += len(part)
            sums[name].update(data)
            files[name].write(data)

        record = build(write)
    for name, about in arrays.items():
        about["sha256"] = sums[name].hexdigest()
    (staging / "record.json").write_text(json.dumps({"arrays": arrays, "record": record}, indent=1))
    return record


def _move(staging: pathlib.Path, entry: pathlib.Path) -> None:
    try:
        staging.rename(entry)
    except OSError:
        # Another process was faster: its entry has the same key, hence the same content.
        if not entry.is_dir():
            raise


def _load(entry: pathlib.Path, memory_map: bool) -> Stored | None:
    """The entry, or `None` where there is none or it is damaged (then it is removed)."""
    if not entry.is_dir():
        return None
    try:
        about = json.loads((entry / "record.json").read_text())
        arrays = {
            name: _load_array(entry / f"{name}.bin", memory_map=memory_map, **array)
            for name, array in about["arrays"].items()
        }
        return Stored(arrays, about["record"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("The cache entry %s is damaged (%s): it is made again.", entry, error)
        shutil.rmtree(entry, ignore_errors=True)
        return None


def _load_array(
    path: pathlib.Path, *, shape: list[int], dtype: str, sha256: str, memory_map: bool
) -> np.ndarray:
    expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if path.stat().st_size != expected:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {expected}")
    if memory_map:
        return np.memmap(path, dtype=dtype, mode="r", shape=tuple(shape))
    array = np.fromfile(path, dtype=dtype).reshape(shape)
    if hashlib.sha256(array.data).hexdigest() != sha256:
        raise ValueError(f"{path.name} does not match its sha256 sum")
    return array
