"""Checkpoints: a pytree of arrays and a little host data at a round, saved whole or not at all.

    <directory>/500/state/...        the arrays, by orbax (every process writes its shards)
    <directory>/500/payload/0        bytes of the host (a data iterator's state), where there are any
    <directory>/500/manifest.json    written last: metadata, leaves, and the sha256 of every other file

A step counts once its manifest is there and everything it lists is as it says. A save that was cut, by a kill or a
full disk, leaves a directory without a manifest, which nobody restores and the next save clears away.

orbax's cost is by the array, so those up to 1 MiB go into one of bytes, `packed`; the manifest says where in it
each leaf begins (`at`). Larger ones, and small ones split over hosts, are arrays of their own under `large`.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Sharding, SingleDeviceSharding

from gan_jax.runs.workdir import is_local, reason, write_atomically
from gan_jax.training.experiment import Best
from gan_jax.types import Tree

MANIFEST = "manifest.json"
_FORMAT = 1
_HASHING_THREADS = 4
_CHUNK = 1 << 20
_PACKED_BELOW = 1 << 20
_NAMED_IN_ERRORS = 3


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be saved or restored; the message is one line for the user."""


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was passed over."""


class _Damaged(Exception):
    """Why a step does not count."""


class Restored(NamedTuple):
    """What `Checkpoints.restore` hands back.

    Attributes:
      step: the round it was saved at.
      state: the pytree, in the target's structure and on its devices.
      metadata: the JSON values given to `save`.
      payload: the bytes this process gave to `save`, `None` if none were given.
    """

    step: int
    state: Tree
    metadata: dict[str, Any]
    payload: bytes | None


class Checkpoints:
    """The checkpoints of one directory.

    Saves run in the background; `wait` or `close` (or the `with` block's end) before the process ends, or the last
    one is lost. Every process calls `save` and `restore` alike; process 0 alone writes manifests and deletes.

    Args:
      directory: made at the first save. A `gs://` path works as well.
      keep: how many of the latest steps are kept; the newest always is.
      best: which to keep beside those.

    Raises:
      ValueError: if `keep`, or `best.keep`, is below 1.
    """

    def __init__(self, directory: epath.PathLike, *, keep: int = 3, best: Best | None = None):
        if keep < 1 or (best is not None and best.keep < 1):
            raise ValueError(f"At least one checkpoint is kept, got keep={keep} and best={best}.")
        path = epath.Path(directory)
        self.directory = epath.Path(os.path.abspath(path)) if is_local(path) else path
        self._keep = keep
        self._best = best
        self._saver: Any = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: tuple[int, concurrent.futures.Future[None]] | None = None
        self._current: int | None = None
        self._complaint: str | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:  # the error under way is the one to tell
            _quietly(self.close)

    def save(
        self,
        step: int,
        state: Tree,
        *,
        metadata: Mapping[str, Any] | None = None,
        payload: bytes | None = None,
        metrics: Mapping[str, float] | None = None,
        blocking: bool = False,
    ) -> bool:
        """Saves `state` at `step`, returning as soon as the arrays may be changed or donated.

        An earlier save is waited for first. A step that this object has just saved or restored is already there and
        not written again; what an older branch of the run left at this step is replaced.

        Args:
          step: the round.
          state: a pytree of JAX arrays (typed keys too) and numpy arrays.
          metadata: values that JSON holds.
          payload: this process's bytes, a data iterator's state; all processes give some, or none.
          metrics: numbers by which the best checkpoints are chosen.
          blocking: return only once the checkpoint counts.

        Returns:
          Whether something was written.

        Raises:
          CheckpointError: if this save, or an earlier one in the background, failed; no older one is harmed.
          TypeError: if a leaf is no array, or `metadata` no JSON.
        """
        self.wait()
        if step == self._current:
            return False
        arrays, leaves = _to_save(state)
        manifest = {
            "format": _FORMAT,
            "step": int(step),
            "metadata": _json_copy(metadata or {}),
            "metrics": {name: _finite(value) for name, value in (metrics or {}).items()},
            "leaves": leaves,
        }
        payloads = _gather(payload)
        try:
            if jax.process_index() == 0:
                self._remove(step)
                self._path(step).mkdir(parents=True, exist_ok=True)
            self._saver = self._saver or _new_saver()
            self._saver.save(self._path(step) / "state", args=_orbax().args.PyTreeSave(arrays))
        except Exception as error:
            raise self._failed(step, error) from error
        self._pending = step, self._thread.submit(self._finish, step, manifest, payloads)
        if blocking:
            self.wait()
        return True

    def wait(self) -> None:
        """Returns once no save is under way.

        Raises:
          CheckpointError: if the save failed.

        Warns:
          CheckpointWarning: if what need not be kept could not be deleted.
        """
        if self._pending is None:
            return
        step, future = self._pending
        try:
            future.result()
        except Exception as error:
            self._pending = None
            raise self._failed(step, error) from error
        self._pending = None
        self._current = step
        complaint, self._complaint = self._complaint, None
        if complaint is not None:
            warnings.warn(complaint, CheckpointWarning, stacklevel=2)

    def close(self) -> None:
        """Waits for the save under way and lets go of threads.

        Raises:
          CheckpointError: if the save failed.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            if self._saver is not None:
                self._saver.close()
                self._saver = None

    def steps(self) -> list[int]:
        """The steps whose manifest is there, ascending; whether they are undamaged is not looked at."""
        return [step for step in self._numbered() if (self._path(step) / MANIFEST).exists()]

    def latest_valid(self) -> int | None:
        """The newest step that is whole, every file's hash checked; `None` if there is none.

        Warns:
          CheckpointWarning: naming each newer one passed over, and why.
        """
        return next(self._valid_steps(), None)

    def best(self) -> int | None:
        """The best step by `Best`'s metric, `None` if there is none."""
        if self._best is None:
            return None
        ranked = _ranked(self._metrics(), self._best)
        return ranked[0] if ranked else None

    def manifest(self, step: int) -> dict[str, Any]:
        """What a step says of itself: `metadata`, `metrics`, `leaves` (shape and dtype by name) and `files`.

        Raises:
          CheckpointError: if the step is not there or its manifest is damaged.
        """
        try:
            return _read_manifest(self._path(step))
        except _Damaged as damage:
            raise CheckpointError(f"Checkpoint {step} in {self.directory} {damage}.") from None

    def restore(self, target: Tree, step: int | None = None, shardings: Tree | None = None) -> Restored:
        """Restores the newest undamaged step, or the one asked for, bit for bit.

        Args:
          target: the state's structure: arrays, or `jax.ShapeDtypeStruct`s. A leaf goes where its `sharding` says.
          step: a certain step; then a damaged one is an error, and no other is taken for it.
          shardings: a sharding, or a tree prefix of them, in place of the target's.

        Raises:
          CheckpointError: if there is none, none is valid, or it does not fit `target` (leaves are named).

        Warns:
          CheckpointWarning: naming each damaged checkpoint passed over, and why.
        """
        self.wait()
        wanted = _targets(target, shardings)
        while True:
            chosen = _from_process_0(lambda: self._choose(step))
            if chosen is None:
                raise CheckpointError(self._why_none())
            try:
                metadata, leaves, payload = self._read(chosen, wanted)
            except CheckpointError:
                # A run that trains here meanwhile may have deleted it since: then there is a newer one.
                gone = not (self._path(chosen) / MANIFEST).exists()
                if step is None and gone and jax.process_count() == 1:
                    continue
                raise
            self._current = chosen
            return Restored(chosen, jax.tree.unflatten(jax.tree.structure(target), leaves), metadata, payload)

    def discard_after(self, step: int) -> list[int]:
        """Deletes the steps after `step`, which a run that goes on from `step` will not pass through again.

        Returns:
          The steps deleted.

        Raises:
          CheckpointError: if one cannot be deleted.
        """
        later = [other for other in self._numbered() if other > step]
        if jax.process_index() == 0:
            try:
                for other in later:
                    self._remove(other)
            except OSError as error:
                raise CheckpointError(
                    f"Cannot delete checkpoints {later} in {self.directory}: {reason(error)}."
                ) from error
        return later

    # What follows runs on the background thread, but for the few that both use.

    def _finish(self, step: int, manifest: dict[str, Any], payloads: tuple[bytes, ...]) -> None:
        # orbax's own barriers are behind every process's shards; what is left is process 0's.
        self._saver.wait_until_finished()
        if jax.process_index() != 0:
            return
        path = self._path(step)
        for index, payload in enumerate(payloads):
            (path / "payload").mkdir(parents=True, exist_ok=True)
            (path / "payload" / str(index)).write_bytes(payload)
        write_atomically(path / MANIFEST, _seal({**manifest, "files": _hash_files(path)}))
        try:
            self._prune(step)
        except OSError as error:  # the checkpoint counts all the same
            self._complaint = f"Older checkpoints in {self.directory} could not be deleted: {reason(error)}."

    def _prune(self, newest: int) -> None:
        # Steps without a readable manifest are what cut saves left: the lock says that nobody is writing them.
        kept = steps_to_keep(self._metrics(), self._keep, self._best)
        for step in self._numbered():
            if step < newest and step not in kept:
                self._remove(step)

    def _remove(self, step: int) -> None:
        path = self._path(step)
        if not path.exists():
            return
        (path / MANIFEST).unlink(missing_ok=True)  # first: half a deletion must not look like a checkpoint
        path.rmtree(missing_ok=True)

    def _path(self, step: int) -> epath.Path:
        return self.directory / str(int(step))

    def _numbered(self) -> list[int]:
        if not self.directory.exists():
            return []
        names = [path.name for path in self.directory.iterdir()]
        return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

    def _metrics(self) -> dict[int, dict[str, float]]:
        found = {}
        for step in self._numbered():
            try:
                found[step] = _read_manifest(self._path(step))["metrics"]
            except _Damaged:
                continue
        return found

    def _valid_steps(self) -> Iterator[int]:
        for step in reversed(self._numbered()):
            try:
                verify(self._path(step))
            except _Damaged as damage:
                message = f"Checkpoint {step} in {self.directory} is passed over: it {damage}."
                warnings.warn(message, CheckpointWarning, stacklevel=3)
            else:
                yield step

    def _choose(self, step: int | None) -> int | None:
        if step is None:
            return self.latest_valid()
        if not self._path(step).exists():
            raise CheckpointError(
                f"There is no checkpoint {step} in {self.directory}: there are {self.steps() or 'none'}."
            )
        try:
            verify(self._path(step))
        except _Damaged as damage:
            raise CheckpointError(f"Checkpoint {step} in {self.directory} {damage}.") from None
        return step

    def _read(
        self, step: int, wanted: dict[str, tuple[Any, Sharding | None]]
    ) -> tuple[dict[str, Any], list[Any], bytes | None]:
        manifest = self.manifest(step)
        self._check_fits(step, manifest["leaves"], wanted)
        try:
            leaves = _load(self._path(step) / "state", wanted, manifest["leaves"])
            payload = self._own_payload(step, manifest)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"Cannot read checkpoint {step} in {self.directory}: {reason(error)}."
            ) from error
        return manifest["metadata"], leaves, payload

    def _why_none(self) -> str:
        there = self._numbered()
        if not there:
            return f"There is no checkpoint in {self.directory}: train there first, or mend the path."
        return f"None of the checkpoints {there} in {self.directory} is whole: nothing can be restored."

    def _failed(self, step: int, error: Exception) -> CheckpointError:
        if self._saver is not None:
            self._saver, saver = None, self._saver
            _quietly(saver.close)
        if jax.process_index() == 0:
            _quietly(lambda: self._remove(step))
        good = self.steps() if self.directory.exists() else []
        left = f"the last one saved is {good[-1]}" if good else "there is no earlier one"
        return CheckpointError(
            f"Cannot save checkpoint {step} in {self.directory}: {_root_reason(error)}; {left}."
        )

    def _check_fits(self, step: int, there: dict[str, Any], wanted: dict[str, Any]) -> None:
        here = {name: _describe(leaf) for name, (leaf, _) in wanted.items()}
        faults = [f"it lacks {name}" for name in here if name not in there]
        faults += [f"it has {name}, which is not expected" for name in there if name not in here]
        faults += [
            f"{name} is {_shown(there[name])} there and {_shown(here[name])} here"
            for name in here
            if name in there and _shown(there[name]) != _shown(here[name])
        ]
        if faults:
            more = len(faults) - _NAMED_IN_ERRORS
            raise CheckpointError(
                f"Checkpoint {step} in {self.directory} is of another structure: "
                + "; ".join(faults[:_NAMED_IN_ERRORS])
                + (f"; and {more} more" if more > 0 else "")
                + ". Was it saved with another configuration?"
            )

    def _own_payload(self, step: int, manifest: dict[str, Any]) -> bytes | None:
        count = sum(name.startswith("payload/") for name in manifest["files"])
        if count == 0:
            return None
        if count not in (1, jax.process_count()):
            raise CheckpointError(
                f"Checkpoint {step} in {self.directory} holds {count} processes' own data state, and "
                f"{jax.process_count()} are reading: start as many as saved it."
            )
        index = jax.process_index() if count > 1 else 0
        return (self._path(step) / "payload" / str(index)).read_bytes()


# ---------------------------------------------------------------------------------------------------------
# Retention


def steps_to_keep(
    metrics: Mapping[int, Mapping[str, float | None]], keep: int, best: Best | None = None
) -> set[int]:
    """Which of the saved steps stay: the `keep` latest, and the best by a metric.

    >>> scores = {100: {"frechet": 9.0}, 200: {"frechet": 4.0}, 300: {"frechet": 6.0}, 400: {}}
    >>> sorted(steps_to_keep(scores, keep=1, best=Best("frechet")))
    [200, 400]
    """
    latest = set(sorted(metrics)[-keep:])
    return latest | set(_ranked(metrics, best)[: best.keep] if best else ())


def _ranked(metrics: Mapping[int, Mapping[str, float | None]], best: Best) -> list[int]:
    sign = 1.0 if best.mode == "min" else -1.0
    scored = [(sign * v, -step) for step, m in metrics.items() if (v := m.get(best.metric)) is not None]
    return [-negative for _, negative in sorted(scored)]


# ---------------------------------------------------------------------------------------------------------
# The manifest


def verify(path: epath.Path) -> dict[str, Any]:
    """Reads every file of one step's directory against its manifest, and returns the manifest.

    Raises:
      _Damaged: saying what is wrong.
    """
    manifest = _read_manifest(path)
    root = _resolved(path)

    def check(item: tuple[str, dict[str, Any]]) -> None:
        name, entry = item
        file = path / name
        if is_local(path) and not _resolved(file).startswith(root + os.sep):
            raise _Damaged(f"leads outside by {name}")
        try:
            size, digest = _hash(file)
        except FileNotFoundError:
            raise _Damaged(f"lacks the file {name}") from None
        except OSError as error:
            raise _Damaged(f"cannot be read ({name}: {reason(error)})") from error
        if size != entry["bytes"]:
            raise _Damaged(f"has {size} bytes in {name} where {entry['bytes']} were written")
        if digest != entry["sha256"]:
            raise _Damaged(f"has other content in {name} than was written (its sha256 differs)")

    with concurrent.futures.ThreadPoolExecutor(_HASHING_THREADS) as pool:
        list(pool.map(check, manifest["files"].items()))
    return manifest


def _hash_files(path: epath.Path) -> dict[str, dict[str, Any]]:
    names = sorted(_walk(path, ""))
    with concurrent.futures.ThreadPoolExecutor(_HASHING_THREADS) as pool:
        hashes = pool.map(lambda name: _hash(path / name), names)
        return {
            name: {"bytes": size, "sha256": digest}
            for name, (size, digest) in zip(names, hashes, strict=True)
        }


def _walk(path: epath.Path, prefix: str) -> Iterator[str]:
    for child in path.iterdir():
        name = prefix + child.name
        if child.is_dir():
            yield from _walk(child, name + "/")
        elif name != MANIFEST and not child.name.endswith(".tmp"):
            yield name


def _hash(path: epath.Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _resolved(path: epath.Path) -> str:
    return os.path.realpath(path) if is_local(path) else os.fspath(path)


def _seal(content: dict[str, Any]) -> bytes:
    # The manifest vouches for the other files, and its own first field for the rest of it.
    rest = json.dumps(content, indent=1, allow_nan=False)[1:].encode()
    return _sealed(rest)


def _sealed(rest: bytes) -> bytes:
    return b'{"sha256": "' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def _read_manifest(path: epath.Path) -> dict[str, Any]:
    try:
        data = (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise _Damaged("has no manifest (its save did not finish)") from None
    except OSError as error:
        raise _Damaged(f"cannot be read ({MANIFEST}: {reason(error)})") from error
    rest = data[len(_sealed(b"")) :]
    if data != _sealed(rest):
        raise _Damaged(f"has a damaged {MANIFEST}")
    try:
        manifest = json.loads(data)
        if manifest["format"] != _FORMAT:
            raise _Damaged(f"is of format {manifest['format']}, and this version reads {_FORMAT}")
        if str(manifest["step"]) != path.name:
            raise _Damaged(f"says that it is step {manifest['step']}")
        files = manifest["files"].values()
        well_formed = all(isinstance(f["bytes"], int) and isinstance(f["sha256"], str) for f in files)
        well_formed &= all(isinstance(manifest[name], dict) for name in ("metadata", "metrics"))
        leaves = manifest["leaves"].values()
        well_formed &= all(isinstance(e["shape"], list) and isinstance(e["dtype"], str) for e in leaves)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        well_formed = False
    if not well_formed:
        raise _Damaged(f"has a malformed {MANIFEST}")
    return manifest


def _json_copy(value: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"A checkpoint's metadata is made of JSON values ({error}), got {value}.") from error


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


# ---------------------------------------------------------------------------------------------------------
# Leaves


def leaf_names(tree: Tree) -> list[str]:
    """A name for every leaf, from its path: `players.critic.params.Dense_0.kernel`.

    >>> leaf_names({"a": [1, 2], "b": {"c": 3}})
    ['a.0', 'a.1', 'b.c']
    """
    paths = [path for path, _ in jax.tree.leaves_with_path(tree)]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    if len(set(names)) < len(names):  # a key with a dot in it; the long form keeps them apart
        names = [jax.tree_util.keystr(path) for path in paths]
    return names


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf: Any) -> dict[str, Any]:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _shown(entry: Mapping[str, Any]) -> str:
    return f"{entry['dtype']}{entry['shape']}"


def _to_save(state: Tree) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree for orbax, and every leaf's shape, dtype and, if it is packed, offset for the manifest."""
    described: dict[str, Any] = {}
    large: dict[str, Any] = {}
    small: dict[str, Any] = {}
    for name, leaf in zip(leaf_names(state), jax.tree.leaves(state), strict=True):
        if not isinstance(leaf, jax.Array | np.ndarray):
            raise TypeError(f"A checkpoint holds arrays, but {name} is a {type(leaf).__name__}.")
        described[name] = _describe(leaf)
        array = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        (small if _can_pack(array) else large)[name] = array
    packed, offsets = _pack(jax.device_get(small))
    for name, offset in offsets.items():
        described[name]["at"] = offset
    return {"packed": packed, **({"large": large} if large else {})}, described


def _can_pack(array: Any) -> bool:
    if array.nbytes > _PACKED_BELOW:
        return False
    return isinstance(array, np.ndarray) or array.is_fully_replicated or array.is_fully_addressable


def _pack(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, int]]:
    """Many small arrays as the bytes of one, and where each begins: orbax's cost is by the array."""
    offsets, end = {}, 0
    for name, array in arrays.items():
        offsets[name] = end
        end += array.nbytes
    packed = np.zeros(max(end, 1), np.uint8)  # orbax refuses an empty array
    for name, array in arrays.items():
        at = offsets[name]
        packed[at : at + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return packed, offsets


def _targets(target: Tree, shardings: Tree | None) -> dict[str, tuple[Any, Sharding | None]]:
    """Leaf and place by name; the place is `None` for a numpy array."""
    leaves = jax.tree.leaves(target)
    if shardings is None:
        given: list[Any] = [None] * len(leaves)
    else:
        is_place = lambda node: node is None or isinstance(node, Sharding)  # noqa: E731
        spread = lambda place, part: jax.tree.map(lambda _: _Place(place), part)  # noqa: E731
        given = [
            box.place for box in jax.tree.leaves(jax.tree.map(spread, shardings, target, is_leaf=is_place))
        ]
    wanted: dict[str, tuple[Any, Sharding | None]] = {}
    for name, leaf, place in zip(leaf_names(target), leaves, given, strict=True):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(f"A checkpoint holds arrays, but the target's {name} is a {type(leaf).__name__}.")
        place = place or getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
        wanted[name] = leaf, None if isinstance(leaf, np.ndarray) else place
    return wanted


class _Place:
    """A leaf that holds a sharding, so that `None` is one too."""

    def __init__(self, place: Sharding | None):
        self.place = place


def _load(
    path: epath.Path, wanted: Mapping[str, tuple[Any, Sharding | None]], described: Mapping[str, Any]
) -> list[Any]:
    """The leaves of one step, in the order of `wanted`."""
    ocp = _orbax()
    item: dict[str, Any] = {"packed": np.zeros(1, np.uint8)}  # a place holder: the saved shape is restored
    how: dict[str, Any] = {"packed": ocp.RestoreArgs(restore_type=np.ndarray)}
    large = {
        name: (_raw(leaf), place) for name, (leaf, place) in wanted.items() if "at" not in described[name]
    }
    if large:
        item["large"] = {name: jax.ShapeDtypeStruct(raw.shape, raw.dtype) for name, (raw, _) in large.items()}
        how["large"] = {
            name: ocp.RestoreArgs(restore_type=np.ndarray)
            if place is None
            else ocp.ArrayRestoreArgs(sharding=place, global_shape=raw.shape, dtype=raw.dtype)
            for name, (raw, place) in large.items()
        }
    with ocp.Checkpointer(_new_handler()) as checkpointer:
        read = checkpointer.restore(path, args=ocp.args.PyTreeRestore(item=item, restore_args=how))
    leaves = []
    for name, (leaf, place) in wanted.items():
        if name in large:
            array = read["large"][name]
        else:
            array = _unpack(read["packed"], described[name]["at"], _raw(leaf), place)
        leaves.append(jax.random.wrap_key_data(array, impl=_key_impl(leaf)) if _is_key(leaf) else array)
    return leaves


def _unpack(packed: np.ndarray, at: int, raw: Any, place: Sharding | None) -> Any:
    size = math.prod(raw.shape) * np.dtype(raw.dtype).itemsize
    array = packed[at : at + size].copy().view(raw.dtype).reshape(raw.shape)
    if place is None:
        return array
    return jax.make_array_from_callback(raw.shape, place, lambda index: array[index])


def _raw(leaf: Any) -> Any:
    """What a leaf is made of: the words of a typed key, else itself."""
    return jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf


def _key_impl(leaf: Any) -> Any:
    found: list[Any] = []
    jax.eval_shape(
        lambda keys: found.append(jax.random.key_impl(keys)), leaf
    )  # a ShapeDtypeStruct has it not
    return found[0]


# ---------------------------------------------------------------------------------------------------------
# Processes and orbax


def _gather(payload: bytes | None) -> tuple[bytes, ...]:
    """Every process's payload; one where they are all the same."""
    if payload is None:
        return ()
    if jax.process_count() == 1:
        return (payload,)
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(payload))))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(payload)] = np.frombuffer(payload, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded))
    gathered = tuple(row[:n].tobytes() for row, n in zip(rows, lengths, strict=True))
    return gathered[:1] if len(set(gathered)) == 1 else gathered


def _from_process_0(choose: Any) -> int | None:
    """Process 0's choice of a step, on every process: the others neither hash nor may decide otherwise."""
    if jax.process_count() == 1:
        return choose()
    chosen, failure = None, None
    if jax.process_index() == 0:
        try:
            chosen = choose()
        except CheckpointError as error:
            failure = error
    told = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if chosen is None else chosen)))
    if failure is not None:
        raise failure
    return None if told < 0 else told


@functools.cache
def _orbax() -> Any:
    """orbax, imported at the first save or restore: it takes as long to import as JAX itself."""
    import orbax.checkpoint as ocp

    logging.getLogger("absl").addFilter(_not_orbax_traceback)
    return ocp


def _not_orbax_traceback(record: logging.LogRecord) -> bool:
    # orbax logs, with its traceback, an error that it then raises; the user gets it once, in one line, from us.
    return not (record.exc_info and f"{os.sep}orbax{os.sep}" in record.pathname)


def _new_handler() -> Any:
    ocp = _orbax()
    # Replicas on one host gain nothing from writing a slice each, and the slicing is compiled and run while
    # training waits; between hosts it divides the writing.
    arrays = ocp.type_handlers.ArrayHandler(use_replica_parallel=jax.process_count() > 1)
    registry = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, arrays), (np.ndarray, ocp.type_handlers.NumpyHandler())
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry, use_compression=False)


def _new_saver() -> Any:
    ocp = _orbax()
    # Where a directory cannot be made, orbax's asynchronous way leaves threads that wait for it for five minutes
    # and hold up the process's end; making it takes no time.
    options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
    return ocp.AsyncCheckpointer(_new_handler(), async_options=options)


def _root_reason(error: BaseException) -> str:
    """The first cause that says something a user knows, else the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        words = reason(seen)
        if words.endswith(")") and "(" in words and isinstance(seen, OSError):
            return words
        seen = seen.__cause__ or seen.__context__
    return reason(error)


def _quietly(action: Any) -> None:
    try:
        action()
    except Exception as error:  # the failure that led here is the one to tell
        logging.getLogger(__name__).debug("While clearing up: %s", error)
