"""The forward passes of a turn: latents, samples, transformed inputs, and what the critic returns for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.dependence import couples_batch
from gan_jax.functional.batch import flatten
from gan_jax.functional.precision import at_least_float32
from gan_jax.functional.priors import draw_latents
from gan_jax.game import (
    Condition,
    CriticRole,
    Objective,
    TurnContext,
    check_score_shape,
    coupled_error,
    unconditional,
)
from gan_jax.network import batched_shapes, check_latent_shape, other_shapes
from gan_jax.outputs import CriticView, ForwardOutputs, head
from gan_jax.types import Array, Batch, Tree

Read = Callable[[Mapping[str, Array]], Array]
"""Selects the argument of a loss from the critic's outputs: its score, or a head."""


def score(outputs: Mapping[str, Array]) -> Array:
    """The critic's score `[B]`.

    Raises:
      ValueError: if the critic returns none.
    """
    return head(outputs, "score")


def features(outputs: Mapping[str, Array]) -> Array:
    """The critic's features `[B, D]`; a critic without such a head has one feature, its score."""
    return flatten(outputs["features"] if "features" in outputs else score(outputs))


class MissingEntryError(ValueError):
    """A batch lacks what a loss reads of it, `entry`."""

    def __init__(self, entry: str, message: str) -> None:
        super().__init__(message)
        self.entry = entry


def label_condition(batch: Batch) -> tuple[Array, ...]:
    """The label y `[B]`, given to generator and critic."""
    return (entry(batch, "y"),)


def entry(batch: Batch, name: str) -> Any:
    """One of a batch's entries, `[B, ...]`.

    Raises:
      MissingEntryError: if the batch has no such entry.
      ValueError: if it is no mapping, or the entry has no examples.

    >>> entry({"x": jnp.array([3])}, "x").shape
    (1,)
    """
    what = f"{_ENTRIES[name]} under {name!r}" if name in _ENTRIES else f"entry {name!r}"
    if not isinstance(batch, Mapping):
        raise ValueError(f"A batch is a mapping, {{'x': [B, ...]}}; got {type(batch).__name__}.")
    if name not in batch:
        raise MissingEntryError(name, f"The game needs a batch's {what}; this batch has {sorted(batch)}.")
    if any(leaf.shape[:1] == (0,) for leaf in jax.tree.leaves(batch[name])):
        raise ValueError(f"A batch has one example or more, but its {what} have shape {batch[name].shape}.")
    return batch[name]


_ENTRIES = {"x": "real examples", "y": "labels", "condition": "images to translate"}


def batch_size(batch: Batch) -> int:
    """B of the batch's `x`."""
    return jax.tree.leaves(entry(batch, "x"))[0].shape[0]


def generate(
    context: TurnContext, inputs: tuple[Any, ...], model_state: Tree, player: str = "generator"
) -> tuple[Array, Tree]:
    """Samples `[B, ...]` of a generator's inputs, and its model state after the call.

    Raises:
      ValueError: if the latent is not of the size that the network was made for.
    """
    network = context.game.players[player].network
    if context.game.objective.prior is not None:
        check_latent_shape(player, network, inputs)
    return network.apply(
        context.players[player].params, model_state, *inputs, train=True, key=context.key(player)
    )


def transform_inputs(
    context: TurnContext, inputs: tuple[Array, ...], name: str, critic: str = "critic"
) -> tuple[Array, ...]:
    """The critic's inputs after the objective's transforms; `name` keeps the draws of real and fake independent."""
    for place, transform in enumerate(context.game.objective.transforms):
        key = context.key(f"prepare/{place}/{name}")
        inputs = transform.apply(inputs, key, context.step, context.players[critic].objective_state)
    return inputs


def transform_name(objective: Objective, critic: str, kind: str) -> str:
    """By which a critic's input transforms draw for examples of a kind, `real` or `fake`.

    Where there are several critics, each one's draws are its own.
    """
    return kind if len(objective.with_role(CriticRole)) < 2 else f"{critic}/{kind}"


def judge(
    context: TurnContext, inputs: tuple[Array, ...], model_state: Tree, name: str, critic: str = "critic"
) -> tuple[dict[str, Array], Tree]:
    """The critic's outputs by name on transformed inputs, in float32 or wider, and its model state after the call.

    Raises:
      ValueError: if its score is not floating, `[B]` or `[B, ...patches]`, or the network cannot be called with
        inputs of other shapes than it was made for.
    """
    network = context.game.players[critic].network
    try:
        out, model_state = network.apply(
            context.players[critic].params,
            model_state,
            *inputs,
            train=True,
            key=context.key(f"{critic}/{name}"),
        )
    except Exception as error:
        if not other_shapes(network, inputs):
            raise
        raise ValueError(
            f"{critic!r} was made for {batched_shapes(network.inputs)} and is given {name} examples "
            f"{batched_shapes(inputs)}, for which its network fails: make it with an example of the data's shape."
        ) from error
    outputs = dict(out) if isinstance(out, Mapping) else {"score": out}
    if "score" in outputs:
        check_score_shape(critic, outputs["score"], inputs[0].shape[0])
    # Losses are not computed in bf16.
    return {head_name: at_least_float32(value) for head_name, value in outputs.items()}, model_state


def view(
    context: TurnContext,
    x: Array,
    conditions: tuple[Array, ...],
    model_state: Tree,
    name: str,
    *,
    critic: str = "critic",
    read: Read = score,
) -> tuple[CriticView, Tree]:
    """The critic's inputs and outputs for examples `x [B, ...]`, and its model state after the call.

    Args:
      context: the turn's context.
      x: the examples.
      conditions: the critic's extra inputs.
      model_state: the critic's model state before the call.
      name: `real`, `fake` or another name for the examples, from which the call's key is derived.
      critic: the critic's name.
      read: selects the score from the critic's outputs.
    """
    drawn_by = transform_name(context.game.objective, critic, name)
    inputs = transform_inputs(context, (x, *conditions), drawn_by, critic)
    outputs, model_state = judge(context, inputs, model_state, name, critic)
    return CriticView(inputs, x, conditions, outputs, read(outputs)), model_state


def forward(
    context: TurnContext,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
    read: Read = score,
) -> tuple[ForwardOutputs, dict[str, Tree]]:
    """The forward outputs for a loss of `critic` or `generator`, and both players' model states after the calls.

    The compiler drops what a player's loss does not use.

    Raises:
      ValueError: if the batch has no `x`.
    """
    examples, made, generator_state = _made(context, condition)
    assert made.samples is not None
    conditions = (critic_condition or condition)(context.batch)
    views, critic_state = _views(context, conditions, read, examples, made.samples)
    outputs = made._replace(real=views[0], fake=views[1])
    return outputs, {"generator": generator_state, "critic": critic_state}


def forward_with_slopes(
    context: TurnContext,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> tuple[ForwardOutputs, dict[str, Tree], tuple[Array, Array]]:
    """`forward`, and the gradients of the critic's scores by the raw real and fake examples, `[B, ...]` each.

    The scores and the slopes are of the same calls, with the same draws: one forward and one backward pass. Where
    the critic couples the examples of its batch, the slopes are of the sum of the scores.

    Raises:
      ValueError: if the batch has no `x`.
    """
    examples, made, generator_state = _made(context, condition)
    conditions = (critic_condition or condition)(context.batch)

    def judged(real: Array, fake: Array) -> tuple[tuple[Array, Array], Any]:
        views, critic_state = _views(context, conditions, score, real, fake)
        return (views[0].score, views[1].score), (views, critic_state)

    scores, slopes_of, (views, critic_state) = jax.vjp(judged, examples, made.samples, has_aux=True)
    slopes = slopes_of(jax.tree.map(jnp.ones_like, scores))
    outputs = made._replace(real=views[0], fake=views[1])
    return outputs, {"generator": generator_state, "critic": critic_state}, slopes


def _made(context: TurnContext, condition: Condition) -> tuple[Array, ForwardOutputs, Tree]:
    """The real examples, the outputs of a generator's call, and its model state after the call."""
    batch, prior = context.batch, context.game.objective.prior
    examples = entry(batch, "x")
    latent = None
    generator_inputs: tuple[Any, ...] = condition(batch)
    if prior is not None:
        latent = draw_latents(prior, context.key("latent"), batch_size(batch))
        generator_inputs = (latent, *generator_inputs)
    samples, state = generate(context, generator_inputs, context.players["generator"].model_state)
    made = ForwardOutputs(samples=samples, latent=latent, generator_inputs=generator_inputs)
    return examples, made, state


def _views(
    context: TurnContext, conditions: tuple[Array, ...], read: Read, real: Array, fake: Array
) -> tuple[tuple[CriticView, CriticView], Tree]:
    """The critic's views of real and fake examples, and its model state after both calls.

    Raises:
      ValueError: if they are of different shapes: a critic that flattens its inputs judges either.
    """
    state = context.players["critic"].model_state
    of_real, state = view(context, real, conditions, state, "real", read=read)
    of_fake, state = view(context, fake, conditions, state, "fake", read=read)
    if batched_shapes(real) != batched_shapes(fake):
        raise ValueError(
            f"The real examples are {batched_shapes(real)} and the generator's samples {batched_shapes(fake)}: "
            "make the generator with the data's shape, and give images as [N, H, W, C]."
        )
    return (of_real, of_fake), state


def check_uncoupled(context: TurnContext, critic: str, inputs: tuple[Array, ...], term: str) -> None:
    """Checks that a critic does not couple its batch, if its network specifies no inputs for the game's check.

    Raises:
      ValueError: if the network couples the examples of its batch.
    """
    network = context.game.players[critic].network
    if network.inputs is None and couples_batch(network.init, network.apply, inputs):
        raise coupled_error(term, critic)


def mean_score(real: Array, fake: Array) -> tuple[Array, Array]:
    """One score per example, the mean over its patches: `[B, ...]` to `[B]`."""
    return jnp.mean(flatten(real), axis=1), jnp.mean(flatten(fake), axis=1)
