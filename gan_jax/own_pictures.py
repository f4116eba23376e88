"""Pictures of a name that nobody has chosen: they take the place of earlier ones of ours, and of no other file."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gan_jax.files import replace_file

_KEYWORD = "gan_jax sha256"


def write_own(path: pathlib.Path, picture: np.ndarray) -> pathlib.Path:
    """Writes a PNG under a name, or, where a file is that is not as this function wrote it, under the next.

    Args:
      path: `sheet.png`; the next are `sheet-2.png`, `sheet-3.png`, ...
      picture: uint8 `[H, W, 3]`; the digest of its pixels is written into the file.

    Returns:
      Where it is.

    Raises:
      OSError: the file system's own error; an existing file is then as it was.
    """
    chosen, number = path, 1
    while os.path.lexists(chosen) and not is_own(chosen):
        number += 1
        chosen = path.with_name(f"{path.stem}-{number}{path.suffix}")
    image, about, file = Image.fromarray(picture), PngInfo(), io.BytesIO()
    about.add_text(_KEYWORD, _digest(image))
    image.save(file, "PNG", pnginfo=about)
    replace_file(chosen, file.getvalue())
    return chosen


def is_own(path: pathlib.Path) -> bool:
    """Whether a file is a PNG with the pixels that `write_own` wrote: an edited one is not."""
    if os.path.islink(path) or not path.is_file():
        return False
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return bool(image.info.get(_KEYWORD) == _digest(image))
    except Exception:  # Pillow raises anything for a file that is damaged or no picture
        return False


def _digest(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()
