"""Data parallelism by `pmap`: every replica has its shard of the batch, its draws and its batch statistics."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.data.source import Source
from gan_jax.distributed.mesh import check_divides
from gan_jax.distributed.transfer import Run, Sent, is_drawn, put, send
from gan_jax.field import gradient_field, mean_over_replicas, replica_mean
from gan_jax.functional.batch import DATA_AXIS
from gan_jax.game import Diagnostic, Game
from gan_jax.schedule import Schedule
from gan_jax.state import TrainState
from gan_jax.training.rollout import rollout_program
from gan_jax.types import Array, Batch, Metrics, Tree


def pmap_program(
    game: Game,
    source: Source,
    mesh: Mesh,
    schedule: Schedule,
    diagnostics: Sequence[Diagnostic] = (),
    *,
    drawn: bool,
) -> Any:
    """The rollout by `jax.pmap`: `(indices, state, device_data, host_batches, n) -> (state, metrics [K])`.

    `indices` counts the replicas. With `drawn` each replica makes the complete batch from `host_batches [K, T]` and
    takes its shard; otherwise they have the replicas' axis, `[K, T, replicas, ...]`.
    """
    replicas = mesh.size
    game = dataclasses.replace(game, field=replica_mean(game.field or gradient_field, DATA_AXIS))

    def get_shard(device_data: Tree, host_batch: Tree) -> Batch:
        index = jax.lax.axis_index(DATA_AXIS)

        def shard(x: Array) -> Array:
            size = x.shape[0] // replicas
            return jax.lax.dynamic_slice_in_dim(x, index * size, size)

        return jax.tree.map(shard, source.get_batch(device_data, host_batch))

    get_batch = get_shard if drawn else source.get_batch
    rollout = rollout_program(game, get_batch, schedule=schedule, diagnostics=diagnostics)

    def replica(
        index: Array, state: TrainState, device_data: Tree, host_batches: Tree, rounds: Array
    ) -> tuple[TrainState, Metrics]:
        del index  # Mapped over the devices so that pmap has an axis where the host batches have none.
        state, metrics = rollout(state, device_data, host_batches, rounds)
        # The field has averaged the losses' metrics; diagnostics read one replica's scores.
        return state, mean_over_replicas(metrics, DATA_AXIS) if diagnostics else metrics

    return jax.pmap(
        replica,
        axis_name=DATA_AXIS,
        in_axes=(0, None, None, None if drawn else 2, None),
        out_axes=None,
        donate_argnums=1,
        devices=list(mesh.devices.flat),
    )


def compile_pmap(
    game: Game, source: Source, mesh: Mesh, schedule: Schedule, diagnostics: Sequence[Diagnostic]
) -> Run:
    """A rollout whose field is the mean of the replicas' fields."""
    replicated = NamedSharding(mesh, PartitionSpec())
    indices = jax.device_put(np.arange(mesh.size), NamedSharding(mesh, PartitionSpec(DATA_AXIS)))

    @functools.cache
    def program(drawn: bool) -> Callable[..., tuple[TrainState, Metrics]]:
        made: Callable[..., tuple[TrainState, Metrics]] = pmap_program(
            game, source, mesh, schedule, diagnostics, drawn=drawn
        )
        return made

    def run(
        state: TrainState, device_data: Tree, host_batches: Any, rounds: int
    ) -> tuple[TrainState, Metrics]:
        sent = send_to_replicas(host_batches, mesh)
        return program(is_drawn(sent))(indices, state, device_data, sent, put(np.int32(rounds), replicated))

    return run


def send_to_replicas(host_batches: Any, mesh: Mesh) -> Any:
    """Puts host batches on the devices, `[K, T, B, ...]` as `[K, T, replicas, B / replicas, ...]`.

    Raises:
      LayoutError: if the number of devices does not divide a batch size.
    """

    def split(path: Any, x: np.ndarray) -> np.ndarray:
        check_divides(x.shape[2], mesh.size, f"batch{jax.tree_util.keystr(path)}")
        return x.reshape(*x.shape[:2], mesh.size, x.shape[2] // mesh.size, *x.shape[3:])

    if not isinstance(host_batches, Sent) and not is_drawn(host_batches):
        host_batches = jax.tree.map_with_path(split, host_batches)
    return send(host_batches, mesh)
