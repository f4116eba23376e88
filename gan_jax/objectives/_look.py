"""How a loss sees its turn: conditions, fake samples, prepared inputs, and what the critic says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import flatten, named_key
from gan_jax.game import Game
from gan_jax.types import Array, Batch, Moment, Players, Tree

Condition = Callable[[Batch], tuple[Array, ...]]
"""Further inputs of a network, read off the batch."""
Read = Callable[[Mapping[str, Array]], Array]
"""What a loss is of, from the critic's output: its score, or a head."""


def score(out: Mapping[str, Array]) -> Array:
    """The critic's score `[B]`.

    Raises:
      ValueError: if the critic gives none.
    """
    return head(out, "score")


def features(out: Mapping[str, Array]) -> Array:
    """The critic's features `[B, D]`; a critic without such a head has one feature, its score."""
    return flatten(out["features"] if "features" in out else score(out))


def head(out: Mapping[str, Array], name: str) -> Array:
    """One of the critic's heads.

    Raises:
      ValueError: if the critic has no head of this name.
    """
    if name not in out:
        raise ValueError(
            f"The objective reads the critic's head {name!r}, but its network gives {sorted(out)}: build the "
            f"critic with this head (heads={{{name!r}: size}})."
        )
    return out[name]


def unconditional(batch: Batch) -> tuple[Array, ...]:
    """No further inputs."""
    return ()


def label_condition(batch: Batch) -> tuple[Array, ...]:
    """The label y `[B]`, given to generator and critic."""
    return (batch["y"],)


def batch_size(batch: Batch) -> int:
    """B of the batch's `x`."""
    return jax.tree.leaves(batch["x"])[0].shape[0]


def as_mapping(out: Any) -> dict[str, Array]:
    """A critic's output as a mapping, its heads in float32 (or wider): losses are not computed in bf16."""
    heads = dict(out) if isinstance(out, Mapping) else {"score": out}
    return {name: at_least_float32(head) for name, head in heads.items()}


def at_least_float32(x: Array) -> Array:
    """bf16 and f16 to float32; float32, float64 and integers as they are."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return x.astype(wide) if jnp.issubdtype(x.dtype, jnp.floating) else x


def generate(
    game: Game,
    players: Players,
    inputs: tuple[Any, ...],
    model_state: Tree,
    moment: Moment,
    name: str = "generator",
) -> tuple[Array, Tree]:
    """Fake samples `[B, ...]` of a generator's inputs, and its statistics after the call."""
    return game.networks[name].apply(
        players[name].params, model_state, *inputs, train=True, key=named_key(moment.key, name)
    )


def prepare_inputs(
    game: Game, players: Players, inputs: tuple[Array, ...], moment: Moment, name: str, critic: str = "critic"
) -> tuple[Array, ...]:
    """The critic's inputs as it will see them; `name` tells real from fake, which draw independently."""
    for place, prepare in enumerate(game.objective.prepare):
        inputs = prepare(
            inputs,
            key=named_key(moment.key, f"prepare/{place}/{name}"),
            step=moment.step,
            objective_state=players[critic].objective_state,
        )
    return inputs


def judge(
    game: Game,
    players: Players,
    inputs: tuple[Array, ...],
    model_state: Tree,
    moment: Moment,
    name: str,
    critic: str = "critic",
) -> tuple[dict[str, Array], Tree]:
    """The critic's output on prepared inputs, and its statistics after the call."""
    out, model_state = game.networks[critic].apply(
        players[critic].params,
        model_state,
        *inputs,
        train=True,
        key=named_key(moment.key, f"{critic}/{name}"),
    )
    return as_mapping(out), model_state


def look(
    game: Game,
    players: Players,
    batch: Batch,
    moment: Moment,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> tuple[dict[str, Any], Tree, Tree]:
    """Everything a two-player loss needs: `(seen, the generator's and the critic's new statistics)`.

    What a player's loss does not use is dropped by the compiler.
    """
    inputs: tuple[Any, ...] = condition(batch)
    seen: dict[str, Any] = {}
    if game.objective.prior is not None:
        seen["latent"] = game.objective.prior(named_key(moment.key, "latent"), batch_size(batch))
        inputs = (seen["latent"], *inputs)
    seen["inputs"] = inputs
    seen["sample"], generator_stats = generate(
        game, players, inputs, players["generator"].model_state, moment
    )
    seen["conditions"] = (critic_condition or condition)(batch)
    model_state = players["critic"].model_state
    for name, x in (("real", batch["x"]), ("fake", seen["sample"])):
        seen[name] = prepare_inputs(game, players, (x, *seen["conditions"]), moment, name)
        seen[f"{name}_out"], model_state = judge(game, players, seen[name], model_state, moment, name)
    return seen, generator_stats, model_state


def critic_closure(
    game: Game,
    players: Players,
    moment: Moment,
    conditions: tuple[Array, ...] = (),
    critic: str = "critic",
) -> Callable[[Array], Array]:
    """The critic as `x [B, ...] -> score [B]` at its current parameters; its statistics stay as they are."""

    def closure(x: Array) -> Array:
        out, _ = judge(
            game, players, (x, *conditions), players[critic].model_state, moment, "closure", critic
        )
        return score(out)

    return closure
