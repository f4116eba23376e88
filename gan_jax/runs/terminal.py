"""Text on its way to the terminal: nothing from a file or a name controls it, and nobody need read it."""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO


def clean(text: str) -> str:
    r"""Text in which whatever does not print is written out: escape sequences, overprinting, reversed text.

    >>> print(clean("runs/\x1b[2J\rring\u202egnp.exe"))
    runs/\x1b[2J\x0dring\u202egnp.exe
    """
    return "".join(c if c.isprintable() or c in "\n\t" else _written_out(c) for c in text)


def _written_out(character: str) -> str:
    number = ord(character)
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )


def tell(text: str, stream: TextIO | None = None) -> None:
    """Prints a line to `stream`, standard output by default; a closed pipe or terminal ends no run."""
    stream = sys.stdout if stream is None else stream
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    line = clean(text).encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):
        stop_writing(stream)


def stop_writing(stream: TextIO) -> None:
    """Sends what else is written to nowhere: the interpreter would fail at it when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # a stream without a file
        return


def guard() -> None:
    """Cleans warnings, log messages and tracebacks too, which quote names and contents of files.

    A `UserWarning` is the line `warning: message`, without the place in the code.
    """
    if sys.excepthook is not _print_error:
        logging.setLogRecordFactory(_CleanRecord)
        warnings.formatwarning = functools.partial(_format_warning, warnings.formatwarning)
        sys.excepthook = _print_error


class _CleanRecord(logging.LogRecord):
    """A log record whose message is clean."""

    def getMessage(self) -> str:
        return clean(super().getMessage())


def _format_warning(
    formatted: Callable[..., str], message: Warning | str, category: type[Warning], *where: Any, **line: Any
) -> str:
    """What a user is warned of in one line, like an error; of other warnings their place matters."""
    if category is UserWarning:
        return clean(f"warning: {message}\n")
    return clean(formatted(message, category, *where, **line))


def _print_error(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    tell("".join(traceback.format_exception(kind, error, where)).rstrip("\n"), sys.stderr)
