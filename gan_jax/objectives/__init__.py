"""Objectives: one paper or family a file, each a factory named after its module."""

from gan_jax.objectives._compose import (
    Outcome,
    Term,
    add_terms,
    prepared,
    two_player,
    unrolled,
)
from gan_jax.objectives._look import label_condition, unconditional
from gan_jax.objectives._penalties import critic_penalty, gradient_penalty, r1, r2

__all__ = [
    "Outcome",
    "Term",
    "add_terms",
    "critic_penalty",
    "gradient_penalty",
    "label_condition",
    "prepared",
    "r1",
    "r2",
    "two_player",
    "unconditional",
    "unrolled",
]
