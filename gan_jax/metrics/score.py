"""The Inception-style score of a classifier's predictions (Salimans et al., 2016).

It is an Inception score only of the standard Inception network's predictions.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from gan_jax.metrics._check import as_samples


class Score(NamedTuple):
    """The mean and standard deviation of a score over splits."""

    mean: float
    std: float

    def __float__(self) -> float:
        return self.mean


def classifier_score(logits: ArrayLike, *, splits: int = 10, seed: int | None = 0) -> Score:
    """`exp E_x KL(p(y | x) || p(y))`, in `[1, C]`: confident predictions of many classes score high.

    Args:
      logits: `[N, C]`, a classifier's logits (or log probabilities) of the samples.
      splits: the number of parts into which the samples are cut, at `i N // splits` as in the original code; each
        part has a separate `p(y)`.
      seed: the seed of the shuffle before the cut; `None` keeps the order, as the original code does.

    Returns:
      The mean over splits and the standard deviation (with divisor `splits`, as in the original code).

    Raises:
      ValueError: if logits are not finite, or there are fewer samples than splits.

    >>> round(classifier_score(50.0 * np.eye(4), splits=1).mean, 6)
    4.0
    """
    rows = as_samples(logits, "logits", at_least=max(splits, 1))
    if splits < 1 or np.ndim(logits) != 2:
        raise ValueError(
            f"Logits are [N, C] and splits >= 1, got shape {np.shape(logits)} and {splits} splits."
        )
    order = np.arange(len(rows)) if seed is None else np.random.default_rng(seed).permutation(len(rows))
    scores = []
    cuts = np.arange(splits + 1) * len(rows) // splits
    for start, stop in itertools.pairwise(cuts):
        log_p = log_softmax(rows[order[start:stop]], axis=1)
        p = np.exp(log_p)
        marginal = p.mean(axis=0)
        log_marginal = np.log(np.where(marginal > 0, marginal, 1.0))  # p is 0 there too
        scores.append(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))
    return Score(float(np.mean(scores)), float(np.std(scores)))
