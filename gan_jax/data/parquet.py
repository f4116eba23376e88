"""Image sets in parquet files, as Hugging Face's `datasets` stores them; the files are local.

A table has a column of images (structs with `bytes`, or binary) and, where images have labels, one of class
numbers, whose names are in the schema's metadata, or one of texts, which are numbered in alphabetical order.
"""

from __future__ import annotations

import functools
import io
import json
import logging
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

from gan_jax.data.encoded import EncodedImages, Open, listing, named_unlisted, unlisted
from gan_jax.data.errors import DataError
from gan_jax.data.label_files import LABEL_COLUMNS, LabelTable

IMAGE_COLUMNS = ("image", "img", "png", "jpg", "jpeg", "webp", "pixel_values")
_ROWS = 1024

_log = logging.getLogger(__name__)


class Columns(NamedTuple):
    """The columns of a table of images.

    Attributes:
      image: that of the images.
      label: that of the labels, if there is one.
      classes: the names of the classes, where labels are numbers with names.
      kind: what labels are: `numbers`, `texts` or `booleans`; empty without labels.
    """

    image: str
    label: str | None
    classes: tuple[str, ...]
    kind: str


def in_parquet(path: str | pathlib.Path, split: str = "") -> EncodedImages:
    """The images of parquet files.

    Args:
      path: a file, or a folder of files: `train-00000-of-00002.parquet`, `train/0000.parquet`.
      split: the part that the files' names or folders name; empty for `train`, or the only one.

    Raises:
      DataError: if pyarrow is not installed, there is no such split, or the files are damaged or hold no images.
    """
    root, files = _files_of(pathlib.Path(path).expanduser(), split)
    opened = {name: _open(root / name) for name in files}
    columns = _columns_of_all(opened, str(path))
    counts = {name: file.metadata.num_rows for name, file in opened.items()}
    return EncodedImages(
        where=str(path),
        chunks=functools.partial(_chunks, root, files, columns.image),
        count=sum(counts.values()),
        key={"parquet": str(root.resolve()), "files": listing(root, files), "columns": list(columns)},
        table=LabelTable(where=str(path), labels=_labels(opened, columns), classes=columns.classes),
    )


def has_parquet(folder: pathlib.Path) -> bool:
    """Whether a folder holds parquet files, in sub-folders too."""
    return any(True for _ in folder.rglob("*.parquet"))


def _files_of(path: pathlib.Path, split: str) -> tuple[pathlib.Path, list[str]]:
    """The folder, and the names in it of a split's files in order."""
    if path.is_file():
        return path.parent, [path.name]
    if not path.is_dir():
        raise DataError(f"There is no file or folder {str(path)!r}: expected parquet files of images.")
    if hidden := unlisted(path):
        raise DataError(f"{str(path)!r} has {named_unlisted(hidden)}: its files would be missing.")
    by_split: dict[str, list[str]] = {}
    for file in sorted(path.rglob("*.parquet")):
        name = file.relative_to(path).as_posix()
        if not any(part.startswith(".") for part in name.split("/")):
            by_split.setdefault(split_of(name), []).append(name)
    if not by_split:
        raise DataError(f"There are no parquet files in {str(path)!r}.")
    default = "train" if "train" in by_split else next(iter(by_split)) if len(by_split) == 1 else ""
    chosen = split or default
    if chosen not in by_split:
        raise DataError(
            f"{str(path)!r} has the splits {', '.join(sorted(by_split))}: choose one, as in {path!s}@"
            f"{min(by_split)}{f'; got {split!r}' if split else ''}."
        )
    return path, by_split[chosen]


def split_of(name: str) -> str:
    """The split that a file's name or, without one, its folder names.

    >>> split_of("data/train-00000-of-00002.parquet"), split_of("default/test/0000.parquet")
    ('train', 'test')
    """
    stem = name.rpartition("/")[2].removesuffix(".parquet")
    numbered = re.fullmatch(r"(.+?)-\d+-of-\d+(?:-[0-9a-f]+)?", stem)
    if numbered:
        return numbered[1]
    folders = name.split("/")[:-1]
    return folders[-1] if folders and re.fullmatch(r"(?:part-)?\d+", stem) else stem


def _open(path: pathlib.Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            "Parquet files are read by pyarrow, which is not installed: run `pip install pyarrow` (or install "
            "gan_jax with the extra [parquet])."
        ) from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except Exception as error:  # pyarrow raises whatever the damage leads to
        raise DataError(f"{str(path)!r} cannot be read as parquet ({_short(error)}).") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _columns_of_all(opened: dict[str, Any], where: str) -> Columns:
    """The columns of images and labels, which are the same in every file; says which one is not read as labels.

    Raises:
      DataError: if a file has others than the first one.
    """
    first, *others = opened
    columns = _columns(opened[first], where)
    for name in others:
        if (found := _columns(opened[name], where)) != columns:
            raise DataError(
                f"{where!r} holds files of different sets: {first!r} has {_described(columns)}, and {name!r} has "
                f"{_described(found)}. Keep them in folders of their own."
            )
    schema = opened[first].schema_arrow
    unread = [name for name in LABEL_COLUMNS if name in schema.names]
    if columns.label is None and unread:
        _log.warning(
            "The column %r of %r is not read as labels: it holds %s, and classes are whole numbers, texts or "
            "booleans.",
            *(unread[0], where, schema.field(unread[0]).type),
        )
    return columns


def _described(columns: Columns) -> str:
    labels = f"labels in {columns.label!r} ({columns.kind})" if columns.label else "no labels"
    classes = f" of the classes {', '.join(columns.classes[:5])}" if columns.classes else ""
    return f"images in {columns.image!r} and {labels}{classes}"


def _columns(file: Any, where: str) -> Columns:
    """Which columns hold images and labels.

    Raises:
      DataError: if none holds images.
    """
    schema = file.schema_arrow
    features = _features(schema)
    images = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    images += [field.name for field in schema if _is_image_struct(field.type)]
    images += [name for name in IMAGE_COLUMNS if name in schema.names and _is_binary(schema.field(name).type)]
    if not images:
        raise DataError(f"{where!r} has the columns {', '.join(schema.names)}, none of which holds images.")
    kinds = {name: _label_kind(schema.field(name).type) for name in schema.names}
    labels = [
        name for name, feature in features.items() if feature.get("_type") == "ClassLabel" and kinds[name]
    ]
    for kind in ("numbers", "texts", "booleans"):
        labels += [name for name in LABEL_COLUMNS if kinds.get(name) == kind]
    if not labels:
        return Columns(images[0], None, (), "")
    names = features.get(labels[0], {}).get("names") if kinds[labels[0]] == "numbers" else None
    return Columns(images[0], labels[0], tuple(map(str, names or ())), kinds[labels[0]])


def _features(schema: Any) -> dict[str, Any]:
    """What `datasets` wrote about the columns; empty where it wrote nothing that can be read."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in found.items() if name in schema.names}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _is_binary(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _label_kind(kind: Any) -> str:
    """What labels of a column's type are; empty for what is not read as labels."""
    import pyarrow

    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    if pyarrow.types.is_integer(kind):
        return "numbers"
    if pyarrow.types.is_boolean(kind):
        return "booleans"
    is_text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
    return "texts" if is_text or pyarrow.types.is_string_view(kind) else ""


def _is_image_struct(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_struct(kind) and any(
        field.name == "bytes" and _is_binary(field.type) for field in kind
    )


def _labels(opened: dict[str, Any], columns: Columns) -> dict[str, int | str]:
    """The labels by the images' names; without those that are missing, empty or -1, as of hidden test labels."""
    if columns.label is None:
        return {}
    found: dict[str, int | str] = {}
    for file_name, file in opened.items():
        try:
            values = file.read(columns=[columns.label])[columns.label].to_pylist()
        except Exception as error:
            raise DataError(f"The labels of {file_name!r} cannot be read ({_short(error)}).") from error
        found |= {
            f"{file_name}:{row}": value if isinstance(value, str) else int(value)
            for row, value in enumerate(values)
            if value is not None and (value if isinstance(value, str) else value >= 0)
        }
    return found


def _chunks(root: pathlib.Path, files: Sequence[str], column: str) -> Iterator[Sequence[tuple[str, Open]]]:
    for name in files:
        row = 0
        try:
            for batch in _open(root / name).iter_batches(batch_size=_ROWS, columns=[column]):
                values = batch.column(0).to_pylist()
                yield [
                    (f"{name}:{row + i}", functools.partial(_image, value)) for i, value in enumerate(values)
                ]
                row += len(values)
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"{str(root / name)!r} is damaged from row {row} on ({_short(error)})."
            ) from error


def _image(value: Any) -> IO[bytes]:
    encoded = value.get("bytes") if isinstance(value, dict) else value
    if encoded is None:
        raise ValueError("the row holds no bytes of an image")
    return io.BytesIO(encoded)
