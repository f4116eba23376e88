"""Grey images and surfaces as short text: what a study's JSON file keeps of them."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
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


def packed(values: Any) -> dict[str, Any]:
    """An array's shape, least and largest value, and its values as compressed text of 4,096 levels between them.

    >>> packed([[0.0, 1.0]])["shape"]
    [1, 2]
    """
    array = np.asarray(values, np.float64)
    low, high = float(array.min()), float(array.max())
    levels = np.rint((array - low) / ((high - low) or 1.0) * 4095).astype("<u2")
    text = base64.b85encode(zlib.compress(levels.tobytes(), 9)).decode()
    return {"shape": list(array.shape), "low": low, "high": high, "levels": text}


def unpacked(stored: Mapping[str, Any]) -> np.ndarray:
    """The array of `packed`, to half a level.

    >>> (unpacked(packed([[0.0, 1.0], [-3.0, 0.5]])).round(2) + 0.0).tolist()
    [[0.0, 1.0], [-3.0, 0.5]]
    """
    levels = np.frombuffer(zlib.decompress(base64.b85decode(stored["levels"])), "<u2").astype(np.float64)
    return (stored["low"] + levels / 4095 * (stored["high"] - stored["low"])).reshape(stored["shape"])
