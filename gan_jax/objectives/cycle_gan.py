"""Unpaired image-to-image translation, of Zhu et al. (2017): four players.

    L_GAN(G, D_B) = E_b[(D_B(b) - 1)^2] + E_a[D_B(G(a))^2] for the critic, E_a[(D_B(G(a)) - 1)^2] for G
    L_cyc(G, F) = E_a[||F(G(a)) - a||_1] + E_b[||G(F(b)) - b||_1]                                (2)
    L = L_GAN(G, D_B) + L_GAN(F, D_A) + lambda L_cyc                                             (3)

G is `generator_ab`, F is `generator_ba`. Domain A is the batch's `condition`, B its `x`; they need not be pairs.
The paper's history of 50 generated images for the critics is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from gan_jax.functional.batch import flatten
from gan_jax.functional.options import check_number
from gan_jax.game import CriticRole, GeneratorRole, Objective, PlayerObjective, TurnContext, loss_output
from gan_jax.objectives._forward import entry, generate, view
from gan_jax.outputs import ForwardOutputs, LossOutput
from gan_jax.types import Array, Batch, Tree

CYCLE = 10.0


class Direction(NamedTuple):
    """One direction of translation.

    Attributes:
      generator: the player that translates.
      back: the player that translates back.
      critic: the player that scores the translations.
      source, target: the batch's entries of the images to translate and of real images of the other domain.
    """

    generator: str
    back: str
    critic: str
    source: str
    target: str


DIRECTIONS = (
    Direction("generator_ab", "generator_ba", "critic_b", "condition", "x"),
    Direction("generator_ba", "generator_ab", "critic_a", "x", "condition"),
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


def _adversarial(context: TurnContext, direction: Direction) -> tuple[ForwardOutputs, dict[str, Tree]]:
    """A direction's samples and its critic's outputs, and the model states of both players after the calls."""
    generator, critic = direction.generator, direction.critic
    source = (entry(context.batch, direction.source),)
    samples, generator_state = generate(context, source, context.players[generator].model_state, generator)
    state = context.players[critic].model_state
    target = entry(context.batch, direction.target)
    real, state = view(context, target, (), state, "real", critic=critic)
    fake, state = view(context, samples, (), state, "fake", critic=critic)
    outputs = ForwardOutputs(real, fake, samples, generator_inputs=source)
    return outputs, {generator: generator_state, critic: state}


def _critic(direction: Direction) -> PlayerObjective:
    critic = direction.critic

    def loss(context: TurnContext) -> LossOutput:
        outputs, states = _adversarial(context, direction)
        assert outputs.real is not None
        assert outputs.fake is not None
        losses = critic_loss(outputs.real.score, outputs.fake.score)
        return loss_output(context, critic, losses, model_state=states[critic], outputs=outputs)

    return PlayerObjective(role=CriticRole(direction.generator, direction.target), loss=loss)


def _distance(a: Array, b: Array) -> Array:
    """The L1 distance of images, a mean over pixels: `[B]`."""
    return jnp.mean(flatten(jnp.abs(a - b)), axis=1)


def _generator(direction: Direction, cycle: float, identity: float) -> PlayerObjective:
    generator, back = direction.generator, direction.back

    def source_condition(batch: Batch) -> tuple[Array, ...]:
        return (entry(batch, direction.source),)

    def loss(context: TurnContext) -> LossOutput:
        source, target = context.batch[direction.source], context.batch[direction.target]
        outputs, states = _adversarial(context, direction)
        assert outputs.fake is not None
        assert outputs.samples is not None
        adversarial = jnp.mean(flatten(generator_loss(outputs.fake.score, outputs.fake.score)), axis=1)
        # Both cycles use this generator: the first starts with it, the second ends with it.
        other, state = context.players[back].model_state, states[generator]
        returned, _ = generate(context, (outputs.samples,), other, back)
        translated, _ = generate(context, (target,), other, back)
        reconstructed, state = generate(context, (translated,), state, generator)
        cycles = _distance(returned, source) + _distance(reconstructed, target)
        losses = adversarial + cycle * cycles
        metrics = {"adversarial": jnp.mean(adversarial), "cycle": jnp.mean(cycles)}
        if identity:
            same, state = generate(context, (target,), state, generator)
            kept = _distance(same, target)
            metrics["identity"] = jnp.mean(kept)
            losses = losses + identity * kept
        return loss_output(context, generator, losses, model_state=state, outputs=outputs, metrics=metrics)

    role = GeneratorRole(target=direction.target, condition=source_condition)
    return PlayerObjective(role=role, loss=loss)


def cycle_gan(*, cycle: float = CYCLE, identity: float = 0.0) -> Objective:
    """The cycle-consistent objective of `generator_ab`, `generator_ba`, `critic_a` and `critic_b`.

    Args:
      cycle: lambda, the weight of L_cyc.
      identity: the weight of E_b ||G(b) - b||_1, which keeps colours (section 5.2; half of lambda there).

    Raises:
      ValueError: if an option is out of its range.

    References:
      Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, 2017,
      equations (2) and (3), section 4 (arXiv:1703.10593).
    """
    check_number("cycle_gan", "cycle", cycle, least=0)
    check_number("cycle_gan", "identity", identity, least=0)
    ab, ba = DIRECTIONS
    return Objective(
        players={
            "critic_a": _critic(ba),
            "critic_b": _critic(ab),
            "generator_ab": _generator(ab, cycle, identity),
            "generator_ba": _generator(ba, cycle, identity),
        }
    )
