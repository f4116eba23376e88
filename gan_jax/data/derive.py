"""Data made of other data: label splits, stacked digits, edges and masks for pairs.

All work on arrays as the loaders return them: `x [N, H, W, C]` uint8, `y [N]` int32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gan_jax.data.errors import DataError

Arrays = Mapping[str, np.ndarray]


def split_labelled(
    arrays: Arrays, per_class: int, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """`per_class` labelled examples of every class, and all others without their labels.

    Returns:
      `(labelled {x, y}, unlabelled {x})`; both keep the order of the data.

    Raises:
      DataError: if there are no labels, or a class has fewer examples.

    >>> data = {"x": np.arange(6)[:, None], "y": np.array([0, 0, 0, 1, 1, 1])}
    >>> labelled, unlabelled = split_labelled(data, per_class=1)
    >>> labelled["y"].tolist(), len(unlabelled["x"]), sorted(unlabelled)
    ([0, 1], 4, ['x'])
    """
    if "y" not in arrays:
        raise DataError(
            f"Labelled examples are chosen by class, but the data have no 'y', only {sorted(arrays)}."
        )
    draw = np.random.default_rng([seed, 0])
    chosen = []
    for label in np.unique(arrays["y"]):
        rows = np.flatnonzero(arrays["y"] == label)
        if not 1 <= per_class <= len(rows):
            raise DataError(
                f"{per_class} labelled examples of every class were asked for; class {label} has {len(rows)}: "
                f"take 1 to {len(rows)}."
            )
        chosen.append(draw.choice(rows, per_class, replace=False))
    picked = np.sort(np.concatenate(chosen))
    rest = np.setdiff1d(np.arange(len(arrays["y"])), picked)
    labelled = {name: array[picked] for name, array in arrays.items()}
    return labelled, {name: array[rest] for name, array in arrays.items() if name != "y"}


def split_off(
    arrays: Arrays, count: int, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Holds `count` examples back, chosen at random: `(the rest, held back)`, in the order of the data.

    Raises:
      DataError: if nothing would be left on a side.
    """
    size = len(arrays["x"])
    if not 1 <= count < size:
        raise DataError(f"{count} of {size} examples cannot be held back: take 1 to {size - 1}.")
    held = np.zeros(size, bool)
    held[np.random.default_rng([seed, 1]).choice(size, count, replace=False)] = True
    return {n: a[~held] for n, a in arrays.items()}, {n: a[held] for n, a in arrays.items()}


def stack_digits(arrays: Arrays, count: int = 25_600, seed: int = 0) -> dict[str, np.ndarray]:
    """Stacked digits: three grey digits drawn at random are the colours of one image, 1,000 modes in all.

    Args:
      arrays: `x [N, H, W, 1]` and digits `y [N]`, 0 to 9.
      count: how many to make.
      seed: of the draws.

    Returns:
      `x [count, H, W, 3]`, and the number that red, green and blue spell, `y [count]`, 0 to 999.

    Raises:
      DataError: if the data are not grey images with ten labels.

    References:
      Metz et al., Unrolled Generative Adversarial Networks, 2017, section 3.3.1.

    >>> digits = {"x": np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), "y": np.arange(10)}
    >>> stacked = stack_digits(digits, count=4)
    >>> bool((stacked["x"][:, 0, 0] @ [100, 10, 1] == stacked["y"]).all())
    True
    """
    x, y = arrays["x"], arrays.get("y")
    if x.ndim != 4 or x.shape[-1] != 1 or y is None or not np.isin(y, np.arange(10)).all():
        raise DataError(
            f"Stacked digits are made of grey images [N, H, W, 1] with labels 0 to 9; got x {x.shape} and "
            f"{'no labels' if y is None else f'labels {np.unique(y)[:12].tolist()}'}."
        )
    drawn = np.random.default_rng([seed, 2]).integers(len(x), size=(count, 3))
    return {
        "x": np.concatenate([x[drawn[:, k]] for k in range(3)], axis=-1),
        "y": (y[drawn] @ [100, 10, 1]).astype(np.int32),
    }


def with_edges(arrays: Arrays, threshold: float = 0.25) -> dict[str, np.ndarray]:
    """The data with their edges as `condition`: the pairs of an edges-to-image game."""
    return {**arrays, "condition": edges(arrays["x"], threshold)}


def with_masks(arrays: Arrays) -> dict[str, np.ndarray]:
    """The data with their silhouettes as `condition`: the pairs of a mask-to-image game."""
    return {**arrays, "condition": masks(arrays["x"])}


def edges(x: np.ndarray, threshold: float = 0.25) -> np.ndarray:
    """Thin edges: where Sobel's gradient is the largest along its own direction, and large.

    Args:
      x: images `[N, H, W, C]` uint8.
      threshold: how large, as a share of the largest gradient that an image can have.

    Returns:
      255 on an edge, else 0, `[N, H, W, 1]` uint8.

    Raises:
      DataError: if `x` is not uint8 images, or the threshold is outside (0, 1).

    >>> step = np.zeros((1, 4, 6, 1), np.uint8)
    >>> step[:, :, 3:] = 255
    >>> edges(step)[0, 1, :, 0].tolist()
    [0, 0, 255, 0, 0, 0]
    """
    if not 0 < threshold < 1:
        raise DataError(f"The threshold of edges lies between 0 and 1, got {threshold}.")
    grey = _grey(x)
    down, right = _sobel(grey, along=1, across=2), _sobel(grey, along=2, across=1)
    # 4 x 255: Sobel's answer to a step from black to white.
    size = np.hypot(down, right) / 1020
    return np.where((size >= threshold) & _is_ridge(size, down, right), 255, 0).astype(np.uint8)[..., None]


def _sobel(grey: np.ndarray, along: int, across: int) -> np.ndarray:
    # scipy's own sobel smooths over all other axes, from one image of the stack into the next.
    from scipy import ndimage

    difference = ndimage.correlate1d(grey, [-1, 0, 1], axis=along, mode="nearest")
    return ndimage.correlate1d(difference, [1, 2, 1], axis=across, mode="nearest")


def _is_ridge(size: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where the gradient is not smaller than at its two neighbours along its direction; of a tie, the first."""
    octant = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    ridge = np.zeros(size.shape, bool)
    padded = np.pad(size, ((0, 0), (1, 1), (1, 1)))
    height, width = size.shape[1:]
    for direction, (i, j) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        before = padded[:, 1 - i : 1 - i + height, 1 - j : 1 - j + width]
        after = padded[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]
        ridge |= (octant == direction) & (size > before) & (size >= after)
    return ridge


def masks(x: np.ndarray) -> np.ndarray:
    """Silhouettes: the pixels on the other side of Otsu's threshold than most of the border.

    Args:
      x: images `[N, H, W, C]` uint8.

    Returns:
      255 on the object, else 0, `[N, H, W, 1]` uint8.

    Raises:
      DataError: if `x` is not uint8 images.

    References:
      Otsu, A Threshold Selection Method from Gray-Level Histograms, 1979.
    """
    grey = np.round(_grey(x)).astype(np.uint8)
    bright = grey > otsu(grey)[:, None, None]
    border = np.concatenate([bright[:, 0], bright[:, -1], bright[:, :, 0], bright[:, :, -1]], axis=1)
    inverted = border.mean(axis=1) > 0.5
    return np.where(bright ^ inverted[:, None, None], 255, 0).astype(np.uint8)[..., None]


def otsu(grey: np.ndarray) -> np.ndarray:
    """The grey value `[N]` up to which and above which two classes differ most, by variance between them.

    Args:
      grey: `[N, H, W]` uint8.
    """
    flat = grey.reshape(len(grey), -1)
    counts = np.stack([np.bincount(row, minlength=256) for row in flat]) / flat.shape[1]
    below = np.cumsum(counts, axis=1)
    mean = np.cumsum(counts * np.arange(256), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (mean[:, -1:] * below - mean) ** 2 / (below * (1 - below))
    return np.argmax(np.nan_to_num(between, nan=0.0, posinf=0.0), axis=1)


def _grey(x: np.ndarray) -> np.ndarray:
    """`[N, H, W]` float64 in [0, 255], by the weights of ITU-R 601-2."""
    if x.ndim != 4 or x.dtype != np.uint8 or x.shape[-1] not in (1, 3):
        raise DataError(f"Expected images [N, H, W, 1 or 3] uint8, got {x.dtype} {x.shape}.")
    return x[..., 0].astype(np.float64) if x.shape[-1] == 1 else x @ np.array([0.299, 0.587, 0.114])
