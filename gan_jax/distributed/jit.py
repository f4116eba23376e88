"""Data parallelism by `jit`: the program of one device on the global batch, its parameters sharded on request."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.compiler import compiler_options
from gan_jax.data.source import Source
from gan_jax.distributed.fsdp import gather_parameters, state_shardings
from gan_jax.distributed.transfer import Run, put, send
from gan_jax.functional.batch import FSDP_AXIS
from gan_jax.game import Diagnostic, Game
from gan_jax.schedule import Schedule
from gan_jax.state import TrainState
from gan_jax.training.rollout import rollout_program
from gan_jax.training.step import init_state
from gan_jax.types import Metrics, Tree


def compile_jit(
    game: Game, source: Source, mesh: Mesh, schedule: Schedule, diagnostics: Sequence[Diagnostic]
) -> Run:
    """A rollout whose batches are sharded over the mesh, and whose state is sharded by `state_shardings`."""
    replicated = NamedSharding(mesh, PartitionSpec())
    program = functools.cache(lambda: jit_program(game, source, mesh, schedule, diagnostics))

    def run(
        state: TrainState, device_data: Tree, host_batches: Any, rounds: int
    ) -> tuple[TrainState, Metrics]:
        # Not under the mesh, for which the networks' first parameters would be traced again.
        rollout = program()
        with jax.set_mesh(mesh):
            return rollout(state, device_data, send(host_batches, mesh), put(np.int32(rounds), replicated))

    return run


def jit_program(
    game: Game, source: Source, mesh: Mesh, schedule: Schedule, diagnostics: Sequence[Diagnostic] = ()
) -> Any:
    """The jitted rollout itself: to be called, or lowered for devices that are not there, under the mesh."""
    parts = mesh.shape.get(FSDP_AXIS, 1)
    if parts > 1:
        # A game's checks trace its networks, which have sharding constraints now.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            game = gather_parameters(game, parts)
    rollout = rollout_program(game, source.get_batch, schedule=schedule, diagnostics=diagnostics)
    state = jax.eval_shape(lambda key: init_state(game, key), jax.random.key(0))
    return jax.jit(
        rollout,
        donate_argnums=0,
        out_shardings=(state_shardings(state, mesh), NamedSharding(mesh, PartitionSpec())),
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )
