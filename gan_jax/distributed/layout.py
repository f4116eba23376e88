"""The layout of a run on its devices: the shardings of state and batches, and the programs compiled for them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.data.source import Source
from gan_jax.distributed.fsdp import state_shardings
from gan_jax.distributed.jit import compile_jit
from gan_jax.distributed.mesh import LayoutError, check_divides, make_mesh, mesh_shape, slice_count
from gan_jax.distributed.pmap import compile_pmap, send_to_replicas
from gan_jax.distributed.transfer import LocalShard, Run, Sent, first_batch, put, send
from gan_jax.game import Diagnostic, Game
from gan_jax.schedule import Schedule
from gan_jax.state import TrainState
from gan_jax.types import Array, Key, Tree


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The layout of a run on its devices.

    Attributes:
      mesh: the mesh over which batches are sharded.
      replicated: the sharding of replicated arrays.
      place: puts `device_data` on the devices.
      shardings: `state or its shapes -> shardings of its leaves`.
      begin: `(key -> state, key) -> state`, computed with its sharding.
      local_source: the source as this process reads it: only the examples of its devices.
      send: `host batches -> Sent`: begins to put them on the devices, and returns at once.
      pick: `(host_batches of that source, round, turn) -> the host batch of that turn`, on the devices.
      compile: `(game, source, schedule, diagnostics) -> run(state, device_data, host_batches, rounds)`; the state
        is donated, and the host batches are those of `local_source(source)`, sent or not.
      message: information for the user, if any.
    """

    mesh: Mesh
    replicated: NamedSharding
    place: Callable[[Tree], Tree]
    shardings: Callable[[Tree], Tree]
    begin: Callable[[Callable[[Key], TrainState], Any], TrainState]
    local_source: Callable[[Source], Source]
    send: Callable[[Any], Sent]
    pick: Callable[[Any, int, int], Any]
    compile: Callable[..., Run]
    message: str = ""


def make_layout(parallelism: str = "jit", devices: Sequence[jax.Device] | None = None) -> Layout:
    """Data parallelism by `jit` and `NamedSharding`, or by `pmap`; with sharded parameters by `fsdp`.

    Under `jit` and `fsdp` the program is that of one device on the global batch, with global batch statistics.
    Under `pmap` each replica has its shard of the batch, its draws and its batch statistics; gradients and
    statistics are averaged; JAX maintains `jax.pmap` and adds nothing to it, and it is for one process. `fsdp`
    shards large parameters and their optimiser state over all devices of a slice; `data:2,fsdp:4` over groups of
    four. Over several slices, `data` is across them: see `mesh`.

    Args:
      parallelism: `jit`, `pmap`, `fsdp`, or a mesh such as `data:2,fsdp:4`.
      devices: the devices to use; all by default.

    Raises:
      LayoutError: if the parallelism is unknown, or not possible with these devices.
    """
    devices = jax.devices() if devices is None else devices
    mesh = make_mesh(mesh_shape(parallelism, len(devices), slice_count(devices)), devices)
    replicated = NamedSharding(mesh, PartitionSpec())
    shardings = functools.partial(state_shardings, mesh=mesh)

    def begin(make: Callable[[Key], TrainState], key: Key) -> TrainState:
        # The key is passed as a numpy array, which all processes have, since each sees only its own devices.
        data, impl = np.asarray(jax.random.key_data(key)), jax.random.key_impl(key)

        def from_data(data: Array) -> TrainState:
            return make(jax.random.wrap_key_data(data, impl=impl))

        places = shardings(jax.eval_shape(make, key))
        return jax.jit(from_data, out_shardings=places)(data)

    if parallelism == "pmap" and jax.process_count() > 1:
        raise LayoutError("parallelism=pmap is for one process: use jit on several hosts.")
    compiler = compile_pmap if parallelism == "pmap" else compile_jit
    prepare = send_to_replicas if parallelism == "pmap" else send

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
        single = jax.tree.map(lambda x: x[round_ : round_ + 1, turn : turn + 1], host_batches)
        return first_batch(send(single, mesh))

    return Layout(
        mesh=mesh,
        replicated=replicated,
        place=functools.partial(put, sharding=replicated),
        shardings=shardings,
        begin=begin,
        local_source=LocalShard.on(mesh).local_source,
        send=lambda host_batches: Sent(prepare(host_batches, mesh)),
        pick=pick,
        compile=compile_,
    )
