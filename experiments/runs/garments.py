"""Colour images of 64 x 64 pixels: Fashion-MNIST's garments, dyed, before a background of two colours.

They stand for the folder of a few thousand images that somebody trains on, where there is no network to fetch one
from. Each image has a hue, a saturation and a background of its own, so that a critic can learn 3,000 of them by
heart.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.colors import hsv_to_rgb
from PIL import Image

from gan_jax.data import load

SIDE = 64
COUNT = 3000
CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)
FROM = 0.1
"""The share of white from which a pixel of a garment covers the background."""


def write(folder: pathlib.Path, held_back: pathlib.Path) -> None:
    """Writes 3,000 garments of the training images as PNG files in a folder for each class, and 3,000 of the test.

    What is there of them stays.

    Args:
      folder: of the training images.
      held_back: the `.npz` file of the others, `x` uint8 `[3000, 64, 64, 3]` and `y`.

    Raises:
      SystemExit: if other files are there, which would be replaced or taken for garments.
    """
    arrays = load("tfds:fashion_mnist")
    images = zip(dyed(arrays["x"][:COUNT], 0), arrays["y"][:COUNT], strict=True)
    garments = {
        folder / CLASSES[label] / f"{place:04d}.png": image for place, (image, label) in enumerate(images)
    }
    arrays = load("tfds:fashion_mnist@test")
    others = {"x": dyed(arrays["x"][:COUNT], 1), "y": np.asarray(arrays["y"][:COUNT])}
    there = {path for path in folder.rglob("*") if not path.is_dir()}
    _refuse(path for path in sorted(there) if path not in garments or not _is_image(path, garments[path]))
    _refuse([held_back] if held_back.exists() and not _has_arrays(held_back, others) else [])
    for path, image in garments.items():
        if path not in there:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    if not held_back.exists():
        np.savez_compressed(held_back, x=others["x"], y=others["y"])


def _refuse(paths: Iterable[pathlib.Path]) -> None:
    for path in paths:
        raise SystemExit(f"{path} is there, and not a garment that this command has written: move it.")


def _is_image(path: pathlib.Path, image: np.ndarray) -> bool:
    with contextlib.suppress(Exception), Image.open(path) as stored:  # a file of another kind raises anything
        return np.array_equal(np.asarray(stored), image)
    return False


def _has_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> bool:
    with contextlib.suppress(Exception), np.load(path, allow_pickle=False) as stored:
        return sorted(stored.files) == sorted(arrays) and all(
            np.array_equal(stored[name], array) for name, array in arrays.items()
        )
    return False


def dyed(images: np.ndarray, seed: int) -> np.ndarray:
    """Grey images as coloured ones.

    Args:
      images: uint8 `[N, H, W, 1]`, black where there is no garment.
      seed: of the colours.

    Returns:
      uint8 `[N, 64, 64, 3]`.

    >>> dyed(np.zeros((2, 28, 28, 1), np.uint8), 0).shape
    (2, 64, 64, 3)
    """
    rng = np.random.default_rng(seed)
    return np.stack([_dyed(np.asarray(image)[..., 0], rng) for image in images])


def _dyed(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    large = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) / 255
    hue, top, bottom = rng.uniform(size=3)
    garment = hsv_to_rgb((hue, rng.uniform(0.3, 0.9), 1.0)) * large[..., None]
    down = np.linspace(0.0, 1.0, SIDE, dtype=np.float32)[:, None, None]
    background = (1 - down) * hsv_to_rgb((top, 0.3, 0.95)) + down * hsv_to_rgb((bottom, 0.3, 0.75))
    cover = np.clip(large / FROM, 0.0, 1.0)[..., None]
    return np.rint(255 * (cover * garment + (1 - cover) * background)).astype(np.uint8)
