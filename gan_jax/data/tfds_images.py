"""Images from TensorFlow Datasets, read from array_record without TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from gan_jax.data.cache import Write, cached
from gan_jax.data.conversion import MAX_PIXELS, Conversion, decode_bytes, sides
from gan_jax.data.encoded import listing
from gan_jax.data.errors import DataError
from gan_jax.data.images import Dataset, convert_all, dataset
from gan_jax.data.tfds_builders import builder, is_prepared, quiet
from gan_jax.types import Size

_CHUNK = 4096


def prepared_builder(name: str, data_dir: str | pathlib.Path | None = None, prepare: bool = False) -> Any:
    """TFDS's builder of a data set that is on disk as array_record.

    Args:
      name: as TFDS names it.
      data_dir: where TFDS keeps its data; its own default if `None`.
      prepare: download and prepare it if it is not there.

    Raises:
      DataError: if it is not there (naming the folder and the command that prepares it), or preparing failed.
    """
    found = builder(name, data_dir)
    if not is_prepared(found) and prepare:
        from gan_jax.data.prepare import prepare as prepare_data_set

        prepare_data_set(name, data_dir=data_dir)
        found = builder(name, data_dir)
    if not is_prepared(found):
        with quiet():
            on_disk = found.is_prepared()
        how = "is not prepared"
        if on_disk:
            how = (
                f"is prepared as {found.info.file_format.value}, which needs TensorFlow, not as array_record"
            )
        where = "" if data_dir is None else f" --data-dir={data_dir}"
        raise DataError(
            f"The TFDS data set {name!r} {how} (looked in {found.data_dir}). Where there is a network run "
            f"`python -m gan_jax.data.prepare {name}{where}`, or launch with --prepare; from raw files that "
            "you have add --from=FOLDER to the command."
        )
    return found


def load_tfds(name: str, split: str = "train", **options: Any) -> dict[str, np.ndarray]:
    """The arrays of `read_tfds`; what was skipped is logged in one line.

    Raises:
      DataError: as `read_tfds`.
    """
    read = read_tfds(name, split, **options)
    read.warn(f"tfds:{name}@{split}")
    return read.arrays


def read_tfds(
    name: str,
    split: str = "train",
    *,
    size: Size | None = None,
    channels: int | None = None,
    method: str = "lanczos",
    max_pixels: int = MAX_PIXELS,
    data_dir: str | pathlib.Path | None = None,
    prepare: bool = False,
    use_cache: bool = True,
    memory_map: bool = False,
) -> Dataset:
    """A split of a TFDS data set of images, converted as a folder's are; decoded once, then read from the cache.

    Args:
      name: as TFDS names it; it must be prepared as array_record.
      split: in TFDS's words: `train`, `test`, `train[:10%]`, `train+test`.
      size: the side of a square, or (height, width); `None` keeps those of the data set, if they are one.
      channels: see `Conversion`; `None` takes the data set's.
      method: how to resize, one of `conversion.METHODS`.
      max_pixels: larger images are skipped.
      data_dir: where TFDS keeps its data; its own default if `None`.
      prepare: download and prepare it if it is not there.
      use_cache: whether the result is kept on disk.
      memory_map: leave the arrays on disk, for sets larger than the memory.

    Returns:
      `x` uint8, `y` where the data set has a class label, and the classes' names.

    Raises:
      DataError: if the data set is unknown, not prepared, not of images, of differing sizes with `size=None`, or
        damaged; or if there is no such split.
    """
    found = prepared_builder(name, data_dir, prepare)
    image, label = image_and_label(found)
    conversion = conversion_for(found, image, size, channels, method, max_pixels)
    records = open_records(found, split, image)

    def build(write: Write) -> dict[str, Any]:
        def keep(numbered: list[tuple[int, dict[str, Any]]], arrays: np.ndarray) -> None:
            write("x", arrays)
            if label is not None:
                write("y", np.array([example[label] for _, example in numbered], np.int32))

        skipped: dict[str, str] = {}
        for start in range(0, len(records), _CHUNK):
            examples = list(enumerate(records.read(range(start, min(start + _CHUNK, len(records)))), start))
            failed = convert_all(
                examples, lambda numbered: decode_bytes(numbered[1][image], conversion), keep
            )
            skipped |= {f"record {number}": why for (number, _), why in failed}
        names = found.info.features[label].names if label is not None else []
        return {"classes": list(names or []), "names": [], "skipped": skipped}

    folder = pathlib.Path(found.data_dir)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    key = {
        "tfds": str(folder.resolve()),
        "files": listing(folder, files),
        "split": split,
        "features": [image, label],
        "made": conversion.record(),
    }
    stored = cached(key, build, use_cache=use_cache, memory_map=memory_map)
    if "x" not in stored.arrays:
        raise DataError(f"tfds:{name}@{split} has no image that can be read: {stored.record['skipped']}")
    return dataset(stored, conversion)


def image_and_label(builder: Any) -> tuple[str, str | None]:
    """The names of the image and of the class label (or `None`) among a data set's features.

    Raises:
      DataError: if there is not exactly one image.
    """
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    preferred = [name for name in builder.info.supervised_keys or () if isinstance(name, str)]

    def only(kind: type) -> str | None:
        names = [name for name, feature in features.items() if isinstance(feature, kind)]
        wanted = [name for name in names if name in preferred] or names
        return wanted[0] if len(wanted) == 1 else None

    image = only(tfds.features.Image)
    if image is None:
        raise DataError(
            f"The TFDS data set {builder.name!r} is not one of single images: its features are {sorted(features)}."
        )
    return image, only(tfds.features.ClassLabel)


def conversion_for(
    builder: Any, image: str, size: Size | None, channels: int | None, method: str, max_pixels: int
) -> Conversion:
    """How the data set's images are made: with its own size and channels where none are given.

    Raises:
      DataError: if its images differ in size and `size` is `None`.
    """
    *lengths, depth = builder.info.features[image].shape
    if size is None and None in lengths:
        raise DataError(
            f"The images of the TFDS data set {builder.name!r} differ in size: give size, as in size=64."
        )
    return Conversion(
        size=size, channels=channels or (1 if depth == 1 else 3), method=method, max_pixels=max_pixels
    )


class Records:
    """The examples of a split by number, images still encoded."""

    def __init__(self, source: Any, where: str) -> None:
        self._source, self._where = source, where

    def __len__(self) -> int:
        return len(self._source)

    def read(self, numbers: Any) -> list[dict[str, Any]]:
        """The examples of these numbers.

        Raises:
          DataError: if the files are damaged.
        """
        try:
            return list(self._source.__getitems__([int(number) for number in numbers]))
        except Exception as error:  # The reader raises whatever the damage leads to.
            raise DataError(
                f"{self._where} is damaged ({type(error).__name__}: {error}): remove it and prepare it again."
            ) from error


def open_records(builder: Any, split: str, image: str) -> Records:
    """The split's records.

    Raises:
      DataError: if there is no such split, or the files are damaged.
    """
    import tensorflow_datasets as tfds

    where = f"The TFDS data set {builder.name!r} in {builder.data_dir}"
    try:
        source = builder.as_data_source(split=split, decoders={image: tfds.decode.SkipDecoding()})
    except (ValueError, KeyError) as error:
        splits = sorted(builder.info.splits)
        raise DataError(
            f"{where} cannot give the split {split!r} ({error}); its splits are {splits}."
        ) from error
    except Exception as error:
        raise DataError(f"{where} cannot be opened ({type(error).__name__}: {error}).") from error
    if not len(source):
        raise DataError(f"{where} has no examples in the split {split!r}.")
    return Records(source, where)


def decoded_bytes(
    name: str,
    split: str = "train",
    *,
    size: Size | None = None,
    data_dir: str | pathlib.Path | None = None,
    prepare: bool = False,
) -> int:
    """How much memory the decoded images of a split take.

    Raises:
      DataError: as `read_tfds`.
    """
    found = prepared_builder(name, data_dir, prepare)
    image, _ = image_and_label(found)
    height, width, depth = found.info.features[image].shape
    high, wide = sides(size) if size else (height or 0, width or 0)
    return len(open_records(found, split, image)) * high * wide * (depth or 3)


Reader = Callable[[np.ndarray], dict[str, np.ndarray]]
"""`indices [n] -> arrays [n, ...]` by name."""


def record_reader(
    name: str, split: str = "train", *, size: Size | None = None, **options: Any
) -> tuple[Reader, int]:
    """Examples decoded as they are asked for, for sets too large to decode beforehand: `(reader, size)`.

    Args:
      name: as TFDS names it.
      split: in TFDS's words.
      size: as in `read_tfds`.
      **options: `channels`, `method`, `max_pixels`, `data_dir`, `prepare`, as in `read_tfds`.

    Raises:
      DataError: as `read_tfds`; and while reading, if an image cannot be decoded.
    """
    found = prepared_builder(name, options.pop("data_dir", None), options.pop("prepare", False))
    image, label = image_and_label(found)
    made = {"channels": None, "method": "lanczos", "max_pixels": MAX_PIXELS} | options
    conversion = conversion_for(found, image, size, **made)
    records = open_records(found, split, image)

    def read(indices: np.ndarray) -> dict[str, np.ndarray]:
        examples = records.read(indices)
        arrays = {"x": np.stack([decode_bytes(example[image], conversion) for example in examples])}
        if label is not None:
            arrays["y"] = np.array([example[label] for example in examples], np.int32)
        return arrays

    return read, len(records)
