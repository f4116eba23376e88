"""Means and scatters of features, streamed and merged, and the Gaussians that are fitted to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_samples
from gan_jax.processes import gather_arrays

ROWS = 4096
"""The largest number of rows that are centred at a time."""
_NUMBERS = 2**24
"""The largest number of numbers that are centred at a time, as far as one row is smaller."""


def row_blocks(samples: np.ndarray) -> Iterator[slice]:
    """Slices of rows of `[N, D]` that are small enough to be copied."""
    rows = max(1, min(ROWS, _NUMBERS // max(samples.shape[1], 1)))
    return (slice(start, min(start + rows, len(samples))) for start in range(0, len(samples), rows))


class Moments(NamedTuple):
    """The mean and scatter of a set of features, float64 on the host; see `merge_moments`.

    Attributes:
      number: the number of samples.
      mean: `[D]`.
      scatter: `sum (x - mean)(x - mean)^T`, `[D, D]`.
    """

    number: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, `scatter / (number - 1)`.

        Raises:
          ValueError: for fewer than two samples.
        """
        return self.gaussian().covariance

    def gaussian(self, ddof: int = 1) -> Gaussian:
        """The fitted Gaussian, its covariance `scatter / (number - ddof)`.

        Raises:
          ValueError: for fewer than two samples, or a `ddof` that is neither 0 nor 1.
        """
        if self.number < 2:
            raise ValueError(f"A covariance needs at least 2 samples, these moments have {self.number}.")
        return Gaussian(self.mean, self.scatter / (self.number - check_ddof(ddof)))


class Gaussian(NamedTuple):
    """A mean and a covariance, as statistics files hold them; how many samples they are of is not known.

    Attributes:
      mean: `[D]`.
      covariance: `[D, D]`.
    """

    mean: np.ndarray
    covariance: np.ndarray


def check_ddof(ddof: int) -> int:
    """`ddof`, if it is 0 (covariances divide by N, as StyleGAN2-ADA's) or 1 (by N - 1, as nearly all others).

    Raises:
      ValueError: for anything else.
    """
    if ddof not in (0, 1):
        raise ValueError(f"ddof is 1 (covariances divide by N - 1) or 0 (by N), got {ddof!r}.")
    return ddof


def moments(features: ArrayLike) -> Moments:
    """The moments of features `[N, D]`, in blocks of rows: time O(N D^2), memory O(D^2) beside the features.

    Raises:
      ValueError: if features are not finite, or there are none.

    >>> m = merge_moments(moments([[1.0, 0.0], [3.0, 0.0]]), moments([[8.0, 3.0]]))
    >>> m.number, m.mean
    (3, array([4., 1.]))
    """
    return weighted_moments(Weighted(as_samples(features, "features", dtype=None)))


class Weighted(NamedTuple):
    """Samples `[N, D]`, each repeated as often as its weight; once without weights."""

    samples: np.ndarray
    weights: np.ndarray | None = None

    @property
    def number(self) -> int:
        return len(self.samples) if self.weights is None else int(self.weights.sum())

    @property
    def mean(self) -> np.ndarray:
        """The mean in float64, from differences to the first sample, so that a common offset costs no digits."""
        weights = np.ones(len(self.samples)) if self.weights is None else self.weights
        total = np.zeros(self.samples.shape[1])
        for part in row_blocks(self.samples):
            total += weights[part] @ np.subtract(self.samples[part], self.samples[0], dtype=np.float64)
        return self.samples[0] + total / self.number

    def centred(self, mean: np.ndarray) -> Iterator[np.ndarray]:
        """Yields blocks of rows `w^1/2 (x - mean)`, float64."""
        for part in row_blocks(self.samples):
            block = np.subtract(self.samples[part], mean, dtype=np.float64)
            if self.weights is not None:
                block *= np.sqrt(self.weights[part])[:, None]
            yield block


def weighted_moments(weighted: Weighted) -> Moments:
    """The moments of weighted samples, each counted as often as its weight says."""
    mean = weighted.mean
    scatter = np.zeros((len(mean), len(mean)))
    for block in weighted.centred(mean):
        scatter += block.T @ block
    return Moments(weighted.number, mean, scatter)


def merge_moments(first: Moments, *others: Moments) -> Moments:
    """The moments of the union of several sets of samples (Chan, Golub and LeVeque, 1983).

    Raises:
      ValueError: if dimensions differ.
    """
    number, mean, scatter = first
    for other in others:
        if other.mean.shape != mean.shape:
            raise ValueError(
                f"Moments of {mean.shape[0]} and of {other.mean.shape[0]} dimensions cannot be merged."
            )
        total = number + other.number
        if not total:
            continue
        shift = other.mean - mean
        # Not in place, since it would change an argument.
        scatter = scatter + other.scatter
        if number and other.number:
            scatter += np.outer(shift, shift * (number * other.number / total))
        mean, number = mean + shift * (other.number / total), total
    return Moments(number, mean, scatter)


def merge_across_processes(part: Moments) -> Moments:
    """The moments of all hosts' samples; every process must call it, and all get bitwise the same result."""
    gathered = gather_arrays({**part._asdict(), "number": np.array(part.number)})
    return merge_moments(*(Moments(int(made["number"]), made["mean"], made["scatter"]) for made in gathered))
