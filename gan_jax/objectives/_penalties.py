"""Terms that add to any objective (`add_terms`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp

from gan_jax.functional import penalties
from gan_jax.functional.batch import named_key
from gan_jax.game import Game
from gan_jax.objectives._compose import Term
from gan_jax.objectives._look import critic_closure
from gan_jax.types import Array, Aux, Batch, Key, Moment, Players

Point: TypeAlias = Callable[[Key, Array, Array], Array]
"""Where a penalty looks: `(key, real, fake) -> x`, all `[B, ...]`."""
Penalty: TypeAlias = Callable[[penalties.Critic, Array], Array]
"""`(critic closure, x [B, ...]) -> [B]`."""
Weight: TypeAlias = float | Callable[[Array], Array]


def critic_penalty(
    name: str, point: Point, penalty: Penalty, weight: Weight, *, every: int = 1, critic: str = "critic"
) -> Term:
    """A penalty on the critic's gradient by its inputs, at points between or around real and fake.

    Conditions stay those of the real examples.

    Args:
      name: under which it is logged.
      point: where to look.
      penalty: the formula.
      weight: lambda.
      every: lazy regularisation.
      critic: whose loss it joins.
    """

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Array:
        real, *conditions = aux.seen["real"]
        fake = aux.seen["fake"][0]
        x = point(named_key(moment.key, "point"), real, fake)
        score = critic_closure(game, players, moment, tuple(conditions), critic)
        return jnp.mean(penalty(score, x))

    return Term(
        name=name,
        player=critic,
        value=value,
        weight=weight,
        every=every,
        adds=frozenset({"per_example"}),
    )


def gradient_penalty(
    weight: Weight = 10.0, *, target: float = 1.0, one_sided: bool = False, every: int = 1
) -> Term:
    """lambda E (||grad D(x_hat)|| - target)^2 on interpolates of real and fake (Gulrajani et al., 2017, (3))."""
    return critic_penalty(
        "gradient_penalty",
        penalties.interpolates,
        lambda critic, x: penalties.norm_penalty(critic, x, target, one_sided),
        weight,
        every=every,
    )


def r1(gamma: Weight = 10.0, *, every: int = 1) -> Term:
    """gamma/2 E ||grad D(x)||^2 at real samples (Mescheder et al., 2018, equation (9))."""
    return critic_penalty(
        "r1", lambda key, real, fake: real, penalties.zero_centred_penalty, gamma, every=every
    )


def r2(gamma: Weight = 10.0, *, every: int = 1) -> Term:
    """gamma/2 E ||grad D(x)||^2 at fake samples (Mescheder et al., 2018, equation (10))."""
    return critic_penalty(
        "r2", lambda key, real, fake: fake, penalties.zero_centred_penalty, gamma, every=every
    )
