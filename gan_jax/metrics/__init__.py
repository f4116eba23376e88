"""Samples against samples: how far, how many modes, and whether the difference is real."""

from typing import TYPE_CHECKING

from gan_jax._lazy import imported_when_used

if TYPE_CHECKING:
    from gan_jax.metrics.classification_accuracy import ClassificationAccuracy, classification_accuracy_score
    from gan_jax.metrics.classifier import classifier_for, load_classifier, save_classifier, train_classifier
    from gan_jax.metrics.clip import clip_extractor
    from gan_jax.metrics.dinov2 import dinov2_extractor
    from gan_jax.metrics.duality import critic_gap, kantorovich_rubinstein, lipschitz_violation
    from gan_jax.metrics.estimate import Estimate, Interval
    from gan_jax.metrics.extrapolation import frechet_extrapolated
    from gan_jax.metrics.features import (
        Extractor,
        Features,
        classify,
        extract,
        from_callable,
        pixels,
    )
    from gan_jax.metrics.fingerprints import Fingerprint, Scores, score_table
    from gan_jax.metrics.frechet import frechet_distance, frechet_interval
    from gan_jax.metrics.gaussians import Gaussian, Moments, merge_across_processes, merge_moments, moments
    from gan_jax.metrics.images import image_scores, stacked_digit_statistics
    from gan_jax.metrics.inception import inception_extractor
    from gan_jax.metrics.kernel import kernel_distance, kernel_interval, kernel_subsets
    from gan_jax.metrics.memorization import Memorization, duplicate_pairs, memorization_test, nearest
    from gan_jax.metrics.modes import class_statistics, mode_counts, mode_statistics, stacked_classes
    from gan_jax.metrics.monge import monge_distance
    from gan_jax.metrics.named import extractor_named
    from gan_jax.metrics.neural import CriticFamily, NeuralDistance, neural_distance
    from gan_jax.metrics.onnx import onnx_extractor
    from gan_jax.metrics.path_length import PathLength, feature_distance, perceptual_path_length
    from gan_jax.metrics.per_class import ClassFrechet, class_frechet_distances
    from gan_jax.metrics.prdc import expected_coverage, precision_recall_density_coverage
    from gan_jax.metrics.resize import PROTOCOLS, Protocol
    from gan_jax.metrics.score import classifier_score
    from gan_jax.metrics.spatial import spatial_frechet_distance
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
    from gan_jax.metrics.vgg16 import lpips_distance, vgg16_extractor

__getattr__ = imported_when_used(
    __name__,
    {
        "gan_jax.metrics.classification_accuracy": [
            "ClassificationAccuracy",
            "classification_accuracy_score",
        ],
        "gan_jax.metrics.classifier": [
            "classifier_for",
            "load_classifier",
            "save_classifier",
            "train_classifier",
        ],
        "gan_jax.metrics.clip": ["clip_extractor"],
        "gan_jax.metrics.dinov2": ["dinov2_extractor"],
        "gan_jax.metrics.duality": ["critic_gap", "kantorovich_rubinstein", "lipschitz_violation"],
        "gan_jax.metrics.estimate": ["Estimate", "Interval"],
        "gan_jax.metrics.extrapolation": ["frechet_extrapolated"],
        "gan_jax.metrics.features": [
            "Extractor",
            "Features",
            "classify",
            "extract",
            "from_callable",
            "pixels",
        ],
        "gan_jax.metrics.fingerprints": ["Fingerprint", "Scores", "score_table"],
        "gan_jax.metrics.frechet": ["frechet_distance", "frechet_interval"],
        "gan_jax.metrics.gaussians": [
            "Gaussian",
            "Moments",
            "merge_across_processes",
            "merge_moments",
            "moments",
        ],
        "gan_jax.metrics.images": ["image_scores", "stacked_digit_statistics"],
        "gan_jax.metrics.inception": ["inception_extractor"],
        "gan_jax.metrics.kernel": ["kernel_distance", "kernel_interval", "kernel_subsets"],
        "gan_jax.metrics.memorization": ["Memorization", "duplicate_pairs", "memorization_test", "nearest"],
        "gan_jax.metrics.modes": ["class_statistics", "mode_counts", "mode_statistics", "stacked_classes"],
        "gan_jax.metrics.monge": ["monge_distance"],
        "gan_jax.metrics.named": ["extractor_named"],
        "gan_jax.metrics.neural": ["CriticFamily", "NeuralDistance", "neural_distance"],
        "gan_jax.metrics.onnx": ["onnx_extractor"],
        "gan_jax.metrics.path_length": ["PathLength", "feature_distance", "perceptual_path_length"],
        "gan_jax.metrics.per_class": ["ClassFrechet", "class_frechet_distances"],
        "gan_jax.metrics.prdc": ["expected_coverage", "precision_recall_density_coverage"],
        "gan_jax.metrics.resize": ["PROTOCOLS", "Protocol"],
        "gan_jax.metrics.score": ["classifier_score"],
        "gan_jax.metrics.spatial": ["spatial_frechet_distance"],
        "gan_jax.metrics.support": [
            "birthday_test",
            "collision_probability",
            "samples_for_collision",
            "support_for_collision",
            "support_size",
        ],
        "gan_jax.metrics.transport": ["sliced_wasserstein", "wasserstein", "wasserstein_1d"],
        "gan_jax.metrics.two_sample": [
            "TwoSampleResult",
            "classifier_test",
            "energy_test",
            "interval_distance",
            "interval_test",
            "mmd_test",
        ],
        "gan_jax.metrics.vgg16": ["lpips_distance", "vgg16_extractor"],
    },
)

__all__ = [
    "PROTOCOLS",
    "ClassFrechet",
    "ClassificationAccuracy",
    "CriticFamily",
    "Estimate",
    "Extractor",
    "Features",
    "Fingerprint",
    "Gaussian",
    "Interval",
    "Memorization",
    "Moments",
    "NeuralDistance",
    "PathLength",
    "Protocol",
    "Scores",
    "TwoSampleResult",
    "birthday_test",
    "class_frechet_distances",
    "class_statistics",
    "classification_accuracy_score",
    "classifier_for",
    "classifier_score",
    "classifier_test",
    "classify",
    "clip_extractor",
    "collision_probability",
    "critic_gap",
    "dinov2_extractor",
    "duplicate_pairs",
    "energy_test",
    "expected_coverage",
    "extract",
    "extractor_named",
    "feature_distance",
    "frechet_distance",
    "frechet_extrapolated",
    "frechet_interval",
    "from_callable",
    "image_scores",
    "inception_extractor",
    "interval_distance",
    "interval_test",
    "kantorovich_rubinstein",
    "kernel_distance",
    "kernel_interval",
    "kernel_subsets",
    "lipschitz_violation",
    "load_classifier",
    "lpips_distance",
    "memorization_test",
    "merge_across_processes",
    "merge_moments",
    "mmd_test",
    "mode_counts",
    "mode_statistics",
    "moments",
    "monge_distance",
    "nearest",
    "neural_distance",
    "onnx_extractor",
    "perceptual_path_length",
    "pixels",
    "precision_recall_density_coverage",
    "samples_for_collision",
    "save_classifier",
    "score_table",
    "sliced_wasserstein",
    "spatial_frechet_distance",
    "stacked_classes",
    "stacked_digit_statistics",
    "support_for_collision",
    "support_size",
    "train_classifier",
    "vgg16_extractor",
    "wasserstein",
    "wasserstein_1d",
]
