"""Compiled programs of one turn on simulated devices, and what they send between them."""

import collections
import math
import re

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gan_jax.data import from_arrays
from gan_jax.distributed.layout import make_layout
from gan_jax.schedule import fresh_turns
from gan_jax.training.rollout import stack_rounds
from gan_jax.training.step import init_state, make_train_step

UNOPTIMISED = {"xla_backend_optimization_level": 0}  # the same program of arrays, made in half the time
_COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
)


def lowered(game, schedule, devices, batch):
    """One round of `schedule` on `devices` for a batch `[T, B, ...]` (arrays or shapes), before compilation."""
    layout = make_layout("jit", jax.devices()[:devices])
    if fresh_turns(schedule) == 1:  # a round takes the batch itself
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)
        shared = NamedSharding(layout.mesh, PartitionSpec("data"))
    else:
        shared = NamedSharding(layout.mesh, PartitionSpec(None, "data"))

    def shapes(tree, sharding):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    state = jax.eval_shape(lambda key: init_state(game, key), jax.random.key(0))
    step = jax.jit(make_train_step(game, schedule=schedule), out_shardings=layout.replicated)
    with jax.set_mesh(layout.mesh):
        return step.lower(shapes(state, layout.replicated), shapes(batch, shared))


def on_noise(game, parallelism, devices, batch, classes):
    """A function that plays rounds of two batches on labelled images of noise, 8 x 8, from a state on.

    It is given how many, up to 4, and a state, without which it begins; it returns the state and the metrics.
    """
    random = np.random.default_rng(0)
    arrays = {
        "x": random.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8),
        "y": random.integers(0, classes, 64).astype(np.int32),
    }
    source = from_arrays(arrays, batch_size=batch, seed=0)
    layout = make_layout(parallelism, jax.devices()[:devices])
    run = layout.compile(game, source)

    def play(rounds, state=None):
        if state is None:
            state = layout.begin(lambda key: init_state(game, key), jax.random.key(0))
        host_batches = stack_rounds(source, int(state.cursor), 2, rounds, 4)
        return run(state, layout.place(source.device_data), host_batches, rounds)

    return play


def compiled(game, schedule, devices, batch):
    """The program of `lowered`, compiled for its devices."""
    return lowered(game, schedule, devices, batch).compile(compiler_options=UNOPTIMISED)


def collectives(text):
    """How often each kind of collective stands in a program."""
    return collections.Counter(kind for _, kind in _COLLECTIVE.findall(text))


def reduced_numbers(text):
    """How many numbers all the program's all-reduces add up."""
    return sum(
        math.prod(int(n) for n in dimensions.split(",") if n)
        for shape, kind in _COLLECTIVE.findall(text)
        if kind == "all-reduce"
        for dimensions in re.findall(r"\w+\[([\d,]*)\]", shape)
    )


def has_dimension(text, size):
    """Whether any array of a program has an axis of this length."""
    return re.search(rf"\w+\[(?:\d+,)*{size}(?:,\d+)*\]", text) is not None
