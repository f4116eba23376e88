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

__all__ = [
    "Outcome",
    "Term",
    "add_terms",
    "autoencoder_critic",
    "class_critic",
    "critic_penalty",
    "dragan_penalty",
    "gradient_penalty",
    "label_condition",
    "max_penalty",
    "mixture_penalty",
    "prepared",
    "r1",
    "r2",
    "two_player",
    "unconditional",
    "unrolled",
    "with_score",
]
