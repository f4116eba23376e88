"""Samples that repeat training data: nearest neighbours in features, with a threshold that real data calibrate."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair, as_samples
from gan_jax.metrics.prdc import Points, center_of, squared_distances


class Memorization(NamedTuple):
    """How many samples lie closer to the training data than other real data do.

    Attributes:
      threshold: the distance below which a sample counts as a copy.
      rate: the share of held-out real data that are no farther, about the rate that was asked for.
      share: the share of the samples that are no farther.
      p_value: the probability of so many or more if samples were as far as held-out data, by Fisher's exact test.
        It is conservative, as the threshold is a distance of the held-out data.
      copies: `[K]`, the indices of the samples that count as copies, the closest first.
      originals: `[K]`, the index of each one's nearest training example.
      distances: `[M]`, each sample's distance to its nearest training example.
      neighbors: `[M]`, that example's index.
    """

    threshold: float
    rate: float
    share: float
    p_value: float
    copies: np.ndarray
    originals: np.ndarray
    distances: np.ndarray
    neighbors: np.ndarray

    def __float__(self) -> float:
        return self.share


def memorization_test(
    train: ArrayLike, held_out: ArrayLike, fake: ArrayLike, *, rate: float = 0.01
) -> Memorization:
    """Finds samples that are suspiciously close to a training example.

    The threshold is the distance that a share `rate` of held-out real data do not exceed, so that a generator that
    generalises has about that share of copies, and one that copies has more. Duplicates within the data are in
    `rate` as well: where it is far above what was asked for, the held-out data repeat the training data.

    Time is O(N (H + M) D), memory O(N D) beside the features, in chunks.

    Args:
      train: features `[N, D]` of the training data.
      held_out: features `[H, D]` of real data that the generator was not trained on; 1 / rate of them at least.
      fake: features `[M, D]` of samples.
      rate: the share of held-out data below the threshold.

    Raises:
      ValueError: for bad features, a rate outside (0, 1), or too few held-out data for it.

    References:
      Meehan et al., A Non-Parametric Test to Detect Data-Copying in Generative Models, 2020 (arXiv:2004.05675), for
      the comparison with held-out data.

    >>> rng = np.random.default_rng(0)
    >>> train, held_out, fresh = (rng.normal(size=(200, 8)) for _ in range(3))
    >>> fake = np.concatenate([fresh[:150], train[:50]])
    >>> found = memorization_test(train, held_out, fake)
    >>> set(found.originals[:50]) == set(range(50)), found.share >= 0.25
    (True, True)
    """
    from scipy.stats import fisher_exact  # imported here, as it takes half a second

    if not 0 < rate < 1:
        raise ValueError(f"The rate is a share between 0 and 1, got {rate}.")
    reals, fakes = as_pair(train, fake, dtype=None)
    others = as_pair(train, held_out, dtype=None)[1]
    allowed = int(np.floor(rate * len(others) * (1 + 1e-12)))  # .29 of 100 is 29
    if allowed < 1:
        raise ValueError(
            f"A rate of {rate} needs {int(np.ceil(1 / rate))} held-out data or more, got {len(others)}."
        )
    others_distances = nearest(others, reals)[1]
    threshold = float(np.sort(others_distances)[allowed - 1])
    neighbors, distances = nearest(fakes, reals)
    close = np.flatnonzero(distances <= threshold)
    copies = close[np.argsort(distances[close], kind="stable")]
    counts = [len(copies), int((others_distances <= threshold).sum())]
    table = [[counts[0], len(fakes) - counts[0]], [counts[1], len(others) - counts[1]]]
    return Memorization(
        threshold=threshold,
        rate=counts[1] / len(others),
        share=counts[0] / len(fakes),
        p_value=float(fisher_exact(table, alternative="greater").pvalue),
        copies=copies,
        originals=neighbors[copies],
        distances=distances,
        neighbors=neighbors,
    )


def nearest(queries: ArrayLike, points: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The nearest point of each query: its index `[M]` and its Euclidean distance `[M]`, in chunks.

    Inner products tell the candidates, and differences which of them is nearest, so that features of very different
    scales and clusters far apart hide no copy. Of equally near points it is the first.

    Time is O(N M D), memory O(N D) beside the samples.

    Args:
      queries: `[M, D]`.
      points: `[N, D]`.

    Raises:
      ValueError: for bad samples.

    >>> nearest([[0.9, 0.0], [5.0, 5.0]], [[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    (array([1, 2]), array([0.1, 0. ]))
    """
    x, y = as_samples(queries, "queries", dtype=None), as_samples(points, "points", dtype=None)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"queries have {x.shape[1]} dimensions and points {y.shape[1]}.")
    first_of = {digest: place for place, digest in reversed(list(enumerate(_digests(y))))}
    index = np.array([first_of.get(digest, -1) for digest in _digests(x)], np.int64)
    distance = np.zeros(len(x))
    others = np.flatnonzero(index < 0)
    if not len(others):
        return index, distance
    distinct = np.array(sorted(first_of.values()))
    index[others], distance[others] = _nearest_distinct(x[others], y[distinct])
    index[others] = distinct[index[others]]
    return index, distance


def _digests(samples: np.ndarray) -> list[bytes]:
    """A digest of each sample; equal numbers have equal ones, whatever their dtype and sign of zero."""
    return [
        hashlib.blake2b((row.astype(np.float64) + 0.0).tobytes(), digest_size=16).digest() for row in samples
    ]


def _nearest_distinct(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`nearest` for points without repetitions."""
    center, slack = center_of(x, y)
    queries, points = Points.about(center, x), Points.about(center, y)
    index = np.empty(len(x), np.int64)
    squares = np.empty(len(x))
    for rows, squared in squared_distances(queries, points):
        # A distance is known up to `slack` times both norms: whatever may be the least is computed again.
        most = squared.min(axis=1) + 2 * slack * (queries.norms[rows] + points.norms.max())
        i, j = np.nonzero(squared <= most[:, None])
        exact = queries.exact(i + rows.start, points, j)
        order = np.lexsort((j, exact, i))
        first = order[np.searchsorted(i[order], np.arange(len(squared)))]
        index[rows], squares[rows] = j[first], exact[first]
    return index, np.sqrt(squares)


def duplicate_pairs(
    fake_images: ArrayLike, train_images: ArrayLike, found: Memorization, *, most: int = 32
) -> np.ndarray:
    """The closest copies beside their originals, `[2 K, H, W, C]`: a sample, its original, the next sample, ...

    Args:
      fake_images: `[M, H, W, C]`, in the order of the features.
      train_images: `[N, H, W, C]`, of the samples' dtype and shape.
      found: the result of `memorization_test`.
      most: the number of pairs; where fewer samples count as copies, those that come nearest follow them.

    Raises:
      ValueError: if the images are not those that the features are of, or differ in shape or dtype.

    >>> x = np.arange(4.0).reshape(4, 1)
    >>> found = memorization_test(x, x + 0.3, x[::-1] + 0.1, rate=0.25)
    >>> duplicate_pairs(x[::-1].reshape(4, 1, 1, 1), x.reshape(4, 1, 1, 1), found, most=1).ravel().tolist()
    [0.0, 0.0]
    """
    fakes, reals = np.asarray(fake_images), np.asarray(train_images)
    if len(fakes) != len(found.distances) or (len(reals) and found.neighbors.max() >= len(reals)):
        raise ValueError(
            f"The result is of {len(found.distances)} samples, but there are {len(fakes)} images of samples and "
            f"{len(reals)} of training data."
        )
    if fakes.shape[1:] != reals.shape[1:] or fakes.dtype != reals.dtype:
        raise ValueError(
            f"Samples are {fakes.dtype} {fakes.shape[1:]}, and training data {reals.dtype} {reals.shape[1:]}."
        )
    chosen = np.argsort(found.distances, kind="stable")[:most]
    pairs = np.stack([fakes[chosen], reals[found.neighbors[chosen]]], axis=1)
    return pairs.reshape(-1, *fakes.shape[1:])
