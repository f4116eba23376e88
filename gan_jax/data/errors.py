"""The one exception that says what is wrong with somebody's data, and those that damaged files lead readers to."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib

try:
    from lzma import LZMAError
except ImportError:  # Python without liblzma reads no such archive
    LZMAError = zipfile.BadZipFile  # type: ignore[misc, assignment]


class DataError(ValueError):
    """Data cannot be used as given. The message says what was given, what was expected and what to do."""


def check_batch_size(batch_size: int) -> None:
    """Checks that a batch has a whole number of examples, at least one.

    Raises:
      DataError: if it has not.
    """
    if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__"):
        raise DataError(f"batch_size is a whole number, got {batch_size!r}.")
    if batch_size < 1:
        raise DataError(f"batch_size is 1 or more, got {batch_size}.")


class DataTimeoutError(DataError):
    """Data did not come in time; what was asked for them may still hang in a thread."""


DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    struct.error,
    # The header of an array is a Python literal, its type whatever numpy.dtype makes of a part of it.
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    tokenize.TokenError,
    # Sizes that no array can have; archives under a password or packed in a way that is not known; deep nesting.
    OverflowError,
    MemoryError,
    RuntimeError,
)
"""What numpy's and zipfile's readers raise for damaged files: their documentation names a few of these."""
