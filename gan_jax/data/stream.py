"""Data too large for the device: read by number and ahead of time, or taken from an iterator."""

from __future__ import annotations

import base64
import collections
import concurrent.futures
import copy
import functools
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gan_jax.data.arrays import as_model_input, check_arrays, index_feed, unmasked
from gan_jax.data.errors import DataError, check_batch_size
from gan_jax.data.source import Source, parts_of
from gan_jax.data.value_range import DARK, STANDARD, ValueRange, check_range
from gan_jax.functional.batch import over_batch
from gan_jax.types import Batch, Tree

_REMEMBERED = 4
_IDENTIFYING = 16
"""How many examples, evenly spread, identify data that are too many to be read whole."""

Reader = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""`indices [n] -> {x [n, ...], y [n]}`; called from several threads."""


def array_reader(arrays: Mapping[str, np.ndarray]) -> Reader:
    """Reads from arrays on the host, memory-mapped ones included.

    >>> array_reader({"x": np.arange(10)})(np.array([3, 1]))["x"].tolist()
    [3, 1]

    The reader raises a `DataError` where numbers are masked.
    """
    return lambda indices: {name: unmasked(name, array[indices]) for name, array in arrays.items()}


def from_reader(
    read: Reader,
    size: int,
    batch_size: int,
    seed: int = 0,
    *,
    replace: bool = False,
    ahead: int = 4,
    workers: int | None = None,
    value_range: ValueRange | Mapping[str, ValueRange] = None,
) -> Source:
    """A source that reads examples by number in threads, `ahead` batches before they are asked for.

    The order is that of `from_arrays`, a pure function of seed and batch number: there is no state to save, and a
    run resumes at any batch. uint8 crosses to the device as it is and is decoded there.

    Args:
      read: gives examples by number.
      size: how many there are.
      batch_size: B.
      seed: of the order.
      replace: sample with replacement instead of epochs.
      ahead: how many batches are read before they are asked for: at least as many as the last call asked for, or
        none if 0.
      workers: threads; as many as there are cores if `None`.
      value_range: `(low, high)`, which values are black and white, of all arrays but `y` or by name; `standard` for
        [0, 255] in integers and [-1, 1] in floats; `None` is that too, with a warning where images of the first
        batch look otherwise, for a batch cannot tell the range of all.

    Raises:
      DataError: if the batch is larger than the data, or a number is out of range.

    Warns:
      UserWarning: for a first batch of images in [0, 1], or nearly black ones, where no range is given.

    >>> source = from_reader(array_reader({"x": np.arange(12.0)[:, None]}), size=12, batch_size=4)
    >>> source.host_batches(0, 2)["x"].shape
    (2, 4, 1)
    >>> source.close()
    """
    if ahead < 0 or (workers is not None and workers < 1):
        raise DataError(
            f"A stream reads 0 or more batches ahead by 1 or more workers, got {ahead} and {workers}."
        )
    checked = functools.partial(check_arrays, what="what was read", value_range=known_range(value_range))
    indices = index_feed(size, batch_size, seed, replace=replace)
    workers = workers or os.cpu_count()
    begun = False
    pool: concurrent.futures.ThreadPoolExecutor | None = None
    pending: dict[tuple[Any, ...], concurrent.futures.Future[dict[str, np.ndarray]]] = {}

    def read_batch(number: int, parts: tuple[int, ...], total: int) -> dict[str, np.ndarray]:
        return checked(read(parts_of(indices(number, 1)[0], parts, total)))

    def host_batch_shards(cursor: int, count: int, parts: Sequence[int], total: int) -> dict[str, np.ndarray]:
        nonlocal begun, pool
        if pool is None:
            pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="gan_jax-data")
        further = max(ahead, count) if ahead else 0
        wanted = [(number, tuple(parts), total) for number in range(cursor, cursor + count + further)]
        for batch in [batch for batch in pending if batch not in wanted]:
            pending.pop(batch).cancel()
        for batch in wanted:
            if batch not in pending:
                pending[batch] = pool.submit(read_batch, *batch)
        stacked = _stacked((pending.pop(batch).result() for batch in wanted[:count]), count)
        if not begun and count:
            begun = True
            warn_of_range({name: array[0] for name, array in stacked.items()}, value_range)
        return stacked

    in_order = index_feed(size, min(batch_size, size), seed)

    def epoch_batches(cursor: int, count: int) -> dict[str, np.ndarray]:
        return _stacked((checked(read(rows)) for rows in in_order(cursor, count)), count)

    def fingerprint() -> dict[str, str]:
        rows = np.unique(np.linspace(0, size - 1, _IDENTIFYING).astype(np.int32))
        some = checked(read(rows))
        return {
            f"{name} (of {size} examples)": f"{array.dtype}{list(array.shape[1:])} sha256:{_digest(array)}"
            for name, array in some.items()
        }

    def close() -> None:
        nonlocal pool
        pending.clear()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
            pool = None

    return Source(
        host_batches=lambda cursor, count: host_batch_shards(cursor, count, (0,), 1),
        host_batch_shards=host_batch_shards,
        get_batch=_decoded,
        batch_size=batch_size,
        size=size,
        epoch_batches=epoch_batches if replace else None,
        fingerprint=fingerprint,
        close=close,
    )


def from_iterator(
    iterator: Iterator[Mapping[str, np.ndarray]],
    batch_size: int,
    *,
    processes: int = 1,
    value_range: ValueRange | Mapping[str, ValueRange] = None,
) -> Source:
    """A source over somebody's own iterator of batches, resumable if it has `get_state` and `set_state`.

    grain's iterators have both. Each batch is `{x [B, ...], y [B]}`; the iterator must not end.

    Args:
      iterator: of batches.
      batch_size: B; a batch of another size is an error.
      processes: where several processes have an iterator each over their own share of the data (grain's
        `ShardByJaxProcess`), how many: each gives B / processes examples, and a run resumes on as many.
      value_range: as in `from_reader`.

    Raises:
      DataError: if it is no iterator; while feeding, if it ends, gives batches of another size, or is asked to go
        back further than its last few calls; while restoring, if the state cannot be read.

    Warns:
      UserWarning: as `from_reader`.

    >>> source = from_iterator(iter([{"x": np.zeros((2, 3))}] * 4), batch_size=2)
    >>> source.host_batches(0, 3)["x"].shape
    (3, 2, 3)
    """
    check_batch_size(batch_size)
    if not hasattr(iterator, "__next__"):
        raise DataError(
            f"from_iterator(iterator=...) takes an iterator, got {type(iterator).__name__}: give iter(...) of an "
            "iterable, and call a function that yields batches."
        )
    position, own_size, known = 0, batch_size // processes, known_range(value_range)
    resumable = hasattr(iterator, "get_state") and hasattr(iterator, "set_state")
    # Where recent calls began: a loop that reads ahead saves when the iterator is past what was trained on.
    begun: collections.deque[tuple[int, Any]] = collections.deque(maxlen=_REMEMBERED)

    def get_state() -> Any:
        # An iterator may hand out the very object in which it counts on.
        return copy.deepcopy(iterator.get_state())  # type: ignore[attr-defined]

    def set_state(inner: Any) -> None:
        iterator.set_state(copy.deepcopy(inner))  # type: ignore[attr-defined]

    def draw() -> dict[str, np.ndarray]:
        nonlocal position
        try:
            batch = check_arrays(next(iterator), "a batch of the stream", value_range=known)
        except StopIteration as error:
            raise DataError(
                f"The stream ended after {position} batches: repeat it, as training goes on without end."
            ) from error
        if len(batch["x"]) != own_size:
            raise DataError(
                f"The stream gave a batch of {len(batch['x'])}, expected {own_size}: drop remainders."
            )
        if not position:
            warn_of_range(batch, value_range)
        position += 1
        return batch

    def go_to(cursor: int) -> None:
        nonlocal position
        earlier = [(place, inner) for place, inner in begun if place <= cursor]
        if cursor < position and not earlier:
            raise DataError(
                f"The stream stands at batch {position} and cannot go back to {cursor}: restore its state, or "
                "start anew."
            )
        if cursor < position:
            position, inner = earlier[-1]
            set_state(inner)
        while position < cursor:
            draw()

    def local_batches(cursor: int, count: int, parts: Sequence[int], total: int) -> dict[str, np.ndarray]:
        if len(parts) * processes != total:
            raise DataError(
                f"The stream is one of {processes}, but this process has {len(parts)} of {total} devices: give "
                "from_iterator the number of processes."
            )
        return host_batches(cursor, count)

    def host_batches(cursor: int, count: int) -> dict[str, np.ndarray]:
        go_to(cursor)
        if resumable:
            begun.append((position, get_state()))
        return _stacked((draw() for _ in range(count)), count)

    def state() -> bytes:
        kept = [*begun, (position, get_state())]
        return json.dumps([[place, _to_json(inner)] for place, inner in kept]).encode()

    def restore(saved: bytes) -> None:
        nonlocal position
        try:
            kept = [(int(place), _from_json(inner)) for place, inner in json.loads(saved)]
            position, inner = kept[-1]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"The saved state of the stream cannot be read ({error}): start anew.") from error
        set_state(inner)
        begun.clear()
        begun.extend(kept[:-1])

    return Source(
        host_batches=host_batches,
        host_batch_shards=local_batches if processes > 1 else None,
        in_order=True,
        get_batch=_decoded,
        batch_size=batch_size,
        state=state if resumable else None,
        restore=restore if resumable else None,
        close=getattr(iterator, "close", lambda: None),
    )


def known_range(
    value_range: ValueRange | Mapping[str, ValueRange],
) -> ValueRange | Mapping[str, ValueRange]:
    """The range of a stream's values, of which no batch by itself is recognised.

    Raises:
      DataError: if it is no range.
    """
    if isinstance(value_range, Mapping):
        return {name: check_range(given) or STANDARD for name, given in value_range.items()}
    return check_range(value_range) or STANDARD


def warn_of_range(
    batch: Mapping[str, np.ndarray], value_range: ValueRange | Mapping[str, ValueRange]
) -> None:
    """Warns where images of a stream's first batch look like another range than the standard, and none is named."""
    for name, array in batch.items():
        given = value_range.get(name, STANDARD) if isinstance(value_range, Mapping) else value_range
        if given is None and name != "y" and array.ndim >= 3 and array.size:
            low, high = array.min(), array.max()
            if 0 <= low < high <= (1 if array.dtype.kind == "f" else DARK - 1):
                warnings.warn(
                    f"{name!r} has values in [{low:g}, {high:g}] in the first batch of the stream, and images are "
                    "taken as [0, 255] in integers and [-1, 1] in floats: value_range=(low, high) names the values "
                    "of black and white, value_range='standard' keeps them.",
                    stacklevel=2,
                )


def _to_json(inner: Any) -> Any:
    """grain's loaders give bytes, its datasets' iterators a JSON tree."""
    return {"bytes": base64.b64encode(inner).decode()} if isinstance(inner, bytes) else {"tree": inner}


def _from_json(kept: Any) -> Any:
    return base64.b64decode(kept["bytes"]) if "bytes" in kept else kept["tree"]


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _stacked(batches: Iterable[Mapping[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """`count` batches as one array for each name.

    Each batch is copied before the next is drawn, since an iterator may fill the same arrays again.

    Raises:
      DataError: if they are not of the same names, shapes and dtypes.
    """
    kinds: dict[str, Any] = {}
    stacked: dict[str, np.ndarray] = {}
    for place, batch in enumerate(batches):
        here = {name: (array.shape, array.dtype) for name, array in batch.items()}
        if not place:
            kinds = here
            stacked = {name: np.empty((count, *shape), dtype) for name, (shape, dtype) in kinds.items()}
        elif here != kinds:
            raise DataError(f"The batches of a stream are alike, got {_shown(kinds)} and {_shown(here)}.")
        for name, array in batch.items():
            stacked[name][place] = array
    return stacked


def _shown(kinds: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (shape, dtype) in sorted(kinds.items()))


def _decoded(_: Tree, host_batch: Tree) -> Batch:
    return over_batch({name: as_model_input(name, leaf) for name, leaf in over_batch(host_batch).items()})
