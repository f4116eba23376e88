"""Measurements of a generator on a mixture of known modes while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import numpy as np

from experiments.studies.framework.study import Case, Numbers
from gan_jax.data.toy import Toy
from gan_jax.evaluation.sampling import sample
from gan_jax.game import Game
from gan_jax.metrics.modes import mode_statistics
from gan_jax.metrics.transport import wasserstein
from gan_jax.state import TrainState

SAMPLES = 2500


Points: TypeAlias = Callable[[int], np.ndarray]
"""`seed -> samples [SAMPLES, 2]`."""


def measure_modes(
    game: Game, data: Toy, seed: int, quick: bool = False
) -> Callable[[int, TrainState], Numbers]:
    """`(round, state) -> numbers`: modes, high-quality share, reverse KL, and exact W1 to as many real samples."""

    def snapshot(done: int, state: TrainState) -> Numbers:
        fake = sample(game, state, jax.random.fold_in(jax.random.key(20_000 + seed), done), SAMPLES)
        if not np.isfinite(fake).all():
            raise FloatingPointError(f"The generator's samples are not finite after {done} rounds.")
        return {"round": done, **measure_points(fake, data, seed, quick)}

    return snapshot


def measure_points(fake: np.ndarray, data: Toy, seed: int, quick: bool = False) -> Numbers:
    """Modes, high-quality share, reverse KL (log K of K modes where nothing is of high quality), and W1."""
    assert data.means is not None
    assert data.sigma is not None
    points = 300 if quick else 1000
    real = np.asarray(data.sample(jax.random.key(10_000 + seed), points))
    found = mode_statistics(fake, data.means, data.sigma)
    kept = {name: found[name] for name in ("modes_covered", "high_quality_share", "reverse_kl")}
    if np.isnan(kept["reverse_kl"]):
        kept["reverse_kl"] = float(np.log(len(data.means)))
    return {**kept, "w1": wasserstein(real, fake[:points])}


def controls(data: Toy, untrained: Points, rounds: int, snapshots: int) -> dict[str, Case]:
    """The same measurements of what does not learn: uniform noise, an untrained generator, and other real samples.

    Noise is uniform on the square around the modes' means.

    Args:
      data: the mixture.
      untrained: samples of the generator before the first round.
      rounds, snapshots: of the methods; a control's snapshots are all the same.
    """
    assert data.means is not None
    reach = float(np.abs(data.means).max())

    def noise(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).uniform(-reach, reach, size=(SAMPLES, 2))

    def real(seed: int) -> np.ndarray:
        return np.asarray(data.sample(jax.random.key(30_000 + seed), SAMPLES))

    def case(points: Points) -> Case:
        def measured(seed: int, quick: bool) -> Numbers:
            samples = points(seed)
            found = measure_points(samples, data, seed, quick)
            return {
                "snapshots": [{"round": k * (rounds // snapshots), **found} for k in range(snapshots + 1)],
                "samples": samples[:200].round(2) if seed == 0 else [],
            }

        return measured

    return {name: case(points) for name, points in zip(CONTROLS, (noise, untrained, real), strict=True)}


CONTROLS = ("noise", "untrained", "real")
