"""What a run will take: a round's memory by the compiled program, its time by playing some rounds."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import numpy as np

from gan_jax.compiler import compiler_options
from gan_jax.networks.describe import binary_units
from gan_jax.schedule import fresh_turns
from gan_jax.training.experiment import Experiment
from gan_jax.training.rollout import rollout_program, stack_rounds
from gan_jax.training.step import init_state
from gan_jax.types import Tree

SECONDS = 2.0
"""For so long rounds are timed."""


class Expected(NamedTuple):
    """What rounds take on a single device.

    Attributes:
      state_bytes: parameters, optimisers, averages and statistics.
      data_bytes: what stays on the device of the data.
      working_bytes: the arrays between a round's operations, at their largest.
      compile_seconds: tracing and compiling the rounds' program; little where it is in the compilation cache.
      round_seconds: the median of a round's wall time, on this machine.
    """

    state_bytes: int
    data_bytes: int
    working_bytes: int
    compile_seconds: float
    round_seconds: float


def expected(experiment: Experiment, seconds: float = SECONDS) -> Expected:
    """Compiles an experiment's rounds for one device and plays some of them, always on the same batches.

    Args:
      experiment: the experiment, whose data are read and whose state is not kept.
      seconds: for how long rounds are played, at least three.
    """
    game, source = experiment.game, experiment.source
    state = init_state(game, jax.random.key(experiment.seed))
    device_data = jax.device_put(source.for_device(source.device_data))
    host_batches = stack_rounds(source, 0, fresh_turns(game.schedule), 1, 1)
    began = time.perf_counter()
    program = jax.jit(
        rollout_program(game, source.get_batch), donate_argnums=0, compiler_options=compiler_options()
    )
    one = np.int32(1)
    compiled = program.lower(state, device_data, host_batches, one).compile()
    compile_seconds = time.perf_counter() - began
    working = getattr(compiled.memory_analysis(), "temp_size_in_bytes", 0)  # no compiler is bound to tell
    size = bytes_of((state.players, state.ema)), bytes_of(device_data)
    state, _ = jax.block_until_ready(compiled(state, device_data, host_batches, one))
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        began = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, device_data, host_batches, one))
        times.append(time.perf_counter() - began)
    return Expected(*size, int(working), compile_seconds, float(np.median(times)))


def bytes_of(tree: Tree) -> int:
    """The bytes of a tree's arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def expected_lines(experiment: Experiment) -> list[str]:
    """The memory and the time of a run, a line each."""
    found = expected(experiment)
    sizes = found.state_bytes, found.data_bytes, found.working_bytes
    state, data, arrays = map(binary_units, sizes)
    device = jax.devices()[0].device_kind
    whole = duration(found.round_seconds * experiment.rounds)
    return [
        f"memory  {binary_units(sum(sizes))} on a device: state {state}, data {data}, a round's arrays {arrays}",
        f"time    {found.round_seconds:.3g} s a round on one {device}: {experiment.rounds:,} rounds in {whole}, "
        f"without pictures and evaluations; compiled in {found.compile_seconds:.0f} s",
    ]


def duration(seconds: float) -> str:
    """A time in words, in the largest unit of which there are two.

    >>> duration(0.4), duration(100), duration(4000), duration(20_000)
    ('0.4 s', '100 s', '67 min', '5.6 h')
    """
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
