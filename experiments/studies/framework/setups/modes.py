"""Measurements of a generator on a mixture of known modes while it trains."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from experiments.studies.framework.study import Numbers
from gan_jax.data.toy import Toy
from gan_jax.evaluation.sampling import sample
from gan_jax.game import Game
from gan_jax.metrics.modes import mode_statistics
from gan_jax.metrics.transport import wasserstein
from gan_jax.state import TrainState

SAMPLES = 2500


def measure_modes(
    game: Game, data: Toy, seed: int, quick: bool = False
) -> Callable[[int, TrainState], Numbers]:
    """`(round, state) -> numbers`: modes, high-quality share, reverse KL, and exact W1 to as many real samples."""
    points = 300 if quick else 1000
    real = np.asarray(data.sample(jax.random.key(10_000 + seed), points))
    assert data.means is not None
    means, sigma = data.means, data.sigma
    assert sigma is not None

    def snapshot(done: int, state: TrainState) -> Numbers:
        fake = sample(game, state, jax.random.fold_in(jax.random.key(20_000 + seed), done), SAMPLES)
        if not np.isfinite(fake).all():
            raise FloatingPointError(f"The generator's samples are not finite after {done} rounds.")
        found = mode_statistics(fake, means, sigma)
        kept = {name: found[name] for name in ("modes_covered", "high_quality_share", "reverse_kl")}
        return {"round": done, **kept, "w1": wasserstein(real, fake[:points])}

    return snapshot
