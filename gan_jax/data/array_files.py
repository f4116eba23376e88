"""Arrays in `.npy` and `.npz` files, read by blocks of rows and never unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import pathlib
import warnings
import zipfile
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np

from gan_jax.data.errors import DAMAGED, DataError

_UNPACKED_FREELY, _MOST_PACKED = 1 << 28, 200
"""Bytes up to which an entry may be packed as closely as it will, and the largest factor beyond."""
_VERSIONS = ((1, 0), (2, 0))
"""Versions of the header; the third is for names of fields in Unicode."""


class ArrayFile(NamedTuple):
    """An array in a file.

    Attributes:
      path: the `.npy` or `.npz`.
      member: the array's name in a `.npz`; empty in a `.npy`.
      shape: `[N, ...]`.
      dtype: the numbers' type.
    """

    path: pathlib.Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yields blocks of at most `rows` rows, in order.

        Args:
          rows: the size of a block.
          start, stop: the first row, and that behind the last; all rows by default.

        Raises:
          DataError: if the file ends too soon, or is damaged otherwise.
        """
        size = self.dtype.itemsize * math.prod(self.shape[1:])
        end = self.shape[0] if stop is None else min(stop, self.shape[0])
        with _reported(self.path), _opened(self.path, self.member) as file:
            _header(file)
            file.seek(start * size, os.SEEK_CUR)
            for first in range(start, end, rows):
                number = min(rows, end - first)
                data = file.read(number * size)
                if len(data) != number * size:
                    raise EOFError(f"the file ends in row {first + len(data) // max(size, 1)}")
                yield np.frombuffer(data, self.dtype).reshape(number, *self.shape[1:])

    def read(self) -> np.ndarray:
        """The whole array."""
        return np.concatenate(list(self.blocks(max(self.shape[0], 1))) or [np.empty(self.shape, self.dtype)])


def list_arrays(path: str | pathlib.Path) -> dict[str, ArrayFile]:
    """The arrays of a `.npy` (under the empty name) or `.npz` file, without their numbers.

    Raises:
      DataError: if there is no such file, it is damaged, or an array holds Python objects or is stored by columns.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"There is no file {str(file)!r}: expected arrays as .npy or .npz.")
    with _reported(file):
        if file.suffix == ".npy":
            members = [""]
        else:
            check_packing(file)
            with zipfile.ZipFile(file) as archive:
                members = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        found = {}
        for member in members:
            with _opened(file, member) as opened:
                found[member] = ArrayFile(file, member, *_header(opened))
        return found


def check_packing(path: pathlib.Path) -> None:
    """Checks that an archive is not much larger than its file says: a few megabytes of zeros fill any memory.

    Raises:
      ValueError: naming the entry, or if entries share bytes.
      OSError, zipfile.BadZipFile: if it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    for entry in entries:
        if entry.file_size > max(_UNPACKED_FREELY, _MOST_PACKED * entry.compress_size):
            raise ValueError(
                f"{entry.filename} unpacks from {entry.compress_size} to {entry.file_size} bytes: where you trust "
                "it, save it unpacked, numpy.savez"
            )
    if sum(entry.compress_size for entry in entries) > path.stat().st_size:
        raise ValueError("its entries overlap")


def file_digest(path: pathlib.Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _opened(path: pathlib.Path, member: str) -> Iterator[IO[bytes]]:
    if not member:
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
        yield file


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and the dtype of the array that begins here; the file then stands at its first number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers written by Python 2
        version = np.lib.format.read_magic(file)
        if version not in _VERSIONS:
            raise ValueError(f"an array of format {version[0]}.{version[1]}, which holds no numbers")
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, by_columns, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which are not read since they can run code")
    if by_columns and len(shape) > 1:
        raise ValueError("an array stored by columns: save np.ascontiguousarray of it")
    if any(side < 0 for side in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, dtype


@contextlib.contextmanager
def _reported(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{str(path)!r} cannot be read: {error}. It is damaged or cut short: copy or write it again."
        ) from error
    except DAMAGED as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}.") from error
