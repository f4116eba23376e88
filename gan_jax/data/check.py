"""What a set of images holds, to be read before an hour is spent on it.

    python -m gan_jax.data.check path/to/images
    python -m gan_jax.data.check path/to/images.zip --size=64 --sheet=sheet.png
    python -m gan_jax.data.check digits

It counts the images, their sizes, modes and classes, names what cannot be read and what is there twice, and draws
some of every class as they would be trained on. The exit status is 1 if something was found that is likely to be a
mistake.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import io
import itertools
import logging
import pathlib
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gan_jax.data.arrays import encode
from gan_jax.data.conversion import is_transparent, quiet
from gan_jax.data.encoded import EncodedImages, printable
from gan_jax.data.errors import DataError
from gan_jax.data.images import Dataset, without_ours
from gan_jax.data.label_files import are_splits
from gan_jax.data.specs import FOLDER_SIZE, has_files, load_dataset, open_files
from gan_jax.files import reason, replace_file
from gan_jax.own_pictures import write_own

SHEET = "contact_sheet.png"
"""The contact sheet where no other name is given, in the current folder."""
LISTED = 10
"""How many names a list shows."""
PER_CLASS, MOST_CLASSES, GAP = 10, 20, 2
"""Columns and rows of the contact sheet, and the pixels between images."""
FEW = 0.1
"""A class with less than this share of the largest one's images is said to be rare."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What was found.

    Attributes:
      lines: of text, for a terminal.
      warnings: those of them that are likely to be mistakes.
      dataset: the images as they would be trained on.
    """

    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    dataset: Dataset


def check(spec: str, **options: Any) -> Report:
    """Reads everything that `spec` names, and says what it is.

    Args:
      spec: as in `load_dataset`.
      **options: those of `load_dataset`.

    Raises:
      DataError: if nothing can be read.

    >>> check("digits").lines[0]
    '1,797 images of 8 x 8 x 1, uint8 in [0, 255]'
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _unlogged():
            found = load_dataset(spec, **options)
    files = without_ours(open_files(spec, options.get("label_file", ""))) if has_files(spec) else None
    troubles = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    stored, stored_troubles = _stored(files, options) if files is not None else ([], [])
    classes, class_troubles = _classes(found)
    troubles += [*_unread(found), *stored_troubles, *class_troubles, *_repeated(found), *_plain(found)]
    lines = [_first_line(found), *stored, *classes, *(f"warning: {trouble}" for trouble in troubles)]
    return Report(lines=tuple(lines), warnings=tuple(troubles), dataset=found)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps what is skipped out of the log: it is one of the report's warnings."""
    logger = logging.getLogger("gan_jax.data.images")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def contact_sheet(found: Dataset) -> np.ndarray:
    """Some images of every class, a class a row; uint8 `[H, W, 3]`.

    Raises:
      DataError: if the examples are no images.

    >>> contact_sheet(load_dataset("digits")).shape  # ten digits in ten rows, each six times as large
    (500, 500, 3)
    """
    x, y = found.arrays["x"], found.arrays.get("y")
    if x.ndim != 4:
        raise DataError(f"A contact sheet shows images [N, H, W, C]; the examples are {x.shape[1:]}.")
    rows: list[np.ndarray] = []
    for label in np.unique(y)[:MOST_CLASSES] if y is not None else [None]:
        of_class = np.flatnonzero(y == label) if y is not None else np.arange(len(x))
        count = PER_CLASS if y is not None else PER_CLASS**2
        chosen = of_class[np.linspace(0, len(of_class) - 1, min(count, len(of_class))).astype(int)]
        rows += [chosen[start : start + PER_CLASS] for start in range(0, len(chosen), PER_CLASS)]
    scale = max(1, 48 // x.shape[1])
    height, width = scale * x.shape[1] + GAP, scale * x.shape[2] + GAP
    sheet = np.full((len(rows) * height, PER_CLASS * width, 3), 255, np.uint8)
    for row, numbers in enumerate(rows):
        for column, number in enumerate(numbers):
            tile = _as_rgb(x[number]).repeat(scale, axis=0).repeat(scale, axis=1)
            top, left = row * height, column * width
            sheet[top : top + len(tile), left : left + tile.shape[1]] = tile
    return sheet


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """One image as it is shown: uint8 `[H, W, 3]`, transparency on white, of more channels the first three."""
    pixels = image if image.dtype == np.uint8 else encode(image)
    channels = pixels.shape[2]
    if channels in (2, 4):
        opacity = pixels[..., -1:] / 255
        pixels = np.round(opacity * pixels[..., :-1] + (1 - opacity) * 255).astype(np.uint8)
    return np.broadcast_to(pixels[..., :1], (*pixels.shape[:2], 3)) if channels < 3 else pixels[..., :3]


def _first_line(found: Dataset) -> str:
    x = found.arrays["x"]
    what = "images" if x.ndim == 4 else "examples"
    shape = " x ".join(map(str, x.shape[1:]))
    return f"{len(x):,} {what} of {shape}, {x.dtype} in [{x.min():g}, {x.max():g}]"


def _stored(files: EncodedImages, options: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The sizes and modes of encoded images as they are stored, by their headers; and what is odd about them."""
    from PIL import Image

    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    kinds: collections.Counter[str] = collections.Counter()
    transparent = 0
    with quiet():
        for chunk in files.chunks():
            for _, opener in chunk:
                try:
                    with Image.open(opener()) as image:
                        sizes[image.size] += 1
                        kinds[f"{image.format} {image.mode}"] += 1
                    transparent += is_transparent(opener())
                except Exception:  # named with its reason where it is read
                    continue
    if not sizes:
        return [], []
    widths, heights = zip(*sizes, strict=True)
    common = ", ".join(f"{w} x {h} ({n:,})" for (w, h), n in sizes.most_common(3))
    lines = [
        f"stored {min(widths)} to {max(widths)} pixels wide and {min(heights)} to {max(heights)} high, most often "
        f"(width x height) {common}",
        "formats and modes: " + ", ".join(f"{kind} ({n:,})" for kind, n in kinds.most_common()),
    ]
    troubles = []
    size = options.get("size") or FOLDER_SIZE
    high, wide = (size, size) if isinstance(size, int) else size
    smaller = sum(n for (w, h), n in sizes.items() if w < wide or h < high)
    if smaller:
        troubles.append(f"{smaller:,} images are smaller than the {high} x {wide} that they are enlarged to")
    cropped = sum(n for (w, h), n in sizes.items() if max(w * high / (h * wide), h * wide / (w * high)) > 1.5)
    if cropped:
        troubles.append(
            f"{cropped:,} images lose more than a third of their pixels where they are cropped to {high} x {wide}"
        )
    if transparent and options.get("channels") not in (2, 4):
        lines.append(
            f"{transparent:,} images are transparent and laid on white; channels=4 keeps transparency"
        )
    return lines, troubles


def _unread(found: Dataset) -> list[str]:
    if not found.skipped:
        return []
    first = itertools.islice(found.skipped.items(), LISTED)
    listed = "; ".join(f"{printable(name)}: {why}" for name, why in first)
    more = "; ..." if len(found.skipped) > LISTED else ""
    count = len(found.skipped)
    return [f"{count:,} {'file was' if count == 1 else 'files were'} not read: {listed}{more}"]


def _classes(found: Dataset) -> tuple[list[str], list[str]]:
    """How many images each class has, and which are rare or empty."""
    y = found.arrays.get("y")
    if y is None:
        return ["no labels"], []
    labels, counts = np.unique(y, return_counts=True)
    by_label = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    known = range(len(found.classes)) if found.classes else by_label

    def called(label: int) -> str:
        return found.classes[label] if label < len(found.classes) else str(label)

    shown = sorted({*known, *by_label})
    listed = ", ".join(f"{called(label)} ({by_label.get(label, 0):,})" for label in shown[:50])
    lines = [
        f"{len(shown)} class{'es' if len(shown) > 1 else ''}: {listed}{', ...' if len(shown) > 50 else ''}"
    ]
    rare = [called(label) for label in shown if by_label.get(label, 0) < FEW * max(counts)]
    troubles = []
    if len(shown) == 1:
        troubles.append(
            f"all images are of one class, {called(shown[0])}; where folders are classes, leave out one that is "
            "around them all"
        )
    if are_splits(found.classes):
        troubles.append(
            f"the classes are parts of a data set, {', '.join(found.classes)}: to read one of them, give its path"
        )
    if rare:
        troubles.append(
            f"{len(rare)} classes have less than {FEW:.0%} of the images of the largest: "
            f"{', '.join(rare[:LISTED])}{', ...' if len(rare) > LISTED else ''}"
        )
    if int(labels.max()) + 1 > 2 * len(labels):
        troubles.append(
            f"labels go up to {labels.max()} and only {len(labels)} of these numbers are in use: a conditional "
            "network has a class for each"
        )
    return lines, troubles


def _repeated(found: Dataset) -> list[str]:
    """Images that are there more than once, as they are trained on."""
    x = found.arrays["x"]
    places: dict[bytes, list[int]] = {}
    for number, image in enumerate(x):
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        places.setdefault(digest, []).append(number)
    repeated = [numbers for numbers in places.values() if len(numbers) > 1]
    if not repeated:
        return []

    def called(number: int) -> str:
        return printable(found.names[number]) if found.names else str(number)

    extra = sum(len(numbers) - 1 for numbers in repeated)
    listed = "; ".join(" = ".join(map(called, numbers[:3])) for numbers in repeated[:LISTED])
    troubles = [
        f"{extra:,} images are there again: {listed}{'; ...' if len(repeated) > LISTED else ''}",
    ]
    y = found.arrays.get("y")
    if y is not None and (mixed := sum(len(set(y[numbers].tolist())) > 1 for numbers in repeated)):
        troubles.append(f"{mixed:,} images are there with different labels")
    return troubles


def _plain(found: Dataset) -> list[str]:
    """Images of one colour, and images that are in fact grey."""
    x = found.arrays["x"]
    if x.ndim != 4:
        return []
    plain = int(np.sum((x.min((1, 2)) == x.max((1, 2))).all(-1)))
    troubles = [f"{plain:,} images have one colour everywhere"] if plain else []
    if x.shape[3] == 3 and (x[..., :1] == x).all():
        troubles.append("all images are grey, in three channels: channels=1 is three times smaller")
    return troubles


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 with warnings, 2 if nothing can be read."""
    parser = argparse.ArgumentParser(
        prog="python -m gan_jax.data.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", help="what --config.data names: a folder, a .zip, a .npz, tfds:NAME, ...")
    parser.add_argument("--size", help="the side, or HEIGHT,WIDTH, that image files are resized to")
    parser.add_argument("--channels", type=int, help="1, 3, or with transparency 2 or 4")
    parser.add_argument("--label-file", default="", help="a CSV file of labels, FILE.csv or FILE.csv:COLUMN")
    parser.add_argument(
        "--sheet",
        help=f"the picture to write; empty for none; {SHEET} by default, or contact_sheet-2.png beside another",
    )
    given = parser.parse_args(arguments)
    try:
        options: dict[str, Any] = {"channels": given.channels, "label_file": given.label_file}
        if given.size:
            options["size"] = _size(given.size)
        report = check(given.data, **options)
        for line in report.lines:
            print(printable(line))
        sheet = SHEET if given.sheet is None else given.sheet
        if sheet and _is_inside(sheet, given.data):
            print(
                printable(
                    f"no sheet is written: {sheet} would be one of the images; --sheet=FILE names another"
                )
            )
        elif sheet and report.dataset.arrays["x"].ndim == 4:
            written = _write_sheet(pathlib.Path(sheet), report.dataset, named=given.sheet is not None)
            print(printable(f"some of every class, a class a row: {written}"))
    except (DataError, OSError) as error:
        print(printable(f"python -m gan_jax.data.check: {error}"), file=sys.stderr)
        return 2
    return 1 if report.warnings else 0


def _size(text: str) -> int | tuple[int, int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) != 2:
        raise DataError(f"--size is a number or HEIGHT,WIDTH, got {text!r}.")
    return numbers[0], numbers[1]


def _is_inside(sheet: str, spec: str) -> bool:
    """Whether a sheet would lie in the folder that a spec names, among what is read of it."""
    folder = pathlib.Path(re.sub(r"^((pairs|stacked|edges|masks):)+", "", spec)).expanduser()
    return folder.is_dir() and pathlib.Path(sheet).resolve().is_relative_to(folder.resolve())


def _write_sheet(path: pathlib.Path, found: Dataset, *, named: bool = True) -> pathlib.Path:
    """Writes the sheet; one whose name is not given replaces no picture of somebody else. Where it is."""
    from PIL import Image

    if named and _is_no_picture(path):
        raise DataError(f"--sheet={path} is there and no PNG: name another file for the sheet.")
    sheet, drawn = contact_sheet(found), io.BytesIO()
    Image.fromarray(sheet).save(drawn, "PNG")
    try:
        if not named:
            return write_own(path, sheet)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, drawn.getvalue())
        return path
    except OSError as error:
        raise DataError(f"--sheet={path} cannot be written: {reason(error)}.") from error


def _is_no_picture(path: pathlib.Path) -> bool:
    """Whether a path is a file of another kind than a sheet: the very images, say, or their labels."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8) not in (b"", b"\x89PNG\r\n\x1a\n")


if __name__ == "__main__":
    sys.exit(main())
