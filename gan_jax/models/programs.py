"""A game's networks as programs in evaluation mode: pure functions of named weights, a key and inputs.

They are what a `Model` computes with, and what is exported beside a run's checkpoints, so that a generator is used
without the Python that it was written in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.dependence import example_dependence
from gan_jax.evaluation.sampling import CHUNK
from gan_jax.functional.priors import draw_latents
from gan_jax.game import CriticRole, GeneratorRole
from gan_jax.network import Network
from gan_jax.precision import at_highest_precision
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state
from gan_jax.types import Array, Tree

KEY_IMPL = "threefry2x32"
"""The random bits of every program; its key data are two unsigned integers."""
WHOLE_BATCH = 0
"""The group of a program whose outputs depend on all examples of a batch, or on others than their neighbours."""
_TRACED = (64, 60, 56, 63)
"""Batches by which groups are found: multiples of all sizes to 10, and of most to 32."""
KEY_SHAPE = jax.ShapeDtypeStruct((2,), jnp.uint32)


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A network in evaluation mode, or a part of one.

    Attributes:
      call: `(weights by name, key data, *inputs) -> output`; every leaf of inputs and output is `[B, ...]`. Without
        a key, `None`, a network in Python draws no noise.
      weights: shapes of the weights, by name; keys among them are their data.
      inputs: shapes of the inputs, `[1, ...]`.
      group: what `group_of` says, where the program is not traced for it.
    """

    call: Callable[..., Any]
    weights: Mapping[str, jax.ShapeDtypeStruct]
    inputs: tuple[Any, ...]
    group: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Programs:
    """What a game's networks compute, by player.

    Attributes:
      generators: `(weights, key data, latent, *conditions) -> samples`, without the latent if there is none.
      critics: `(weights, key data, examples, *conditions) -> {"score": [B], ...}`, with the critic's other heads.
      mappings, syntheses: the two halves of generators that have them: to the intermediate latent w, and from it.
      latent: `key data -> CHUNK latents`; `None` where a condition is the only input of the generators.
      critic_of: the critic of each generator, if it has one.
      classes: the names of the classes that labels number, if a condition of the generators is a label.
      differentiable: whether the programs have derivatives.
    """

    generators: Mapping[str, Program]
    critics: Mapping[str, Program]
    mappings: Mapping[str, Program]
    syntheses: Mapping[str, Program]
    latent: Callable[[Array], Tree] | None
    critic_of: Mapping[str, str]
    classes: tuple[str, ...]
    differentiable: bool = True


def programs_of(experiment: Experiment) -> Programs:
    """The programs of an experiment's game.

    Raises:
      ValueError: if a network does not fit the inputs that its objective gives it.
    """
    game = experiment.game
    state = jax.eval_shape(lambda key: init_state(game, key), jax.random.key(0))
    prior = game.objective.prior
    condition_batch = experiment.condition_batch(1)

    def latent(key_data: Array) -> Tree:
        assert prior is not None
        return draw_latents(prior, _key(key_data), CHUNK)

    generators, mappings, syntheses, critics, critic_of = {}, {}, {}, {}, {}
    for name, player in game.players.items():
        weights = (state.players[name].params, state.players[name].model_state)
        if isinstance(player.role, GeneratorRole):
            conditions = tuple(map(_one_row, player.role.condition(condition_batch)))
            drawn = () if prior is None else (jax.eval_shape(lambda key: prior(key, 1), jax.random.key(0)),)
            generators[name] = _program(player.network.apply, weights, (*drawn, *conditions))
            if player.network.halves is not None:
                first, second = player.network.halves
                mappings[name] = _program(first, weights, (*drawn, *conditions))
                w = jax.eval_shape(
                    mappings[name].call, mappings[name].weights, KEY_SHAPE, *drawn, *conditions
                )
                syntheses[name] = _program(second, weights, (w,))
        elif isinstance(player.role, CriticRole) and player.network.inputs is not None:
            inputs = tuple(map(_one_row, player.network.inputs))
            critics[name] = _program(_scores(player.network), weights, inputs)
            if player.network.couples_batch is False:  # nor in evaluation, then
                critics[name] = dataclasses.replace(critics[name], group=1)
            critic_of[player.role.generator] = name
    return Programs(
        generators,
        critics,
        mappings,
        syntheses,
        None if prior is None else latent,
        critic_of,
        _classes(experiment),
    )


def _key(key_data: Array) -> Array:
    return jax.random.wrap_key_data(key_data, impl=KEY_IMPL)


def _one_row(x: Any) -> jax.ShapeDtypeStruct:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (1, *np.shape(leaf)[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype)
        ),
        x,
    )


def _scores(network: Network) -> Callable[..., Any]:
    def apply(*arguments: Any, **options: Any) -> tuple[Any, Tree]:
        out, model_state = network.apply(*arguments, **options)
        return dict(out) if isinstance(out, Mapping) else {"score": out}, model_state

    return apply


def _program(apply: Callable[..., Any], weights: tuple[Tree, Tree], inputs: tuple[Any, ...]) -> Program:
    """A program of `apply(params, model_state, *inputs, train, key) -> (output, model state)`."""
    leaves, structure = jax.tree.flatten(weights)
    names = weight_names(weights)

    @at_highest_precision
    def call(named: Mapping[str, Array], key_data: Array | None, *given: Any) -> Any:
        arrays = [
            jax.random.wrap_key_data(named[name], impl=KEY_IMPL) if is_key(leaf) else named[name]
            for name, leaf in zip(names, leaves, strict=True)
        ]
        params, model_state = jax.tree.unflatten(structure, arrays)
        key = None if key_data is None else _key(key_data)
        return apply(params, model_state, *given, train=False, key=key)[0]

    shapes = {name: raw_shape(leaf) for name, leaf in zip(names, leaves, strict=True)}
    return Program(call, shapes, inputs)


def group_of(program: Program) -> int:
    """How many neighbours of a batch a program compares, as critics with minibatch statistics do.

    Returns:
      1 where every output is of its own example; G where outputs depend on the examples of their group, the first G
      of a batch, the next G, and so on; else `WHOLE_BATCH`.

    >>> x = (jax.ShapeDtypeStruct((1, 3), jnp.float32),)
    >>> pairs = lambda weights, key, x: x + x.reshape(-1, 2, 3).mean(1).repeat(2, 0)
    >>> group_of(Program(pairs, {}, x)), group_of(Program(lambda weights, key, x: x - x.mean(0), {}, x))
    (2, 0)
    """
    if program.group is not None:
        return program.group
    groups: list[int] = []
    for size in _TRACED:
        try:
            group = _group_in(program, size)
        except Exception:  # a network raises anything for a batch that its groups do not divide
            continue
        if group == WHOLE_BATCH or (group == 1 and not groups):
            return group
        groups.append(group)
    # Of a batch that its own groups do not divide a network may make smaller ones.
    return max(groups, default=WHOLE_BATCH)


def _group_in(program: Program, size: int) -> int:
    inputs = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), program.inputs
    )
    places = range(2, 2 + len(inputs))
    found = example_dependence(program.call, dict(program.weights), KEY_SHAPE, *inputs, argnums=places)
    rows = np.zeros(size, np.uint64)
    for bits in jax.tree.leaves(found):
        if bits.shape[:1] != (size,):
            return WHOLE_BATCH
        rows |= np.bitwise_or.reduce(bits.reshape(size, -1), axis=1)
    seen = (rows[:, None] >> np.arange(size, dtype=np.uint64)) & np.uint64(1) > 0
    for group in range(1, size):
        members = np.arange(size) // group
        if size % group == 0 and not (seen & (members[:, None] != members)).any():
            return group
    return WHOLE_BATCH


def weight_names(weights: tuple[Tree, Tree]) -> list[str]:
    """A name for every leaf of `(params, model_state)`: `params.Dense_0.kernel`, in the order of the leaves."""
    params, model_state = weights
    named = {"params": params, "model_state": model_state}
    ids = jax.tree.unflatten(jax.tree.structure(named), range(len(jax.tree.leaves(named))))
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(named)
    ]
    if len(set(names)) < len(names):
        names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(named)]
    return [names[i] for i in jax.tree.leaves((ids["params"], ids["model_state"]))]


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed PRNG key."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def raw_shape(leaf: Any) -> jax.ShapeDtypeStruct:
    """The shape of an array, of a key that of its data."""
    raw = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(raw.shape, raw.dtype)


def _classes(experiment: Experiment) -> tuple[str, ...]:
    """The experiment's own names, else the numbers that its pictures show."""
    if experiment.classes:
        return experiment.classes
    game = experiment.game
    batch = experiment.condition_batch(CHUNK)
    labels = [
        np.asarray(condition)
        for name in game.objective.with_role(GeneratorRole)
        for condition in game.players[name].role.condition(batch)  # type: ignore[union-attr]
        if np.ndim(condition) == 1 and np.issubdtype(condition.dtype, np.integer)
    ]
    return tuple(map(str, range(int(labels[0].max()) + 1))) if labels else ()
