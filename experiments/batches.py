"""What the batches of an experiment are made of: images, labels, a labelled part."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from gan_jax.data import Dataset, from_arrays, load_dataset
from gan_jax.data.derive import split_labelled
from gan_jax.data.source import Source
from gan_jax.data.subsample import subsample
from gan_jax.data.value_range import STANDARD, parse_range
from gan_jax.game import Objective
from gan_jax.training.experiment import ExperimentError
from gan_jax.types import Size

from .configuration import DEFAULT
from .games import Data, entries_of, labelled_per_class

LEAST_HELD_OUT, MOST_HELD_OUT = 500, 5_000
"""How many images are held out at least and at most where the configuration does not say."""


def load_data(config: Any) -> Dataset:
    """What the configuration's `data` names, read as its other fields say; see `configuration.image_config`.

    Raises:
      ExperimentError: if there is a height without a size.
    """
    if config.height and not config.size:
        raise ExperimentError(
            f"height={config.height} is for rectangles whose width is size: set --config.size."
        )
    return load_dataset(
        config.data,
        size=(config.height, config.size) if config.height else config.size or None,
        channels=config.channels or None,
        label_file=config.label_file,
        value_range=parse_range(config.value_range),
    )


def load_images(config: Any) -> Dataset:
    """The images that the configuration's `data` names.

    Raises:
      ExperimentError: if they are no images.
    """
    found = load_data(config)
    shape = found.arrays["x"].shape[1:]
    if len(shape) != 3:
        raise ExperimentError(
            f"This experiment trains on images [N, H, W, C]; {config.data!r} has examples {shape}."
        )
    return found


def hold_out(config: Any, found: Dataset) -> tuple[Dataset, np.ndarray | None]:
    """Splits images into those to train on and those to score samples against, of every class its share.

    Every class has an image to train on: none is held out of a class that has only a few.

    Args:
      config: `held_out` is the share of images that are held out. By default it is a tenth, at most
        `MOST_HELD_OUT` images, where that is `LEAST_HELD_OUT` images or more, and nothing of fewer.
      found: the images.

    Returns:
      The images to train on, and `x` of the others, or `None`.

    Raises:
      ExperimentError: for a share outside [0, 1), or one of which nothing would be left on a side, or more classes
        than images to train on.
    """
    arrays, share = found.arrays, config.held_out
    size = len(arrays["x"])
    if share == DEFAULT:
        count = min(size // 10, MOST_HELD_OUT)
        count = count if count >= LEAST_HELD_OUT else 0
    elif 0 <= share < 1:
        count = round(share * size)
        if share and not 0 < count < size:
            raise ExperimentError(f"held_out={share} of {size} images leaves nothing on a side.")
    else:
        raise ExperimentError(f"held_out is a share of the images in [0, 1), got {share}.")
    if not count:
        return found, None
    labels = arrays.get("y")
    classes = 1 if labels is None or labels.ndim != 1 else len(np.unique(labels))
    if classes > size - count:
        raise ExperimentError(
            f"The images have {classes:,} classes, more than the {size - count:,} images that would be left to "
            "train on: set --config.held_out=0."
        )
    # Drawn is what is trained on, since a draw has every class.
    held = np.ones(size, bool)
    held[subsample(size, size - count, labels, seed=config.seed)] = False
    names = tuple(name for name, out in zip(found.names, held, strict=False) if not out)
    training = {name: array[~held] for name, array in arrays.items()}
    return dataclasses.replace(found, arrays=training, names=names), arrays["x"][held]


def held_out_note(training: Dataset, held_out: np.ndarray | None) -> tuple[str, ...]:
    """What is said at the beginning of a run about images that it is not trained on."""
    if held_out is None:
        return ()
    return (
        f"{len(held_out):,} images are held out: samples are scored against them, and trained on the other "
        f"{len(training.arrays['x']):,} (--config.held_out).",
    )


def size_of(x: Any) -> Size:
    """The side of square images `[..., H, W, C]`, or (height, width), as networks take them.

    >>> size_of(np.zeros((2, 8, 8, 1))), size_of(np.zeros((2, 8, 9, 1)))
    (8, (8, 9))
    """
    height, width = x.shape[-3:-1]
    return height if height == width else (height, width)


def source_of(config: Any, arrays: dict[str, np.ndarray], data: Data, objective: Objective) -> Source:
    """Batches of what the objective reads, with a labelled part of the same size where it has one."""
    labelled = None
    if per_class := labelled_per_class(config, data):
        chosen, _ = split_labelled({name: arrays[name] for name in ("x", "y")}, per_class, seed=config.seed)
        labelled = {name: repeated_to(array, config.batch_size) for name, array in chosen.items()}
    return from_arrays(
        {name: arrays[name] for name in entries_of(objective, data)},
        config.batch_size,
        seed=config.seed,
        labelled=labelled,
        value_range=STANDARD,
    )


def repeated_to(array: np.ndarray, size: int) -> np.ndarray:
    """The array, as many times over as it takes to fill one batch.

    >>> repeated_to(np.array([1, 2]), 3).tolist()
    [1, 2, 1, 2]
    """
    return np.concatenate([array] * -(-size // len(array)))


def labels_in_turn(classes: int, n: int) -> np.ndarray:
    """The labels `[n]` for which samples are drawn in pictures: 0, 1, ... again and again.

    >>> labels_in_turn(3, 5).tolist()
    [0, 1, 2, 0, 1]
    """
    return np.arange(n, dtype=np.int32) % classes


def labels_by_share(labels: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """The labels `[n]` for which samples are drawn in evaluations: each by its share of `labels`, to within one, in
    an order drawn by the seed.

    With other shares a perfect generator of each class would still be far from the data as a whole. Which classes
    have one more is drawn too (systematic sampling), so that the number of each is its share on average: where
    there are more classes than samples, the order of the classes decides nothing.

    >>> np.bincount(labels_by_share(np.array([0] * 9 + [1]), 50)).tolist()
    [45, 5]
    """
    classes, counts = np.unique(labels, return_counts=True)
    times, left = np.divmod(counts.astype(np.int64) * n, len(labels))
    rng = np.random.default_rng([seed, n, len(classes)])
    order, first = rng.permutation(len(classes)), int(rng.integers(len(labels)))
    # The remainders are laid end to end, and a class whose part has one of the places first + i N has one more.
    below = -((first - np.cumsum(left[order])) // len(labels))
    times[order] += np.diff(below, prepend=0)
    drawn = np.repeat(classes, times).astype(np.int32)
    return np.random.default_rng([seed, n]).permutation(drawn)
