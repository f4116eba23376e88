"""Samples against samples: how far, how many modes, and whether the difference is real."""

from gan_jax.metrics.duality import critic_gap, kantorovich_rubinstein, lipschitz_violation
from gan_jax.metrics.estimate import Estimate, Interval
from gan_jax.metrics.modes import class_statistics, mode_counts, mode_statistics, stacked_classes
from gan_jax.metrics.transport import sliced_wasserstein, wasserstein, wasserstein_1d

__all__ = [
    "Estimate",
    "Interval",
    "class_statistics",
    "critic_gap",
    "kantorovich_rubinstein",
    "lipschitz_violation",
    "mode_counts",
    "mode_statistics",
    "sliced_wasserstein",
    "stacked_classes",
    "wasserstein",
    "wasserstein_1d",
]
