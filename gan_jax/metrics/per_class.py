"""Frechet distances of each class, which show a conditional generator that ignores what is asked for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair
from gan_jax.metrics.frechet import frechet_distance


class ClassFrechet(NamedTuple):
    """Frechet distances by class.

    Attributes:
      classes: `[K]`, the classes that were compared, in ascending order.
      distances: `[K]`.
      sizes: `[K, 2]`, the numbers of real and fake samples; distances of few samples are biased upwards.
      left_out: classes with fewer than two samples on a side, and their numbers `(real, fake)`.
    """

    classes: np.ndarray
    distances: np.ndarray
    sizes: np.ndarray
    left_out: dict[int, tuple[int, int]]

    def __float__(self) -> float:
        """The mean over classes, intra-FID of Inception's features (Miyato and Koyama, 2018)."""
        return float(self.distances.mean())


def class_frechet_distances(
    real: ArrayLike, real_labels: ArrayLike, fake: ArrayLike, fake_labels: ArrayLike
) -> ClassFrechet:
    """The Frechet distance between real and fake features of every class.

    Time and memory are those of `frechet_distance` for each class: O(N D n + n^3) in all for classes of n
    samples, and O(n D) of memory, n at most D.

    Args:
      real: features `[N, D]`.
      real_labels: `[N]`, integers.
      fake: features `[M, D]`.
      fake_labels: `[M]`, the classes that the samples were asked for.

    Raises:
      ValueError: for bad features or labels, or where no class has two samples on both sides.

    References:
      Miyato and Koyama, cGANs with Projection Discriminator, 2018 (arXiv:1802.05637), section 6.

    >>> x = np.array([[0.0], [2.0], [10.0], [12.0]])
    >>> found = class_frechet_distances(x, [0, 0, 1, 1], x[::-1], [0, 0, 1, 1])
    >>> found.distances.tolist(), float(found)
    ([100.0, 100.0], 100.0)
    """
    first, second = as_pair(real, fake, dtype=None)
    labels = [_labels(real_labels, len(first), "real"), _labels(fake_labels, len(second), "fake")]
    if labels[0].dtype != labels[1].dtype:  # of int64 and uint64 numpy would make floats
        labels = [side.astype(object) for side in labels]
    kept, distances, sizes, left_out = [], [], [], {}
    for label in np.union1d(*labels):
        sides = first[labels[0] == label], second[labels[1] == label]
        number = len(sides[0]), len(sides[1])
        if min(number) < 2:
            left_out[int(label)] = number
            continue
        kept.append(int(label))
        distances.append(frechet_distance(*sides))
        sizes.append(number)
    if not kept:
        raise ValueError(f"No class has two samples on both sides: {left_out} (real, fake).")
    return ClassFrechet(np.array(kept), np.array(distances), np.array(sizes), left_out)


def _labels(labels: ArrayLike, number: int, name: str) -> np.ndarray:
    given = np.asarray(labels)
    if given.shape != (number,) or given.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: labels must be integers, one a sample, [{number}]; got {given.dtype} {given.shape}."
        )
    return given
