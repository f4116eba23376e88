"""The Inception-style score of a classifier's predictions (Salimans et al., 2016).

It is an Inception score only of the standard Inception network's predictions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from gan_jax.metrics._check import as_samples
from gan_jax.metrics.estimate import Bootstrap


class Score(NamedTuple):
    """The mean and standard deviation of a score over splits or subsets."""

    mean: float
    std: float

    def __float__(self) -> float:
        return self.mean


def classifier_score(
    logits: ArrayLike, *, splits: int = 10, split_size: int | None = None, seed: int | None = 0
) -> Score:
    """`exp E_x KL(p(y | x) || p(y))`, in `[1, C]`: confident predictions of many classes score high.

    Published scores cut the samples in two ways, whose bias differs: 10 shuffled splits (torch-fidelity), the
    default, or contiguous splits of 5,000 (ADM): `split_size=5000, seed=None`. Time and memory are O(N C).

    Args:
      logits: `[N, C]`, a classifier's logits (or log probabilities) of the samples.
      splits: the number of parts into which the samples are cut, at `i N // splits` as in the original code; each
        part has a separate `p(y)`.
      split_size: the number of samples in a part, in place of `splits`; the last part may be smaller.
      seed: the seed of the shuffle before the cut; `None` keeps the order, as the original code does.

    Returns:
      The mean over splits and the standard deviation (with divisor `splits`, as in the original code).

    Raises:
      ValueError: if logits are not finite, or are probabilities; or there are fewer samples than splits.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016 (arXiv:1606.03498).

    >>> round(classifier_score(50.0 * np.eye(4), splits=1).mean, 6)
    4.0
    """
    scores = split_scores(logits, splits=splits, split_size=split_size, seed=seed)
    return Score(float(np.mean(scores)), float(np.std(scores)))


def split_scores(
    logits: ArrayLike, *, splits: int = 10, split_size: int | None = None, seed: int | None = 0
) -> np.ndarray:
    """The score of each split, `[splits]`; the arguments are those of `classifier_score`."""
    rows = _as_logits(logits, at_least=1 if split_size is not None else max(splits, 1))
    if min(splits, split_size or 1) < 1 or split_size == 0 or np.ndim(logits) != 2:
        raise ValueError(
            f"Logits are [N, C], splits and split_size >= 1; got shape {np.shape(logits)}, {splits} splits and "
            f"split_size {split_size}."
        )
    order = np.arange(len(rows)) if seed is None else np.random.default_rng(seed).permutation(len(rows))
    if split_size is None:
        cuts = np.arange(splits + 1) * len(rows) // splits
    else:
        cuts = np.append(np.arange(0, len(rows), split_size), len(rows))
    scores = []
    for start, stop in itertools.pairwise(cuts):
        log_p = log_softmax(rows[order[start:stop]], axis=1)
        p = np.exp(log_p)
        marginal = p.mean(axis=0)
        log_marginal = np.log(np.where(marginal > 0, marginal, 1.0))  # p is 0 there too
        scores.append(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))
    return np.array(scores)


def _as_logits(logits: ArrayLike, at_least: int = 1) -> np.ndarray:
    """The logits as `as_samples` converts them.

    Raises:
      ValueError: as `as_samples`, and for probabilities, whose softmax is nearly uniform.
    """
    rows = as_samples(logits, "logits", at_least=at_least)
    if rows.shape[1] > 1 and rows.min() >= 0 and np.abs(rows.sum(axis=1) - 1).max() < _ROUNDING:
        raise ValueError(
            "Logits were expected, and these are probabilities, which sum to 1: give what the softmax is taken of, "
            "or their logarithms, np.log(np.maximum(np.float64(p), 1e-30))."
        )
    return rows


_ROUNDING = 1e-2
"""How far the sum of probabilities in float16 may be from 1."""


def score_bootstrap(sets: Sequence[ArrayLike], *, resamples: int = 200, seed: int = 0) -> Bootstrap:
    """The bootstrap of the score of each set of logits as one part, each set resampled independently.

    The score of few samples is too low by about their bootstrap's bias, which `Bootstrap.interval` corrects. Time
    is O(resamples N C), memory O(N C).

    Args:
      sets: logits `[N, C]` of each set.
      resamples: draws of each set.
      seed: the seed of the draws.

    Raises:
      ValueError: as `classifier_score`.

    >>> rng = np.random.default_rng(0)
    >>> value, low, high = score_bootstrap([rng.normal(size=(500, 4))]).interval(0, 0.95)
    >>> low < high < 2
    True
    """
    rng = np.random.default_rng(seed)
    values, draws = np.empty(len(sets)), np.empty((len(sets), resamples))
    rows = [_as_logits(logits) for logits in sets]
    for place, logits in enumerate(rows):
        log_p = log_softmax(logits, axis=1)
        p, number = np.exp(log_p), len(log_p)
        certainty = np.einsum("nc,nc->n", p, log_p)
        values[place] = _weighted_score(p, certainty, np.full(number, 1 / number))
        for draw in range(resamples):
            counts = np.bincount(rng.integers(number, size=number), minlength=number)
            draws[place, draw] = _weighted_score(p, certainty, counts / number)
    return Bootstrap(values, draws, min(map(len, rows)) - 1)


def _weighted_score(p: np.ndarray, certainty: np.ndarray, weights: np.ndarray) -> float:
    """`exp(E sum_c p log p - sum_c m log m)`, m = E p, with these weights of the samples."""
    marginal = weights @ p
    return float(np.exp(weights @ certainty - marginal @ np.log(np.where(marginal > 0, marginal, 1.0))))
