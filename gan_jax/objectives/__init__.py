"""Objectives: one paper or family a file, each a factory named after its module."""

from gan_jax.objectives._compose import (
    Term,
    add_terms,
    label_condition,
    prepared,
    two_player,
    unconditional,
    unrolled,
)
from gan_jax.objectives._terms import critic_penalty, gradient_penalty, r1, r2

__all__ = [
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
