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
from gan_jax.metrics.neural import CriticFamily, NeuralDistance, neural_distance
from gan_jax.metrics.prdc import precision_recall_density_coverage
from gan_jax.metrics.score import classifier_score
from gan_jax.metrics.support import (
    birthday_test,
    collision_probability,
    samples_for_collision,
    support_for_collision,
    support_size,
)
from gan_jax.metrics.transport import sliced_wasserstein, wasserstein, wasserstein_1d
from gan_jax.metrics.two_sample import (
    TwoSampleResult,
    classifier_test,
    energy_test,
    interval_distance,
    interval_test,
    mmd_test,
)

__all__ = [
    "CriticFamily",
    "Estimate",
    "Interval",
    "Moments",
    "NeuralDistance",
    "TwoSampleResult",
    "birthday_test",
    "class_statistics",
    "classifier_score",
    "classifier_test",
    "collision_probability",
    "critic_gap",
    "energy_test",
    "frechet_distance",
    "frechet_extrapolated",
    "frechet_interval",
    "interval_distance",
    "interval_test",
    "kantorovich_rubinstein",
    "kernel_distance",
    "lipschitz_violation",
    "merge_across_processes",
    "merge_moments",
    "mmd_test",
    "mode_counts",
    "mode_statistics",
    "moments",
    "neural_distance",
    "precision_recall_density_coverage",
    "samples_for_collision",
    "sliced_wasserstein",
    "stacked_classes",
    "support_for_collision",
    "support_size",
    "wasserstein",
    "wasserstein_1d",
]
