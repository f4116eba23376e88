"""Samples against samples: how far, how many modes, and whether the difference is real."""

from gan_jax.metrics.duality import critic_gap, kantorovich_rubinstein, lipschitz_violation
from gan_jax.metrics.estimate import Estimate, Interval
from gan_jax.metrics.frechet import (
    Moments,
    frechet_distance,
    frechet_extrapolated,
    frechet_interval,
    merge_across_processes,
    merge_moments,
    moments,
)
from gan_jax.metrics.kernel import kernel_distance
from gan_jax.metrics.modes import class_statistics, mode_counts, mode_statistics, stacked_classes
from gan_jax.metrics.prdc import precision_recall_density_coverage
from gan_jax.metrics.score import classifier_score
from gan_jax.metrics.transport import sliced_wasserstein, wasserstein, wasserstein_1d

__all__ = [
    "Estimate",
    "Interval",
    "Moments",
    "class_statistics",
    "classifier_score",
    "critic_gap",
    "frechet_distance",
    "frechet_extrapolated",
    "frechet_interval",
    "kantorovich_rubinstein",
    "kernel_distance",
    "lipschitz_violation",
    "merge_across_processes",
    "merge_moments",
    "mode_counts",
    "mode_statistics",
    "moments",
    "precision_recall_density_coverage",
    "sliced_wasserstein",
    "stacked_classes",
    "wasserstein",
    "wasserstein_1d",
]
