"""Formulas on arrays: penalties, kernels, divergences, priors, augmentation."""
