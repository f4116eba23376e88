"""PyTorch's arrays, by name, as the parameters of Flax's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Shape = tuple[int | None, ...]
"""A shape; `None` is any size."""


def check_arrays(arrays: Mapping[str, np.ndarray], expected: Mapping[str, Shape], what: str) -> None:
    """Checks that the arrays that a network needs are there; others are ignored.

    Raises:
      ValueError: naming what is missing or of another shape.

    >>> check_arrays({"w": np.zeros((2, 3))}, {"w": (2, None), "b": (2,)}, "a layer")
    Traceback (most recent call last):
    ValueError: These are not the weights of a layer: 1 missing (b).
    """
    missing = [name for name in expected if name not in arrays]
    wrong = [
        f"{name} has shape {arrays[name].shape}, not {_text(shape)}"
        for name, shape in expected.items()
        if name in arrays and not fits(arrays[name].shape, shape)
    ]
    problems = [f"{len(missing)} missing ({_first(missing)})"] if missing else []
    if problems or wrong:
        raise ValueError(f"These are not the weights of {what}: {'; '.join([*problems, *wrong[:3]])}.")


def fits(shape: Sequence[int], expected: Shape) -> bool:
    """Tells whether a shape is the expected one, `None` standing for any size."""
    return len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape, expected, strict=True))


def _text(shape: Shape) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def linear(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """A linear layer's or a convolution's `kernel`, and its `bias` where there is one."""
    weight = arrays[f"{name}.weight"]
    kernel = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    made = {"kernel": float32(kernel)}
    return made | ({"bias": float32(arrays[f"{name}.bias"])} if f"{name}.bias" in arrays else {})


def layer_norm(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """A layer normalisation's `scale` and `bias`."""
    return {"scale": float32(arrays[f"{name}.weight"]), "bias": float32(arrays[f"{name}.bias"])}


def float32(array: np.ndarray) -> np.ndarray:
    """The array in float32, in one piece."""
    return np.ascontiguousarray(array, dtype=np.float32)
