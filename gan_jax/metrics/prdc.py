"""Precision and recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020), in chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.functional.options import check_count
from gan_jax.metrics._check import as_pair

_CELLS = 1 << 22  # distances in memory at a time, 32 MiB


def precision_recall_density_coverage(
    real: ArrayLike, fake: ArrayLike, *, neighbors: int = 5
) -> dict[str, float]:
    """Precision, recall, density and coverage of samples by nearest-neighbour balls.

    The ball of a sample reaches to its k-th nearest neighbour in the same set. Precision is the fraction of fakes
    in any real ball, recall the fraction of reals in any fake ball, density the mean number of real balls around a
    fake over k (it can exceed 1), coverage the fraction of real balls that contain a fake. Time is O((N + M)^2 D);
    the full matrix of distances is never in memory, which is O((N + M) D).

    Published numbers depend on k and on the features: NVIDIA's take k = 3 of VGG16's, ADM's k = 3 of Inception's
    pool against 10,000 real images, those of `prdc` k = 5.

    Balls are open, as in the `prdc` package of Naeem et al.: a sample at exactly the radius is outside.
    (Kynkaanniemi et al. count it as inside; the paper of Naeem et al. leaves it open.) This matters if distances
    tie, as for binary or integer features. Distances near a radius are computed again from the differences, so ties
    are decided exactly if squared distances are exact in float64, as those of integers are below 2^53.

    Args:
      real: features `[N, D]`.
      fake: features `[M, D]`.
      neighbors: k.

    Returns:
      `precision`, `recall`, `density`, `coverage`; see `expected_coverage` for the coverage to compare with.

    Raises:
      ValueError: if features are not finite, dimensions differ, or a set has no k-th neighbour.

    References:
      Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, 2019
      (arXiv:1904.06991), equation 1; Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models,
      2020 (arXiv:2002.09797), section 3.

    >>> rng = np.random.default_rng(0)
    >>> found = precision_recall_density_coverage(rng.normal(size=(50, 2)), 50 + rng.normal(size=(50, 2)))
    >>> found["precision"], found["recall"], found["density"], found["coverage"]
    (0.0, 0.0, 0.0, 0.0)
    """
    found = ball_membership(real, fake, neighbors=neighbors)
    return {name: float(counted.mean()) for name, counted in found.counted(neighbors).items()}


class Membership(NamedTuple):
    """Which samples lie in whose balls.

    Attributes:
      real_balls: the number of real balls around each fake, `[M]`.
      in_fake_ball: whether each real sample lies in a fake ball, `[N]`.
      covered: whether each real sample's ball holds a fake, `[N]`.
    """

    real_balls: np.ndarray
    in_fake_ball: np.ndarray
    covered: np.ndarray

    def counted(self, neighbors: int) -> dict[str, np.ndarray]:
        """What each metric is the mean of: `[M]` for precision and density, `[N]` for recall and coverage."""
        return {
            "precision": self.real_balls > 0,
            "recall": self.in_fake_ball,
            "density": self.real_balls / neighbors,
            "coverage": self.covered,
        }


def ball_membership(real: ArrayLike, fake: ArrayLike, *, neighbors: int = 5) -> Membership:
    """The memberships whose means `precision_recall_density_coverage` returns, by the same arguments."""
    check_count("precision_recall_density_coverage", "neighbors", neighbors)
    sides = as_pair(real, fake, at_least=neighbors + 1, dtype=None)
    center, slack = center_of(*sides)
    first, second = (Points.about(center, side) for side in sides)
    real_reach, fake_reach = (_neighbor_distance(side, neighbors, slack) for side in (first, second))
    in_fake_ball = np.zeros(len(sides[0]), dtype=bool)
    covered = np.zeros(len(sides[0]), dtype=bool)
    real_balls = np.zeros(len(sides[1]), dtype=np.int64)
    for rows, squared in squared_distances(first, second):
        in_fake_ball[rows] = _within(first, second, rows, squared, fake_reach, slack).any(axis=1)
        in_real_ball = _within(first, second, rows, squared, real_reach[rows, None], slack)
        covered[rows] = in_real_ball.any(axis=1)
        real_balls += in_real_ball.sum(axis=0)
    return Membership(real_balls, in_fake_ball, covered)


def expected_coverage(real: int, fake: int, *, neighbors: int = 5) -> float:
    """The expected coverage if real and fake samples have the same distribution, the most a generator can attain.

    If both have the same distribution without ties, all orders of the other samples by distance are equally likely,
    so the k nearest are all real with probability `(N - 1) ... (N - k) / ((N + M - 1) ... (N + M - k))`.

    Args:
      real: N, the number of real samples.
      fake: M, the number of fake samples.
      neighbors: k.

    Returns:
      A fraction in [0, 1], far below 1 for few fakes against many reals.

    Raises:
      ValueError: for k below 1 or N not above k.

    References:
      Naeem et al., 2020, lemma 2 (arXiv:2002.09797).

    >>> round(expected_coverage(50_000, 2_500), 3), round(expected_coverage(10_000, 10_000), 3)
    (0.216, 0.969)
    """
    if neighbors < 1 or real <= neighbors or fake < 1:
        raise ValueError(
            f"Coverage needs neighbors >= 1, more than that many reals, and a fake; got neighbors={neighbors}, "
            f"real={real} and fake={fake}."
        )
    passed = np.arange(1, neighbors + 1)
    return float(1 - np.prod((real - passed) / (real + fake - passed)))


class Points(NamedTuple):
    """Samples, and the same relative to a common centre, where small inner products cancel little."""

    original: np.ndarray
    centred: np.ndarray
    norms: np.ndarray

    @classmethod
    def about(cls, center: np.ndarray, samples: np.ndarray) -> Points:
        centred = np.subtract(samples, center, dtype=np.float64)
        return cls(samples, centred, np.einsum("nd,nd->n", centred, centred))

    def exact(self, rows: np.ndarray, other: Points, columns: np.ndarray) -> np.ndarray:
        """`|x_i - y_j|^2` of pairs of samples, from the differences of the original samples."""
        squared = np.empty(len(rows))
        step = max(1, _CELLS // (8 * self.original.shape[1]))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            gap = np.subtract(self.original[rows[part]], other.original[columns[part]], dtype=np.float64)
            squared[part] = np.einsum("nd,nd->n", gap, gap)
        return squared


def center_of(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, float]:
    """A centre, and the largest error of squared distances from inner products about it, over `|x|^2 + |y|^2`.

    For integers whose inner products about an integer centre stay below 2^53 there is no error.
    """
    center = first.mean(axis=0, dtype=np.float64)
    dimension = first.shape[1]
    if all(np.array_equal(np.rint(side), side) for side in (first, second)):
        rounded = np.rint(center)
        largest = max(
            float(np.abs(np.subtract(side, rounded, dtype=np.float64)).max()) for side in (first, second)
        )
        if 4 * dimension * largest**2 < 2**53:
            return rounded, 0.0
    return center, 2 * (dimension + 4) * float(np.finfo(np.float64).eps)


def _within(
    x: Points, y: Points, rows: slice, squared: np.ndarray, reach: np.ndarray, slack: float
) -> np.ndarray:
    """A mask of the squared distances below `reach`, `[M]` or `[rows, 1]`; those near it are computed again."""
    if not slack:
        return squared < reach
    # The largest error of any pair is a band about all of a row or column; few pairs lie in it.
    band = slack * (x.norms.max() + y.norms.max())
    # An open ball of radius 0 is empty: repeated samples need no second computation.
    above = np.where(reach > 0, reach + band, 0.0)
    inside = squared < above
    i, j = np.nonzero(inside & (squared >= reach - band))
    limit = np.broadcast_to(reach, squared.shape)[i, j]
    near = np.abs(squared[i, j] - limit) <= slack * (x.norms[i + rows.start] + y.norms[j])
    inside[i, j] = squared[i, j] < limit
    i, j, limit = i[near], j[near], limit[near]
    inside[i, j] = x.exact(i + rows.start, y, j) < limit
    return inside


def _neighbor_distance(points: Points, neighbors: int, slack: float) -> np.ndarray:
    """The squared distance to the k-th nearest other sample, `[N]`."""
    reach = np.empty(len(points.original))
    repeated = _repetitions(points.original) > neighbors
    band = 2 * slack * points.norms.max()
    for rows, squared in squared_distances(points, points):
        local_rows = np.arange(len(squared))
        squared[local_rows, local_rows + rows.start] = np.inf
        kth = np.partition(squared, neighbors - 1, axis=1)[:, neighbors - 1]
        reach[rows] = np.where(repeated[rows], 0.0, kth)
        if not slack:
            continue
        # The k nearest are among those whose distance minus its error is at most the k-th plus its error.
        bound = np.where(repeated[rows], -1.0, kth + 2 * band)
        i, j = np.nonzero(squared <= bound[:, None])
        candidates, error = squared[i, j], slack * (points.norms[i + rows.start] + points.norms[j])
        most = _kth_of_each(i, candidates + error, neighbors)
        close = candidates - error <= most[i]
        i, j = i[close], j[close]
        exact = _kth_of_each(i, points.exact(i + rows.start, points, j), neighbors)
        reach[rows][: len(exact)] = np.where(np.isfinite(exact), exact, reach[rows][: len(exact)])
    return reach


def _kth_of_each(groups: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """The k-th smallest value of each group, `[groups]`, in ascending order of groups; infinite if it has fewer."""
    number = groups[-1] + 1 if len(groups) else 0
    starts = np.searchsorted(groups, np.arange(number + 1))
    ordered = np.append(values[np.lexsort((values, groups))], np.inf)
    place = starts[:-1] + k - 1
    return np.where(place < starts[1:], ordered[np.minimum(place, len(values))], np.inf)


def _repetitions(samples: np.ndarray) -> np.ndarray:
    """The multiplicity of each sample, `[N]`."""
    keys = [row.tobytes() for row in samples + 0.0]  # so that -0.0 is 0.0
    counted = Counter(keys)
    return np.array([counted[key] for key in keys])


def squared_distances(x: Points, y: Points) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields `|x_i - y_j|^2` by blocks of rows, from inner products."""
    step = max(1, _CELLS // len(y.original))
    for start in range(0, len(x.original), step):
        rows = slice(start, start + step)
        squared = x.centred[rows] @ y.centred.T
        squared *= -2
        squared += x.norms[rows, None]
        squared += y.norms
        yield rows, np.maximum(squared, 0, out=squared)
