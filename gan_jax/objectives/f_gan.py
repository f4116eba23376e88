"""The f-GAN of Nowozin et al. (2016): any f-divergence, by its variational lower bound.

    F(theta, omega) = E_x[g_f(V_omega(x))] - E_z[f*(g_f(V_omega(G(z))))]                          (6)

The critic's score is V; it maximises F, the generator minimises it. F is never above D_f(P || Q_theta), and equal
to it at g_f(V) = f'(p / q). The formulas are `functional.f_divergences`.
"""

from __future__ import annotations

import functools

from gan_jax.functional.f_divergences import F_DIVERGENCES, FDivergence
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.types import Array

KL = F_DIVERGENCES["kl"]
LOGITS = ("gan", "jensen_shannon")
"""Divergences whose score is a logit: their bounds are the minimax value, and the minimax value + log 4."""


def critic_loss(real: Array, fake: Array, divergence: FDivergence = KL) -> Array:
    """-g_f(V(x)) + f*(g_f(V(G(z)))), the bound's negative: `[B]`.

    >>> import jax.numpy as jnp
    >>> print(critic_loss(jnp.array([2.0]), jnp.array([1.0])))  # -2 + exp(1 - 1)
    [-1.]
    """
    return divergence.penalty(fake) - divergence.activation(real)


def generator_loss(real: Array, fake: Array, divergence: FDivergence = KL) -> Array:
    """-f*(g_f(V(G(z)))), the part of the bound that depends on the generator: `[B]`."""
    return -divergence.penalty(fake)


def heuristic_generator_loss(real: Array, fake: Array, divergence: FDivergence = KL) -> Array:
    """-g_f(V(G(z))), which does not vanish early: section 3.2 of the paper, -log D for `gan`: `[B]`."""
    return -divergence.activation(fake)


def f_gan(
    prior: Prior,
    *,
    divergence: str | FDivergence = "kl",
    heuristic: bool = False,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The objective of one f-divergence.

    Args:
      prior: draws the latent z.
      divergence: a key of `F_DIVERGENCES`, or an `FDivergence` such as `alpha_divergence(a)` or
        `skewed_jensen_shannon_divergence(w)`.
      heuristic: let the generator maximise E g_f(V(G(z))) instead of minimising the bound.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if there is no divergence of this name.

    References:
      Nowozin et al., f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization, 2016,
      equation (6), Tables 2 and 6 (arXiv:1606.00709).
    """
    if isinstance(divergence, str):
        if divergence not in F_DIVERGENCES:
            raise ValueError(
                f"There is no f-divergence {divergence!r}: expected one of {sorted(F_DIVERGENCES)}, or "
                "alpha_divergence(a) or skewed_jensen_shannon_divergence(w)."
            )
        divergence = F_DIVERGENCES[divergence]
    return two_player(
        critic=functools.partial(critic_loss, divergence=divergence),
        generator=functools.partial(
            heuristic_generator_loss if heuristic else generator_loss, divergence=divergence
        ),
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
        logits=divergence.name in LOGITS,
    )
