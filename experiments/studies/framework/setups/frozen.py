"""A critic trained against a generator that does not move."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_jax.field import gradient_field
from gan_jax.game import Game, Objective, Player, TurnContext
from gan_jax.network import Network
from gan_jax.schedule import turn
from gan_jax.state import TrainState, with_player
from gan_jax.types import Array, Batch, Tree

CRITIC_ONLY = (turn("critic"),)


def shift_network(dim: int, along: int | None = None) -> Network:
    """G(z) = z + theta with a scalar parameter theta, in all coordinates or along one of them."""
    direction = jnp.ones(dim) if along is None else jnp.zeros(dim).at[along].set(1.0)

    def apply(
        params: Tree, model_state: Tree, z: Array, *, train: bool = False, key: Any = None
    ) -> tuple[Array, Tree]:
        return z + params * direction, model_state

    return Network(init=lambda key: (jnp.zeros(()), ()), apply=apply)


def frozen_game(
    objective: Objective, critic: Network, generator: Network, rate: float, b1: float = 0.5
) -> Game:
    """A game in which the critic alone moves, by Adam."""
    return Game(
        players={
            "critic": Player(critic, optax.adam(rate, b1=b1)),
            "generator": Player(generator, optax.sgd(1.0)),
        },
        objective=objective,
        schedule=CRITIC_ONLY,
    )


def with_generator(state: TrainState, params: Tree) -> TrainState:
    """The state with other parameters of the generator."""
    return state._replace(players=with_player(state.players, "generator", params=params))


def generator_gradient(
    game: Game, objective: Objective | None = None
) -> Callable[[TrainState, Batch, Array], Tree]:
    """`(state, batch, key) -> gradient` of the generator's loss, of another objective than the game's if given."""
    if objective is not None:
        game = dataclasses.replace(game, objective=objective)

    @jax.jit
    def gradient(state: TrainState, batch: Batch, key: Array) -> Tree:
        grads, _ = gradient_field(turn("generator"), TurnContext(game, state.players, batch, state.step, key))
        return grads["generator"]

    return gradient
