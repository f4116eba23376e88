"""Animations of pictures: GIF by Pillow, MP4 by ffmpeg where it is installed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np
from PIL import Image

from gan_jax.pictures.grids import Picture, check_picture


def to_gif(pictures: Sequence[Picture], *, milliseconds: int = 60) -> bytes:
    """Encodes pictures of one size as a GIF that repeats for ever.

    Args:
      pictures: uint8 `[H, W, C]`, C 1 or 3, at least one.
      milliseconds: how long each is shown; GIF knows hundredths of a second.

    Raises:
      ValueError: if there is none, or they are of different shapes or not uint8.

    >>> to_gif([np.zeros((4, 4, 1), np.uint8), np.full((4, 4, 1), 255, np.uint8)])[:6]
    b'GIF89a'
    """
    frames = _frames(pictures)
    images = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    return file.getvalue()


def to_mp4(pictures: Sequence[Picture], *, milliseconds: int = 60) -> bytes | None:
    """Encodes pictures of one size as an MP4 of H.264; `None` where no `ffmpeg` is on the path.

    Args:
      pictures: uint8 `[H, W, C]`, C 1 or 3; an odd height or width is made even by a white line.
      milliseconds: how long each is shown.

    Raises:
      ValueError: if there is none, or they are of different shapes or not uint8.
      OSError: if ffmpeg fails.
    """
    frames = _frames(pictures)
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    height, width = frames.shape[1:3]
    colours = np.broadcast_to(frames, (*frames.shape[:3], 3))
    even = np.pad(colours, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=255)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "animation.mp4")
        command = [
            *(program, "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
            *("-s", f"{even.shape[2]}x{even.shape[1]}", "-r", f"1000/{milliseconds}", "-i", "-"),
            *("-an", "-pix_fmt", "yuv420p", "-y", path),
        ]
        done = subprocess.run(command, input=even.tobytes(), stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise OSError(f"ffmpeg failed: {done.stderr.decode(errors='replace').strip()[:200]}")
        with open(path, "rb") as file:
            return file.read()


def _frames(pictures: Sequence[Picture]) -> np.ndarray:
    shapes = {np.shape(picture) for picture in pictures}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 3 or shape[2] not in (1, 3):
        raise ValueError(
            f"An animation is of pictures [H, W, C] of one shape, C 1 or 3; got {sorted(shapes)}."
        )
    for picture in pictures:
        check_picture(picture)
    return np.stack([np.asarray(picture) for picture in pictures])
