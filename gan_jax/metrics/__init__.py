"""Samples against samples: how far, how many modes, and whether the difference is real."""

from gan_jax.metrics.modes import class_statistics, mode_counts, mode_statistics, stacked_classes

__all__ = ["class_statistics", "mode_counts", "mode_statistics", "stacked_classes"]
