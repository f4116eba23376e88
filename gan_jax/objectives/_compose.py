"""Building blocks of objectives: two players' losses from two formulas, input transforms, unrolling."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.functional.priors import Prior
from gan_jax.game import (
    Condition,
    CriticRole,
    Game,
    GeneratorRole,
    InputTransform,
    LossFn,
    Objective,
    PlayerObjective,
    TurnContext,
    check_objective,
    loss_output,
    unconditional,
)
from gan_jax.keys import named_key
from gan_jax.objectives._forward import Read, forward, score
from gan_jax.outputs import LossOutput
from gan_jax.play import apply_turn
from gan_jax.schedule import Turn, is_count
from gan_jax.types import Array

ScoreLoss = Callable[[Array, Array], Array]
"""`(real scores [B], fake scores [B]) -> [B]` if the loss is a mean over examples, else a scalar."""
Realness = Callable[[Array, Array], tuple[Array, Array]]
"""`(real, fake) -> (real [B], fake [B])`: one number per example, higher for what the critic takes for real."""


def two_player(
    *,
    critic: ScoreLoss,
    generator: ScoreLoss,
    prior: Prior | None,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
    read: Read = score,
    realness: Realness | None = None,
    logits: bool = False,
    on_features: bool = False,
) -> Objective:
    """An objective for a critic and a generator, from their losses as functions of scores.

    Args:
      critic: the critic's loss, a function of real and fake scores.
      generator: the generator's loss, a function of real and fake scores.
      prior: draws the latent z; `None` if the generator's only input is the condition.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.
      read: selects the argument of the losses from the critic's outputs; its score by default.
      realness: one number per example, from the arguments of the losses, which are used directly by default.
      logits: the critic's loss is softplus(-real) + softplus(fake).
      on_features: the losses are of the critic's features, not of its scores.

    Returns:
      An objective for the players `critic` and `generator`.

    Raises:
      ValueError: if a loss is no function, or the prior none of a key and a number.

    >>> from gan_jax.functional.priors import gaussian
    >>> margin = two_player(
    ...     critic=lambda r, f: jax.nn.relu(1 - (r - f)), generator=lambda r, f: -f, prior=gaussian(16)
    ... )
    >>> list(margin.players)
    ['critic', 'generator']
    """
    for name, given in (("critic", critic), ("generator", generator)):
        if not callable(given):
            raise ValueError(f"two_player({name}={given!r}): {name} is a function of real and fake scores.")

    def make_loss(player: str, score_loss: ScoreLoss) -> LossFn:
        def loss(context: TurnContext) -> LossOutput:
            outputs, model_states = forward(context, condition, critic_condition, read)
            assert outputs.real is not None
            assert outputs.fake is not None
            real, fake = outputs.real.score, outputs.fake.score
            losses = score_loss(real, fake)
            if realness is not None:
                real, fake = realness(real, fake)
                outputs = outputs._replace(
                    real=outputs.real._replace(score=real), fake=outputs.fake._replace(score=fake)
                )
            return loss_output(context, player, losses, model_state=model_states[player], outputs=outputs)

        return loss

    return Objective(
        players={
            "critic": PlayerObjective(role=CriticRole(), loss=make_loss("critic", critic)),
            "generator": PlayerObjective(
                role=GeneratorRole(condition=condition), loss=make_loss("generator", generator)
            ),
        },
        prior=prior,
        logits=logits,
        on_features=on_features,
    )


def with_transforms(objective: Objective, *transforms: InputTransform) -> Objective:
    """Returns the objective with `transforms` appended to its input transforms.

    They are applied in order to the critics' real and fake inputs alike.

    Raises:
      ValueError: if a transform packs inputs although a term reads single examples, or reads a state that no term
        keeps.
    """
    check_objective(objective, "with_transforms")
    for transform in transforms:
        if not isinstance(transform, InputTransform):
            raise ValueError(
                f"An input transform is an InputTransform(name=..., apply=...), got {transform!r}."
            )
        readers = [record.name for record in objective.terms if record.single_examples]
        if transform.packs > 1 and readers:
            raise ValueError(
                f"The input transform {transform.name!r} packs examples, but the terms {readers} read the critic's "
                "outputs for single ones."
            )
        critics = objective.with_role(CriticRole)
        wanted = transform.reads_state
        if wanted is not None and not all(wanted in objective.players[c].initial_state for c in critics):
            raise ValueError(
                f"The input transform {transform.name!r} reads the state {wanted!r} of the critic, which no term "
                "keeps: add the term first, as adaptive_augmentation() is for 'ada'."
            )
        objective = dataclasses.replace(objective, transforms=(*objective.transforms, transform))
    return objective


def unrolled(
    objective: Objective,
    steps: int,
    *,
    player: str = "generator",
    opponent: str = "critic",
    remat: bool = False,
) -> Objective:
    """Lets `player` minimise its loss as it will be after `steps` turns of its opponent.

    The opponent's turns are those of `objective`, on the turn's own batch, through `game.field` and the
    opponent's own optimiser; the gradient runs through all of them. Adam needs `eps_root=1e-8`, RMSProp
    `eps_in_sqrt=True` (`wgan.optimizer(differentiable=True)`), since a square root has no derivative at zero.

    Args:
      objective: the base objective; `steps=0` returns it unchanged.
      steps: K, at least 0.
      player: the player whose loss is evaluated after the opponent's turns.
      opponent: the player whose turns are unrolled.
      remat: recompute each turn in the backward pass rather than store it, to save memory.

    Raises:
      ValueError: if `steps` is negative or a player is not in the objective; when a game is constructed, if the
        opponent's optimiser has no derivative.

    References:
      Metz et al., Unrolled Generative Adversarial Networks, 2017, equations (4) to (8) (arXiv:1611.02163).
    """
    if not is_count(steps, least=0):
        raise ValueError(f"unrolled takes 0 or more whole steps, got {steps!r}.")
    if missing := {player, opponent} - set(objective.players):
        raise ValueError(
            f"unrolled names {sorted(missing)}, but the players are {sorted(objective.players)}."
        )
    if steps == 0:
        return objective
    base = objective.players[player].loss

    def loss(context: TurnContext) -> LossOutput:
        inner = dataclasses.replace(context, game=dataclasses.replace(context.game, objective=objective))

        def opponent_turn(state: Any, place: Array) -> tuple[Any, None]:
            key = jax.random.fold_in(named_key(context.turn_key, "unrolled"), place)
            before = inner.with_key(key).with_players({**context.players, opponent: state})
            after, _ = apply_turn(Turn((opponent,)), before)
            return after[opponent], None

        step = jax.checkpoint(opponent_turn) if remat else opponent_turn
        state, _ = jax.lax.scan(step, context.players[opponent], jnp.arange(steps))
        return base(inner.with_players({**context.players, opponent: state}))

    changed = objective.with_player(player, loss=loss)
    check = functools.partial(_check_differentiable, opponent)
    return dataclasses.replace(changed, checks=(*objective.checks, check))


def _check_differentiable(opponent: str, game: Game) -> None:
    """Raises a `ValueError` if the opponent's first step has no derivative at a gradient with a zero entry."""
    optimizer = game.players[opponent].optimizer

    def step(gradient: Array) -> Array:
        params = {"alive": jnp.ones(()), "dead": jnp.ones(())}
        gradients = {"alive": jnp.ones(()), "dead": gradient}
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return updates["dead"]

    slope_at = jax.jit(jax.grad(step))
    with jax.ensure_compile_time_eval():  # games are also constructed while tracing
        try:
            slope_at.trace(jnp.zeros(()))
        except Exception:  # an optimiser that only accepts the player's parameters, by their names or shapes
            return
        slope = float(slope_at(jnp.zeros(())))
    if not math.isfinite(slope):
        raise ValueError(
            f"unrolled differentiates through the optimiser of {opponent!r}, whose step has no derivative where a "
            "gradient is zero: the first dead unit would make the loss NaN. Give it an eps under the root: "
            "optax.adam(..., eps_root=1e-8), optax.rmsprop(..., eps_in_sqrt=True)."
        )
