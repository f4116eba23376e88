"""Walks between latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

_PARALLEL = 1e-6


def linear(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """`steps` points `[steps, ...]` from `start` to `end` on a line, both included.

    >>> linear(np.array([0.0, 2.0]), np.array([1.0, 0.0]), 3).tolist()
    [[0.0, 2.0], [0.5, 1.0], [1.0, 0.0]]
    """
    t = np.linspace(0.0, 1.0, steps).reshape(-1, *[1] * start.ndim)
    return ((1 - t) * start + t * end).astype(start.dtype)


def spherical(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """`steps` points `[steps, ...]` from `start` to `end` on a great arc, both included.

    Points between two Gaussian latents of many dimensions have their typical norm, where a line passes nearer to
    zero than latents lie. Where the two have the same direction, or opposite ones, it is the line.

    References:
      Shoemake, Animating rotation with quaternion curves, 1985; White, Sampling generative networks, 2016
      (arXiv:1609.04468), section 2.1.

    >>> spherical(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 3).round(3).tolist()
    [[1.0, 0.0], [0.707, 0.707], [0.0, 1.0]]
    """
    norms = np.linalg.norm(start) * np.linalg.norm(end)
    angle = np.arccos(np.clip(np.vdot(start, end) / norms, -1.0, 1.0)) if norms > 0 else 0.0
    if np.sin(angle) < _PARALLEL:
        return linear(start, end, steps)
    t = np.linspace(0.0, 1.0, steps).reshape(-1, *[1] * start.ndim)
    return ((np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle)).astype(start.dtype)


WALKS: Mapping[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "spherical": spherical,
    "linear": linear,
}
