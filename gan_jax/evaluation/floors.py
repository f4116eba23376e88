"""Real samples against real samples: what perfect fakes would score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gan_jax.metrics import Features


def floor_size(real: int, fake: int) -> int:
    """How many of the real samples stand for fakes: as many as there are fakes, or half of the real ones.

    >>> floor_size(1000, 100), floor_size(1000, 800)
    (100, 500)
    """
    return min(fake, real // 2)


def real_draws(features: Features, number: int, seed: int) -> tuple[Features, Features]:
    """Two disjoint random draws of the samples whose features these are: `number` of them second, the others first.

    The draws of any two numbers are of one permutation.
    """
    order = np.random.default_rng(seed).permutation(len(features.features))
    return _part(features, order[number:]), _part(features, order[:number])


def _part(features: Features, rows: np.ndarray) -> Features:
    rows = np.sort(rows)
    logits, spatial = (None if part is None else part[rows] for part in (features.logits, features.spatial))
    return features._replace(features=features.features[rows], logits=logits, spatial=spatial)
