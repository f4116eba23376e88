"""Objectives: one paper or family a file, each a factory named after its module."""

from gan_jax.objectives._compose import (
    Outcome,
    Term,
    add_terms,
    prepared,
    two_player,
    unrolled,
)
from gan_jax.objectives._critics import autoencoder_critic, class_critic, with_score
from gan_jax.objectives._look import label_condition, unconditional
from gan_jax.objectives._penalties import (
    critic_penalty,
    dragan_penalty,
    gradient_penalty,
    max_penalty,
    mixture_penalty,
    r1,
    r2,
)
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
    "Outcome",
    "Term",
    "adaptive_augmentation",
    "add_terms",
    "autoencoder_critic",
    "class_critic",
    "classification",
    "consistency",
    "critic_penalty",
    "dragan_penalty",
    "feature_matching",
    "gradient_penalty",
    "historical_averaging",
    "label_condition",
    "label_smoothing",
    "latent_consistency",
    "latent_diversity",
    "lecam",
    "max_penalty",
    "mixture_penalty",
    "mutual_information",
    "prepared",
    "r1",
    "r2",
    "reconstruction",
    "top_k",
    "two_player",
    "unconditional",
    "unrolled",
    "with_score",
]
