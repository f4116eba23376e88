"""Objectives: a file for each paper or family of papers, with a factory named after its module."""

from gan_jax.game import unconditional
from gan_jax.objectives._compose import two_player, unrolled, with_transforms
from gan_jax.objectives._critics import autoencoder_critic, class_critic, with_score
from gan_jax.objectives._forward import MissingEntryError, forward, generate, judge, label_condition, view
from gan_jax.objectives._penalties import (
    critic_penalty,
    dragan_penalty,
    gradient_penalty,
    max_penalty,
    mixture_penalty,
    r1,
    r2,
)
from gan_jax.objectives._regularizers import approximate_penalty, orthogonal_regularization, path_length
from gan_jax.objectives._term import Outcome, Term, TermContext, add_terms, term
from gan_jax.objectives._terms import (
    adaptive_augmentation,
    classification,
    consistency,
    feature_matching,
    historical_averaging,
    label_smoothing,
    latent_consistency,
    latent_diversity,
    lecam,
    mutual_information,
    reconstruction,
    top_k,
)

__all__ = [
    "MissingEntryError",
    "Outcome",
    "Term",
    "TermContext",
    "adaptive_augmentation",
    "add_terms",
    "approximate_penalty",
    "autoencoder_critic",
    "class_critic",
    "classification",
    "consistency",
    "critic_penalty",
    "dragan_penalty",
    "feature_matching",
    "forward",
    "generate",
    "gradient_penalty",
    "historical_averaging",
    "judge",
    "label_condition",
    "label_smoothing",
    "latent_consistency",
    "latent_diversity",
    "lecam",
    "max_penalty",
    "mixture_penalty",
    "mutual_information",
    "orthogonal_regularization",
    "path_length",
    "r1",
    "r2",
    "reconstruction",
    "term",
    "top_k",
    "two_player",
    "unconditional",
    "unrolled",
    "view",
    "with_score",
    "with_transforms",
]
