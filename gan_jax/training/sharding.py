"""Where the state and the batches lie on the devices, and the programs compiled for it.

Knows meshes and placements; knows no loss and no player's name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gan_jax.data.source import Source
from gan_jax.field import gradient_field, mean_over_replicas, replica_mean
from gan_jax.functional.batch import DATA_AXIS
from gan_jax.game import Game, Schedule, TrainState
from gan_jax.training.rollout import rollout_program
from gan_jax.types import Array, Batch, Diagnostic, Metrics, Tree

PARALLELISMS = ("jit", "pmap")
Run: TypeAlias = Callable[[TrainState, Tree, Any, int], tuple[TrainState, Metrics]]
"""`(state, donated; resident; feed [K, T, ...]; rounds) -> (state, metrics [K])`."""


class LayoutError(ValueError):
    """A layout that the devices at hand cannot take."""


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with one axis, `data`, over all devices (or those given), its sharding chosen by the compiler."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def check_divides(examples: int, devices: int, what: str = "batch") -> None:
    """Checks that the devices divide a batch.

    Args:
      examples: B.
      devices: how many devices share it.
      what: named in the error.

    Raises:
      LayoutError: naming both numbers.
    """
    if examples % devices:
        raise LayoutError(
            f"The {what} of {examples} examples cannot be divided over {devices} devices: choose a batch size "
            f"that is a multiple of {devices}."
        )


def _check_feed(feed: Any, devices: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(feed):
        if leaf.ndim > 2:
            check_divides(leaf.shape[2], devices, f"batch{jax.tree_util.keystr(path)}")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """How a run lies on its devices.

    Attributes:
      mesh: its `data` axis shares every batch.
      replicated: the sharding of what is whole on every device.
      place: puts a tree (state, resident data) on every device, whole.
      compile: `(game, source, schedule, diagnostics) -> run(state, resident, feed, rounds)`, the state donated.
    """

    mesh: Mesh
    replicated: NamedSharding
    place: Callable[[Tree], Tree]
    compile: Callable[..., Run]


def make_layout(parallelism: str = "jit", devices: Sequence[jax.Device] | None = None) -> Layout:
    """Data parallelism by `jit` and `NamedSharding`, or by `pmap`.

    Under `jit` the program is that of one device on the global batch: batch statistics are global. Under
    `pmap` each replica has its own share of the batch, its own draws and its own batch statistics; gradients
    and statistics are averaged.

    Raises:
      LayoutError: if the parallelism is unknown.
    """
    if parallelism not in PARALLELISMS:
        raise LayoutError(f"parallelism is one of {PARALLELISMS}, got {parallelism!r}.")
    mesh = data_mesh(devices)
    whole = NamedSharding(mesh, PartitionSpec())

    def place(tree: Tree) -> Tree:
        return jax.device_put(tree, whole)

    compiler = _compile_jit if parallelism == "jit" else _compile_pmap

    def compile_(
        game: Game,
        source: Source,
        *,
        schedule: Schedule | None = None,
        diagnostics: Sequence[Diagnostic] = (),
    ) -> Run:
        check_divides(source.batch_size, mesh.size)
        return compiler(game, source, mesh, schedule or game.schedule, diagnostics)

    return Layout(mesh=mesh, replicated=whole, place=place, compile=compile_)


def feed_spec(leaf: Any) -> PartitionSpec:
    """`[K, T, B, ...]` is shared along B; `[K, T]` (the numbers of batches drawn on the device) is not."""
    return PartitionSpec(None, None, DATA_AXIS) if leaf.ndim > 2 else PartitionSpec()


def _send(mesh: Mesh, feed: Any) -> Any:
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, feed_spec(x))), feed)


def _is_drawn(feed: Any) -> bool:
    return all(leaf.ndim <= 2 for leaf in jax.tree.leaves(feed))


def _compile_jit(
    game: Game, source: Source, mesh: Mesh, schedule: Schedule, diagnostics: Sequence[Diagnostic]
) -> Run:
    whole = NamedSharding(mesh, PartitionSpec())
    program = jax.jit(
        rollout_program(game, source.fetch, schedule=schedule, diagnostics=diagnostics),
        donate_argnums=0,
        out_shardings=whole,
    )

    def run(state: TrainState, resident: Tree, feed: Any, rounds: int) -> tuple[TrainState, Metrics]:
        _check_feed(feed, mesh.size)
        with jax.set_mesh(mesh):
            return program(state, resident, _send(mesh, feed), _send(mesh, np.int32(rounds)))

    return run


def _compile_pmap(
    game: Game, source: Source, mesh: Mesh, schedule: Schedule, diagnostics: Sequence[Diagnostic]
) -> Run:
    replicas = mesh.size
    indices = jax.device_put(np.arange(replicas), NamedSharding(mesh, PartitionSpec(DATA_AXIS)))
    game = dataclasses.replace(game, field=replica_mean(game.field or gradient_field, DATA_AXIS))

    def fetch_share(resident: Tree, fed: Tree) -> Batch:
        # What is drawn on the device is the whole batch: each replica takes its share of it.
        index = jax.lax.axis_index(DATA_AXIS)

        def share(x: Array) -> Array:
            own = x.shape[0] // replicas
            return jax.lax.dynamic_slice_in_dim(x, index * own, own)

        return jax.tree.map(share, source.fetch(resident, fed))

    @functools.cache
    def program(drawn: bool) -> Callable[..., tuple[TrainState, Metrics]]:
        inner = rollout_program(
            game, fetch_share if drawn else source.fetch, schedule=schedule, diagnostics=diagnostics
        )

        def replica(
            index: Array, state: TrainState, resident: Tree, feed: Tree, rounds: Array
        ) -> tuple[TrainState, Metrics]:
            del index  # Mapped over the devices so that pmap has an axis where the feed has none.
            state, metrics = inner(state, resident, feed, rounds)
            # The field has averaged the losses' own metrics; diagnostics read one replica's scores.
            return state, mean_over_replicas(metrics, DATA_AXIS) if diagnostics else metrics

        return jax.pmap(
            replica,
            axis_name=DATA_AXIS,
            in_axes=(0, None, None, None if drawn else 2, None),
            out_axes=None,
            donate_argnums=1,
            devices=list(mesh.devices.flat),
        )

    def run(state: TrainState, resident: Tree, feed: Any, rounds: int) -> tuple[TrainState, Metrics]:
        _check_feed(feed, replicas)
        drawn = _is_drawn(feed)
        if not drawn:
            feed = jax.tree.map(
                lambda x: x.reshape(*x.shape[:2], replicas, x.shape[2] // replicas, *x.shape[3:]), feed
            )
        return program(drawn)(indices, state, resident, _send(mesh, feed), _send(mesh, np.int32(rounds)))

    return run
