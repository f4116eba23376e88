"""Pictures of a name that nobody has chosen: they take the place of earlier ones of ours, and of no other file."""

from __future__ import annotations

import hashlib
import os
import pathlib
import struct
import zlib

from gan_jax.files import replace_file

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = len(_SIGNATURE) + 25
"""Bytes of the signature and of the first chunk, IHDR."""
_KEYWORD = b"gan_jax\0sha256="


def write_own(path: pathlib.Path, png: bytes) -> pathlib.Path:
    """Writes a PNG under a name, or, where a file is that is not as this function wrote it, under the next.

    Args:
      path: `sheet.png`; the next are `sheet-2.png`, `sheet-3.png`, ...
      png: the file, which is written with its own digest in it.

    Returns:
      Where it is.

    Raises:
      OSError: the file system's own error; an existing file is then as it was.
    """
    chosen, number = path, 1
    while os.path.lexists(chosen) and not is_own(chosen):
        number += 1
        chosen = path.with_name(f"{path.stem}-{number}{path.suffix}")
    replace_file(chosen, png[:_HEADER] + _mark(png) + png[_HEADER:])
    return chosen


def is_own(path: pathlib.Path) -> bool:
    """Whether a file is as `write_own` wrote it: an edited one is not.

    Raises:
      OSError: if it cannot be read.
    """
    if os.path.islink(path) or not path.is_file():
        return False
    content = path.read_bytes()
    length = len(_mark(b""))
    png = content[:_HEADER] + content[_HEADER + length :]
    return content.startswith(_SIGNATURE) and content[_HEADER : _HEADER + length] == _mark(png)


def _mark(png: bytes) -> bytes:
    """A chunk of text with the digest of the other bytes."""
    chunk = b"tEXt" + _KEYWORD + hashlib.sha256(png).hexdigest().encode()
    return struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
