"""Unpaired image-to-image translation, of Zhu et al. (2017): four players.

    L_GAN(G, D_B) = E_b[(D_B(b) - 1)^2] + E_a[D_B(G(a))^2] for the critic, E_a[(D_B(G(a)) - 1)^2] for G
    L_cyc(G, F) = E_a[||F(G(a)) - a||_1] + E_b[||G(F(b)) - b||_1]                                (2)
    L = L_GAN(G, D_B) + L_GAN(F, D_A) + lambda L_cyc                                             (3)

G is `generator_ab`, F is `generator_ba`. Domain A is the batch's `condition`, B its `x`; they need not be pairs.
The paper's history of 50 generated images for the critics is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from gan_jax.game import Game, Objective
from gan_jax.objectives._look import generate, judge, prepare_inputs, score
from gan_jax.types import Array, Aux, Batch, LossFn, Moment, Players, Tree

CYCLE = 10.0


class Side(NamedTuple):
    """One direction of translation."""

    generator: str
    back: str
    critic: str
    source: str
    target: str


SIDES = (
    Side("generator_ab", "generator_ba", "critic_b", "condition", "x"),
    Side("generator_ba", "generator_ab", "critic_a", "x", "condition"),
)


def critic_loss(real: Array, fake: Array) -> Array:
    """(D(b) - 1)^2 + D(G(a))^2: `[B]`.

    >>> print(critic_loss(jnp.array([3.0]), jnp.array([2.0])))
    [8.]
    """
    return jnp.square(real - 1) + jnp.square(fake)


def generator_loss(real: Array, fake: Array) -> Array:
    """(D(G(a)) - 1)^2: `[B]`."""
    return jnp.square(fake - 1)


def _translate(
    game: Game, players: Players, x: Array, model_state: Tree, moment: Moment, name: str
) -> tuple[Array, Tree]:
    return generate(game, players, (x,), model_state, moment, name)


def _adversarial(
    game: Game, players: Players, batch: Batch, moment: Moment, side: Side
) -> tuple[dict[str, Any], Tree, Tree]:
    """What a critic sees of one direction: `(seen, the generator's and the critic's statistics)`."""
    sample, generator_stats = _translate(
        game, players, batch[side.source], players[side.generator].model_state, moment, side.generator
    )
    seen: dict[str, Any] = {"sample": sample, "conditions": ()}
    model_state = players[side.critic].model_state
    for name, x in (("real", batch[side.target]), ("fake", sample)):
        place = f"{side.critic}/{name}"
        seen[name] = prepare_inputs(game, players, (x,), moment, place, side.critic)
        seen[f"{name}_out"], model_state = judge(
            game, players, seen[name], model_state, moment, name, side.critic
        )
    return seen, generator_stats, model_state


def _critic(side: Side) -> LossFn:
    def loss(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
        seen, _, model_state = _adversarial(game, players, batch, moment, side)
        real, fake = score(seen["real_out"]), score(seen["fake_out"])
        total = jnp.mean(critic_loss(real, fake))
        scores, objective_state = {"real": real, "fake": fake}, players[side.critic].objective_state
        return total, Aux(model_state, objective_state, scores, {"loss": total}, seen)

    return loss


def _generator(side: Side, cycle: float, identity: float) -> LossFn:
    def loss(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
        source, target = batch[side.source], batch[side.target]
        seen, model_state, _ = _adversarial(game, players, batch, moment, side)
        fake = score(seen["fake_out"])
        adversarial = jnp.mean(generator_loss(fake, fake))
        # Both cycles go through this generator: there from its own samples, and back from the other's.
        other = players[side.back].model_state
        returned, _ = _translate(game, players, seen["sample"], other, moment, side.back)
        there, _ = _translate(game, players, target, other, moment, side.back)
        back, model_state = _translate(game, players, there, model_state, moment, side.generator)
        cycles = jnp.mean(jnp.abs(returned - source)) + jnp.mean(jnp.abs(back - target))
        total = adversarial + cycle * cycles
        metrics = {"adversarial": adversarial, "cycle": cycles}
        if identity:
            same, model_state = _translate(game, players, target, model_state, moment, side.generator)
            metrics["identity"] = jnp.mean(jnp.abs(same - target))
            total = total + identity * metrics["identity"]
        objective_state = players[side.generator].objective_state
        return total, Aux(model_state, objective_state, {"fake": fake}, {**metrics, "loss": total}, seen)

    return loss


def cycle_gan(*, cycle: float = CYCLE, identity: float = 0.0) -> Objective:
    """The cycle-consistent objective of `generator_ab`, `generator_ba`, `critic_a` and `critic_b`.

    Args:
      cycle: lambda.
      identity: the weight of E_b ||G(b) - b||_1, which keeps colours (section 5.2; half of lambda there).

    References:
      Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, 2017,
      equations (2) and (3), section 4 (arXiv:1703.10593).
    """
    ab, ba = SIDES
    return Objective(
        losses={
            "critic_a": _critic(ba),
            "critic_b": _critic(ab),
            "generator_ab": _generator(ab, cycle, identity),
            "generator_ba": _generator(ba, cycle, identity),
        },
        traits=frozenset({"mean"}),
    )
