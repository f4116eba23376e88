"""Labels of images in a file: `dataset.json` of the StyleGAN tools, or a CSV file of names and labels."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import pathlib
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gan_jax.data.errors import DataError

NAMES = ("dataset.json", "labels.csv")
"""Files of labels at the top of a folder or an archive; the first that is there is read."""
FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_id", "path", "name")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "y", "target")


_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"})


def are_splits(classes: Sequence[str]) -> bool:
    """Whether folders that are taken for classes are parts of a data set.

    >>> are_splits(("test", "train", "val")), are_splits(("cat", "test"))
    (True, False)
    """
    return len(classes) > 1 and {name.lower() for name in classes} <= _SPLITS


MOST_LABELS = 2**31
"""Labels are 32 bits wide."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The labels of images by their names.

    Attributes:
      where: the file, for messages.
      labels: by name, all numbers or all texts; empty where the file says that there are none. A name in Unicode's
        composed form stands for the others too: macOS writes accents of files' names as characters of their own.
      classes: the names of the classes, if the file has them; label k is `classes[k]`.
      digest: identifies the content, for the cache.
    """

    where: str
    labels: Mapping[str, int | str]
    classes: tuple[str, ...] = ()
    digest: str = ""

    def __contains__(self, name: str) -> bool:
        """Whether an image of this name has a label."""
        return name in self.labels or _composed(name) in self.labels

    def numbered(self, names: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray] | None:
        """The classes and the labels `[N]` int32 of these images, all of which have one; `None` without labels.

        Numbers are kept, texts are numbered in alphabetical order over the whole file.

        Raises:
          DataError: if a number is above 2^31 - 1, or of a class that `classes` does not name.

        >>> LabelTable(where="a.csv", labels={"x.png": "dress", "y.png": "boot"}).numbered(["x.png"])
        (('boot', 'dress'), array([1], dtype=int32))
        """
        if not self.labels:
            return None
        found = [self.labels[name if name in self.labels else _composed(name)] for name in names]
        if all(isinstance(label, int) for label in self.labels.values()):
            most = max(map(int, self.labels.values()))
            if most >= MOST_LABELS:
                raise DataError(
                    f"{self.where!r} has the label {most}: class numbers are below 2^31. Number the classes from 0."
                )
            check_classes(self.classes, most, self.where)
            return self.classes, np.array(found, np.int32)
        classes = tuple(sorted({str(label) for label in self.labels.values()}))
        place = {label: number for number, label in enumerate(classes)}
        return classes, np.array([place[str(label)] for label in found], np.int32)


def check_classes(classes: Sequence[str], most: int, where: str) -> None:
    """Checks that the names of classes, where there are any, reach to the largest label.

    Raises:
      DataError: if labels are of classes without a name.

    >>> check_classes(("cat", "dog"), 1, "a.npz")
    """
    if classes and most >= len(classes):
        raise DataError(
            f"{where!r} names {len(classes)} classes, and its labels go up to {most}: name them all, 0 to {most}, "
            "or none."
        )


def read_label_file(path: str, read: Callable[[], bytes] | None = None) -> LabelTable:
    """The labels in a file.

    Args:
      path: of the file; of a CSV file with several columns, `FILE:COLUMN` names that of the labels.
      read: gives its content, where it is not on disk.

    Raises:
      DataError: if it cannot be read, or has no labels of images as they are expected.
    """
    name, column = path, ""
    if not path.endswith((".csv", ".json")) and ".csv:" in path:
        name, _, column = path.rpartition(":")
    try:
        content = read() if read is not None else pathlib.Path(name).expanduser().read_bytes()
        text = content.decode("utf-8-sig")
    except Exception as error:  # an archive's readers raise whatever the damage leads to
        raise DataError(f"The file of labels {name!r} cannot be read: {error}.") from error
    digest = hashlib.sha256(content + column.encode()).hexdigest()
    labels = _from_json(text, name) if name.endswith(".json") else _from_csv(text, name, column)
    return LabelTable(where=name, labels=labels, digest=digest)


def _from_json(text: str, where: str) -> dict[str, int | str]:
    """`{"labels": [["00000/img00000000.png", 6], ...]}`, or `"labels": null`."""
    expected = f'{where!r} is expected to hold {{"labels": [["FILE", NUMBER], ...]}}'
    try:
        content = json.loads(text)
        listed = content["labels"]
        pairs = listed.items() if isinstance(listed, dict) else listed or []
        labels: dict[str, int | str] = {}
        for name, label in pairs:
            if (known := labels.setdefault(_composed(str(name)), _whole(label))) != _whole(label):
                raise ValueError(f"{name!r} has two labels, {known} and {_whole(label)}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{expected}, one whole number an image: {error}.") from error
    return labels


def _composed(name: str) -> str:
    """A name in Unicode's form NFC: an accent and its letter are one character."""
    return unicodedata.normalize("NFC", name)


def _whole(label: Any) -> int:
    if isinstance(label, list) and sorted(label) == [0] * (len(label) - 1) + [1]:
        return label.index(1)
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < MOST_LABELS:
        raise ValueError(f"{label!r} is no class number (from 0 on, or a one-hot list)")
    return label


def _from_csv(text: str, where: str, column: str) -> dict[str, int | str]:
    """Rows of a file's name and its label, under a header that names the columns."""
    if ";" in (first := text.lstrip().partition("\n")[0]) and "," not in first:
        raise DataError(
            f"{where!r} separates its columns by semicolons: write commas, as pandas does of "
            "pandas.read_csv(FILE, sep=';').to_csv(FILE, index=False)."
        )
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise DataError(f"{where!r} cannot be read as CSV: {error}.") from error
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise DataError(f"{where!r} has no labels: expected a header `file,label` and a row for every image.")
    header = [name.strip().lower() for name in rows[0]]
    file_column = _column(header, FILE_COLUMNS, "", where)
    label_column = _column(header, LABEL_COLUMNS, column, where)
    if max(header.count(header[file_column]), header.count(header[label_column])) > 1:
        raise DataError(
            f"{where!r} has two columns of one name, whatever its capitals ({', '.join(rows[0])}), and either may "
            "be meant: rename one."
        )
    found: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise DataError(f"{where!r} has {len(row)} values in row {number}, {len(header)} in its header.")
        name, label = _composed(row[file_column].strip()), row[label_column].strip()
        if not label:
            raise DataError(f"{where!r} has no label in row {number}, for {name!r}.")
        if found.get(name, label) != label:
            raise DataError(f"{where!r} has two labels for {name!r}, {found[name]!r} and {label!r}.")
        found[name] = label
    if odd := _odd_number(list(found.values())):
        raise DataError(
            f"{where!r} has class numbers such as {odd!r} in the column {header[label_column]!r}; as names 10 "
            f"comes before 2: write whole numbers from 0 to {MOST_LABELS - 1:,}, as pandas does of "
            "frame[column].astype(int), or names."
        )
    if all(label.isdecimal() and int(label) < MOST_LABELS for label in found.values()):
        return {name: int(label) for name, label in found.items()}
    return dict(found)


def _odd_number(labels: Sequence[str]) -> str:
    """The first of labels that are all whole numbers which is written as a float, negative or too large, if any is.

    >>> _odd_number(["0", "10.0"]), _odd_number(["-1", "0"]), _odd_number(["0", "10"]), _odd_number(["1.0", "1.5"])
    ('10.0', '-1', '', '')
    """
    if not all(re.fullmatch(r"[+-]?\d+(\.0*)?", label) for label in labels):
        return ""
    return next((label for label in labels if not (label.isdecimal() and float(label) < MOST_LABELS)), "")


def _column(header: Sequence[str], usual: Sequence[str], chosen: str, where: str) -> int:
    if chosen:
        if chosen.lower() not in header:
            raise DataError(f"{where!r} has no column {chosen!r}: choose one of {', '.join(header)}.")
        return header.index(chosen.lower())
    for name in usual:
        if name in header:
            return header.index(name)
    raise DataError(
        f"{where!r} has the columns {', '.join(header)}, none of which is {', '.join(usual)}: rename one"
        f"{', or choose it: FILE.csv:COLUMN' if usual is LABEL_COLUMNS else ''}."
    )
