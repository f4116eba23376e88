"""Samples of generators, and the pictures that experiments make of them.

A state that lies on several devices is sampled on all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from gan_jax.distributed.mesh import mesh_of, replicated_on
from gan_jax.game import Game, GeneratorRole
from gan_jax.keys import named_key
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.types import Array, Batch, Key, Tree

CHUNK = 1000
"""Latents drawn with one key."""
BLOCK = 250
"""Samples that one device computes at once, however many devices there are: rounding depends on it."""


def generator_variables(state: TrainState, player: str = "generator", ema: bool = True) -> tuple[Tree, Tree]:
    """A generator's `(params, model_state)`: its moving average where it keeps one and `ema` asks for it."""
    if ema and player in state.ema:
        return state.ema[player]
    return state.players[player].params, state.players[player].model_state


def generators_of(game: Game, player: str | None = None) -> tuple[str, ...]:
    """The players that make samples, or the one that is named.

    Raises:
      ValueError: if there is none, or the one named is not among them.
    """
    names = game.objective.with_role(GeneratorRole)
    if player is None:
        if not names:
            raise ValueError(f"No player of this game makes samples; its players are {sorted(game.players)}.")
        return names
    if player not in names:
        raise ValueError(f"The players that make samples are {', '.join(names)}; got {player!r}.")
    return (player,)


def _role(game: Game, player: str) -> GeneratorRole:
    role = game.players[player].role
    assert isinstance(role, GeneratorRole)
    return role


@functools.lru_cache(maxsize=32)
def _sampler(game: Game, player: str, mesh: Mesh | None, kind: Any) -> Callable[..., Array]:
    """`(variables, key's words, numbers of the blocks, their inputs) -> samples`, a block on each device.

    Every device runs one and the same program on its block, so that samples agree to the last bits on any number of
    devices: on their way to 256 levels a rounding error can become a level.
    """

    network = game.players[player].network

    def block(variables: tuple[Tree, Tree], words: Array, number: Array, inputs: Any) -> Array:
        key = named_key(jax.random.wrap_key_data(words, impl=kind), player)
        block_key = jax.random.fold_in(key, number[0])
        return network.apply(*variables, *inputs, train=False, key=block_key)[0]

    if mesh is None:
        return jax.jit(block)
    everywhere, divided = PartitionSpec(), PartitionSpec(mesh.axis_names)
    shared = jax.shard_map(
        block,
        mesh=mesh,
        in_specs=(everywhere, everywhere, divided, divided),
        out_specs=divided,
        check_vma=False,
    )
    return jax.jit(shared, out_shardings=replicated_on(mesh))


def sample(
    game: Game,
    state: TrainState,
    key: Key,
    n: int,
    *,
    player: str | None = None,
    ema: bool = True,
    condition_batch: Callable[[int], Batch] = lambda n: {},
) -> np.ndarray:
    """Samples of a generator in evaluation (running statistics, no noise in layers).

    Args:
      game: the game.
      state: whose generator; on several devices, they share the work.
      key: the draw; the same key gives the same latents whatever the parameters and the devices.
      n: how many.
      player: which generator, where the game has several.
      ema: use the moving average where the generator keeps one.
      condition_batch: `n -> a batch [n, ...]` of what the generator's condition is read off: labels, images.

    Returns:
      `[n, ...]`, images in [-1, 1].

    Raises:
      ValueError: if `n` is below 1, or the player is not one generator of the game.
    """
    if n < 1:
        raise ValueError(f"Ask for 1 or more samples, got {n}.")
    names = generators_of(game, player)
    if len(names) > 1:
        raise ValueError(f"The game has several generators: say player={' or '.join(map(repr, names))}.")
    (name,) = names
    mesh = mesh_of(state)
    variables, prior = generator_variables(state, name, ema), game.objective.prior
    draw = _sampler(game, name, mesh, jax.random.key_impl(key))
    inputs = tuple(jax.tree.map(np.asarray, _role(game, name).condition(condition_batch(n))))
    if prior is not None:
        inputs = (_latents(prior, key, n), *inputs)
    # Blocks of one size, so that one program serves all; the last one's surplus is dropped.
    size, together = min(BLOCK, n), 1 if mesh is None else mesh.size
    parts = []
    for start in range(0, n, size * together):
        here = jax.tree.map(lambda x, a=start: _padded(x[a : a + size * together], size * together), inputs)
        numbers = np.arange(together, dtype=np.int32) + start // size
        parts.append(np.asarray(draw(variables, np.asarray(jax.random.key_data(key)), numbers, here)))
    return np.concatenate(parts)[:n]


def _latents(prior: Callable[[Key, int], Tree], key: Key, n: int) -> Tree:
    """`n` latents as numbers: drawn by themselves, since the devices are not to decide what is drawn."""
    parts = [
        prior(named_key(jax.random.fold_in(key, start), "latent"), min(CHUNK, n - start))
        for start in range(0, n, CHUNK)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)


def sample_shape(experiment: Experiment, state: TrainState, player: str | None = None) -> tuple[int, ...]:
    """The shape of one sample, of a state or of its shapes; nothing is drawn."""
    game = experiment.game
    name = generators_of(game, player)[0]

    def draw(state: TrainState, key: Key) -> Array:
        prior = game.objective.prior
        conditions = _role(game, name).condition(experiment.condition_batch(1))
        inputs = conditions if prior is None else (prior(key, 1), *conditions)
        variables = generator_variables(state, name)
        return game.players[name].network.apply(*variables, *inputs, train=False, key=key)[0]

    return jax.eval_shape(draw, state, jax.random.key(0)).shape[1:]


def _padded(x: np.ndarray, size: int) -> np.ndarray:
    """`x` with its last row repeated up to `size` rows."""
    return np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)]) if len(x) < size else x


def picture_name(generators: tuple[str, ...], player: str) -> str:
    """How a generator's pictures are named.

    >>> picture_name(("generator",), "generator"), picture_name(("a", "b"), "b")
    ('samples', 'samples_b')
    """
    return "samples" if len(generators) == 1 else f"samples_{player}"


def pictures(
    experiment: Experiment, state: TrainState, *, ema: bool = True
) -> dict[str, Callable[[], np.ndarray]]:
    """What draws the experiment's pictures of `state`, by name, each uint8 `[H, W, C]`.

    The samples, always of the same latents, are there already; the drawing is left to the caller's thread.

    A game with one generator has the picture `samples`; with several, each has `samples_<player>`.
    """
    key = named_key(jax.random.key(experiment.seed), "picture")
    drawn: dict[str, Callable[[], np.ndarray]] = {}
    names = generators_of(experiment.game)
    for name in names:
        samples = sample(
            experiment.game,
            state,
            key,
            experiment.picture_samples,
            player=name,
            ema=ema,
            condition_batch=experiment.condition_batch,
        )
        drawn[picture_name(names, name)] = functools.partial(experiment.picture_of(name), samples)
    return drawn
