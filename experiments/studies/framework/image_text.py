"""Grey images as short text: what a study's JSON file keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_GREYS = "0123456789abcdefghijklmnopqrstuvwxyz"


def as_text(images: Any) -> list[str]:
    """Grey images in [-1, 1], `[N, ...]`, as a line of 36 grey levels each.

    >>> as_text([[-2.0, -1.0, 1.0, 2.0]])
    ['00zz']
    """
    flat = np.clip(np.asarray(images, np.float64), -1, 1).reshape(len(images), -1)
    levels = np.floor((flat + 1) / 2 * (len(_GREYS) - 1) + 0.5).astype(int)
    return ["".join(_GREYS[level] for level in line) for line in levels.tolist()]


def from_text(lines: Sequence[str], side: int) -> np.ndarray:
    """The images of `as_text`, `[N, side, side, 1]`, to half a grey level.

    >>> from_text(as_text([[-1.0, 1.0, 0.99, -0.99]]), 2).ravel().tolist()
    [-1.0, 1.0, 1.0, -1.0]
    """
    levels = np.array([[_GREYS.index(level) for level in line] for line in lines], np.float64)
    return (2 * levels / (len(_GREYS) - 1) - 1).reshape(-1, side, side, 1)
