"""Where the state and the batches lie on the devices, and the programs compiled for it.

Knows meshes and placements; knows no loss and no player's name.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gan_jax.data.source import Source
from gan_jax.distributed.compiler import compiler_options
from gan_jax.distributed.fsdp import divided, gathering
from gan_jax.field import gradient_field, mean_over_replicas, replica_mean
from gan_jax.functional.batch import BATCH_AXES, DATA_AXIS, FSDP_AXIS
from gan_jax.game import Diagnostic, Game, TrainState
from gan_jax.schedule import Schedule
from gan_jax.training.rollout import rollout_program
from gan_jax.training.step import init_state
from gan_jax.types import Array, Batch, Key, Metrics, Tree

PARALLELISMS = ("jit", "pmap", "fsdp")
Run: TypeAlias = Callable[[TrainState, Tree, Any, int], tuple[TrainState, Metrics]]
"""`(state, donated; device_data; host_batches [K, T, ...]; rounds) -> (state, metrics [K])`."""


class LayoutError(ValueError):
    """A layout that the devices at hand cannot take."""


def make_mesh(shape: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of the given axes over all devices (or those given), its shardings chosen by the compiler."""
    devices = jax.devices() if devices is None else devices
    axes = (AxisType.Auto,) * len(shape)
    return jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=axes, devices=devices)


def mesh_shape(parallelism: str, devices: int) -> dict[str, int]:
    """The axes that a parallelism asks for: `jit`, `pmap`, `fsdp`, or sizes as in `data:2,fsdp:4`.

    >>> mesh_shape("fsdp", 8), mesh_shape("data:2,fsdp:4", 8)
    ({'data': 1, 'fsdp': 8}, {'data': 2, 'fsdp': 4})

    Raises:
      LayoutError: if it is none of these, or the sizes do not make up the devices.
    """
    if parallelism in ("jit", "pmap"):
        return {DATA_AXIS: devices}
    if parallelism == "fsdp":
        return {DATA_AXIS: 1, FSDP_AXIS: devices}
    sizes = re.fullmatch(rf"{DATA_AXIS}:([1-9]\d*),{FSDP_AXIS}:([1-9]\d*)", parallelism)
    if sizes is None:
        raise LayoutError(
            f"parallelism is one of {PARALLELISMS}, or a mesh such as '{DATA_AXIS}:2,{FSDP_AXIS}:4'; got "
            f"{parallelism!r}."
        )
    shape = {DATA_AXIS: int(sizes[1]), FSDP_AXIS: int(sizes[2])}
    if math.prod(shape.values()) != devices:
        raise LayoutError(
            f"parallelism={parallelism} is for {math.prod(shape.values())} devices, and there are {devices}."
        )
    return shape


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


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """How a run lies on its devices.

    Attributes:
      mesh: its axes share every batch.
      replicated: the sharding of what is whole on every device.
      place: puts a tree (resident data) on every device, whole.
      shardings: `state or its shapes -> where each of its leaves lies`.
      begin: `(key -> state, key) -> state`, made where it lies.
      reading: the source as this process reads it: where there are several, only the examples of its own devices.
      pick: `(host_batches of that source, round, turn) -> the batch's share of it`, on the devices.
      compile: `(game, source, schedule, diagnostics) -> run(state, device_data, host_batches, rounds)`, the state
        donated, the feed as `reading(source)` gives it.
      words: what the user should know of it, if anything.
    """

    mesh: Mesh
    replicated: NamedSharding
    place: Callable[[Tree], Tree]
    shardings: Callable[[Tree], Tree]
    begin: Callable[[Callable[[Key], TrainState], Any], TrainState]
    reading: Callable[[Source], Source]
    pick: Callable[[Any, int, int], Any]
    compile: Callable[..., Run]
    words: str = ""


def make_layout(parallelism: str = "jit", devices: Sequence[jax.Device] | None = None) -> Layout:
    """Data parallelism by `jit` and `NamedSharding`, or by `pmap`; with divided parameters by `fsdp`.

    Under `jit` and `fsdp` the program is that of one device on the global batch: batch statistics are global.
    Under `pmap` each replica has its own share of the batch, its own draws and its own batch statistics;
    gradients and statistics are averaged. `fsdp` divides large parameters and their optimiser state over all
    devices; `data:2,fsdp:4` over groups of four.

    Raises:
      LayoutError: if the parallelism is unknown, or the devices at hand cannot take it.
    """
    devices = jax.devices() if devices is None else devices
    mesh = make_mesh(mesh_shape(parallelism, len(devices)), devices)
    whole = NamedSharding(mesh, PartitionSpec())
    shardings = functools.partial(divided, mesh=mesh)

    def begin(make: Callable[[Key], TrainState], key: Key) -> TrainState:
        # The key goes in as its words: processes share numpy arrays, not one another's devices.
        words, kind = np.asarray(jax.random.key_data(key)), jax.random.key_impl(key)

        def from_words(words: Array) -> TrainState:
            return make(jax.random.wrap_key_data(words, impl=kind))

        places = shardings(jax.eval_shape(make, key))
        return jax.jit(from_words, out_shardings=places)(words)

    if parallelism == "pmap" and jax.process_count() > 1:
        raise LayoutError("parallelism=pmap is for one process: take jit on several hosts.")
    compiler = _compile_pmap if parallelism == "pmap" else _compile_jit
    share = Share.of(mesh)

    def compile_(
        game: Game,
        source: Source,
        *,
        schedule: Schedule | None = None,
        diagnostics: Sequence[Diagnostic] = (),
    ) -> Run:
        check_divides(source.batch_size, mesh.size)
        return compiler(game, source, mesh, schedule or game.schedule, diagnostics)

    def pick(host_batches: Any, round_: int, turn: int) -> Any:
        one = jax.tree.map(lambda x: x[round_ : round_ + 1, turn : turn + 1], host_batches)
        return _first_batch(send(one, mesh))

    return Layout(
        mesh=mesh,
        replicated=whole,
        place=functools.partial(_put, sharding=whole),
        shardings=shardings,
        begin=begin,
        reading=share.reading,
        pick=pick,
        compile=compile_,
    )


def batch_axes(mesh: Mesh) -> tuple[str, ...]:
    """The mesh's axes that share the batch."""
    return tuple(axis for axis in BATCH_AXES if axis in mesh.shape)


def feed_spec(leaf: Any, mesh: Mesh) -> PartitionSpec:
    """`[K, T, B, ...]` is shared along B; `[K, T]` (the numbers of batches drawn on the device) is not."""
    return PartitionSpec(None, None, batch_axes(mesh)) if leaf.ndim > 2 else PartitionSpec()


@dataclasses.dataclass(frozen=True)
class Share:
    """Which parts of every batch this process's devices hold.

    Attributes:
      parts: of the `total` equal parts of a batch, in order.
      total: one for each device of the mesh.
    """

    parts: tuple[int, ...]
    total: int

    @classmethod
    def of(cls, mesh: Mesh) -> Share:
        """This process's share on a mesh."""
        own = [i for i, d in enumerate(mesh.devices.flat) if d.process_index == jax.process_index()]
        return cls(tuple(own), mesh.size)

    def reading(self, source: Source) -> Source:
        """The source, reading no more than this share where it can.

        Raises:
          LayoutError: if the devices do not divide its batches.
        """
        check_divides(source.batch_size, self.total)
        read = source.host_batch_shards
        if len(self.parts) == self.total or read is None:
            return source
        return dataclasses.replace(
            source, host_batches=lambda cursor, count: Rows(read(cursor, count, self.parts, self.total))
        )

    def examples(self, held: int) -> int:
        """B, of a batch of which this process holds so many examples."""
        return held * self.total // len(self.parts)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Rows:
    """A feed that holds only this process's share of every batch."""

    held: Any


def _put(tree: Tree, sharding: NamedSharding) -> Tree:
    """A tree that this process has whole, where `sharding` says."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(x: Any) -> Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put, tree)


def _put_rows(x: np.ndarray, sharding: NamedSharding, share: Share) -> Array:
    """`[K, T, rows of this process, ...]` as its part of `[K, T, B, ...]`."""
    examples = share.examples(x.shape[2])
    size = examples // share.total

    def rows(index: Any) -> np.ndarray:
        start = share.parts.index((index[2].start or 0) // size) * size
        return x[:, :, start : start + size]

    return jax.make_array_from_callback((*x.shape[:2], examples, *x.shape[3:]), sharding, rows)


def send(host_batches: Any, mesh: Mesh) -> Any:
    """Puts a feed on the devices, `[K, T, B, ...]` along B.

    Raises:
      LayoutError: if the devices do not divide a batch.
    """
    share = Share.of(mesh)
    partial = isinstance(host_batches, Rows)

    def one(path: Any, x: np.ndarray) -> Array:
        sharding = NamedSharding(mesh, feed_spec(x, mesh))
        if x.ndim > 2:
            examples = share.examples(x.shape[2]) if partial else x.shape[2]
            check_divides(examples, mesh.size, f"batch{jax.tree_util.keystr(path)}")
        return _put_rows(x, sharding, share) if partial and x.ndim > 2 else _put(x, sharding)

    return jax.tree.map_with_path(one, host_batches.held if partial else host_batches)


@jax.jit
def _first_batch(host_batches: Any) -> Any:
    return jax.tree.map(lambda x: x[0, 0], host_batches)


def _is_drawn(host_batches: Any) -> bool:
    return all(leaf.ndim <= 2 for leaf in jax.tree.leaves(host_batches))


def _compile_jit(
    game: Game, source: Source, mesh: Mesh, schedule: Schedule, diagnostics: Sequence[Diagnostic]
) -> Run:
    whole = NamedSharding(mesh, PartitionSpec())
    parts = mesh.shape.get(FSDP_AXIS, 1)
    if parts > 1:
        game = gathering(game, parts)
    inner = rollout_program(game, source.get_batch, schedule=schedule, diagnostics=diagnostics)

    @functools.cache
    def program() -> Callable[..., tuple[TrainState, Metrics]]:
        state = jax.eval_shape(lambda key: init_state(game, key), jax.random.key(0))
        return jax.jit(
            inner,
            donate_argnums=0,
            out_shardings=(divided(state, mesh), whole),
            compiler_options=compiler_options(),
        )

    def run(
        state: TrainState, device_data: Tree, host_batches: Any, rounds: int
    ) -> tuple[TrainState, Metrics]:
        with jax.set_mesh(mesh):
            return program()(state, device_data, send(host_batches, mesh), _put(np.int32(rounds), whole))

    return run


def _compile_pmap(
    game: Game, source: Source, mesh: Mesh, schedule: Schedule, diagnostics: Sequence[Diagnostic]
) -> Run:
    replicas, whole = mesh.size, NamedSharding(mesh, PartitionSpec())
    indices = jax.device_put(np.arange(replicas), NamedSharding(mesh, PartitionSpec(DATA_AXIS)))
    game = dataclasses.replace(game, field=replica_mean(game.field or gradient_field, DATA_AXIS))

    def fetch_share(device_data: Tree, host_batch: Tree) -> Batch:
        # What is drawn on the device is the whole batch: each replica takes its share of it.
        index = jax.lax.axis_index(DATA_AXIS)

        def share(x: Array) -> Array:
            own = x.shape[0] // replicas
            return jax.lax.dynamic_slice_in_dim(x, index * own, own)

        return jax.tree.map(share, source.get_batch(device_data, host_batch))

    @functools.cache
    def program(drawn: bool) -> Callable[..., tuple[TrainState, Metrics]]:
        inner = rollout_program(
            game, fetch_share if drawn else source.get_batch, schedule=schedule, diagnostics=diagnostics
        )

        def replica(
            index: Array, state: TrainState, device_data: Tree, host_batches: Tree, rounds: Array
        ) -> tuple[TrainState, Metrics]:
            del index  # Mapped over the devices so that pmap has an axis where the feed has none.
            state, metrics = inner(state, device_data, host_batches, rounds)
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

    def divide(path: Any, x: np.ndarray) -> np.ndarray:
        check_divides(x.shape[2], replicas, f"batch{jax.tree_util.keystr(path)}")
        return x.reshape(*x.shape[:2], replicas, x.shape[2] // replicas, *x.shape[3:])

    def run(
        state: TrainState, device_data: Tree, host_batches: Any, rounds: int
    ) -> tuple[TrainState, Metrics]:
        drawn = _is_drawn(host_batches)
        if not drawn:
            host_batches = jax.tree.map_with_path(divide, host_batches)
        return program(drawn)(
            indices, state, device_data, send(host_batches, mesh), _put(np.int32(rounds), whole)
        )

    return run
