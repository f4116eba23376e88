"""Many seeds in one program: independent runs of a game, spread over the devices."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.compiler import compiler_options
from gan_jax.data.source import Source
from gan_jax.distributed.layout import Layout
from gan_jax.distributed.mesh import LayoutError, make_mesh
from gan_jax.distributed.transfer import Run, Sent
from gan_jax.functional.options import check_count, check_number
from gan_jax.game import Diagnostic, Game
from gan_jax.schedule import Schedule
from gan_jax.state import TrainState, number_of_seeds
from gan_jax.training.rollout import rollout_program
from gan_jax.types import Array, Key, Metrics, Tree

SEED_AXIS = "seed"


def _state_fields(common: Any, per_seed: Any) -> Any:
    """A `TrainState` of properties: `step` and `cursor` are common to all seeds, so that a lazy term has a single
    condition; all other fields differ between the seeds."""
    return TrainState(common, common, per_seed, per_seed, per_seed)


def stacked(states: Sequence[TrainState]) -> TrainState:
    """Stacks the states of several seeds, `[S, ...]`; `step` and `cursor` are common."""
    stack = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *states)
    return stack._replace(step=states[0].step, cursor=states[0].cursor)


def state_of(state: TrainState, seed: int) -> TrainState:
    """The state of a single seed, by its index, on one device.

    Raises:
      ValueError: if the state is not of several seeds, or there is no such index.
    """
    number = number_of_seeds(state)
    if number is None:
        raise ValueError("state_of takes the state of several seeds; this one is of a single seed already.")
    check_count("state_of", "seed", seed, least=0)
    check_number("state_of", "seed", seed, least=0, below=number)
    device = jax.devices()[0]
    return jax.device_put(_pick(jax.device_put(state, device), seed), device)


@jax.jit
def _pick(state: TrainState, seed: Array) -> TrainState:
    picked = jax.tree.map(lambda x: x[seed], (state.key, state.players, state.ema))
    return TrainState(state.step, state.cursor, *picked)


def join_sources(sources: Sequence[Source]) -> tuple[Source, Tree]:
    """A source of all seeds' batches, `[count, S, ...]`, and which leaves of its `device_data` differ by seed.

    Data that are equal for all seeds are stored once; data that differ (a seed, a split drawn by it) are stacked.

    Raises:
      LayoutError: if a source is an iterator with a state, or the data are of different shapes.
    """
    if any(source.state is not None for source in sources):
        raise LayoutError("Several seeds need data that are read by index, not a stream with a state.")
    shapes = {str(jax.tree.map(np.shape, source.device_data)) for source in sources}
    if len(shapes) > 1:
        raise LayoutError("Several seeds need data of the same shapes, but those of these seeds differ.")

    def differs(*leaves: Any) -> bool:
        return any(leaf is not leaves[0] and not np.array_equal(leaf, leaves[0]) for leaf in leaves[1:])

    per_seed = jax.tree.map(differs, *(source.device_data for source in sources))
    device_data = [source.for_device(source.device_data) for source in sources]

    def join(is_per_seed: bool, *leaves: Any) -> Any:
        return np.stack([np.asarray(leaf) for leaf in leaves]) if is_per_seed else leaves[0]

    def host_batches(cursor: int, count: int) -> Any:
        return jax.tree.map(lambda *x: np.stack(x, axis=1), *[s.host_batches(cursor, count) for s in sources])

    def close() -> None:
        for source in sources:
            source.close()

    return dataclasses.replace(
        sources[0],
        host_batches=host_batches,
        host_batch_shards=None,
        device_data=jax.tree.map(join, per_seed, *device_data),
        for_device=lambda joined: joined,
        close=close,
    ), per_seed


def make_seeds_layout(
    sources: Sequence[Source],
    *,
    devices: Sequence[jax.Device] | None = None,
    side_by_side: bool | None = None,
) -> Layout:
    """A layout for several seeds, which are distributed evenly over as many devices as possible.

    A seed is never sharded over devices. A device trains its seeds in sequence, or side by side by `vmap`. In
    sequence, each seed's result equals that of a run of only this seed bit for bit. Side by side fills a GPU or TPU
    with small networks; on a CPU it is not faster, and of images every convolution becomes a grouped one, for which
    no compiler has kernels as fast as for plain ones.

    Args:
      sources: one source per seed, in the order of the seeds.
      devices: the devices to use; all by default.
      side_by_side: by default in sequence on a CPU, of images, and of streams whose batches can be read once only;
        side by side elsewhere.

    Raises:
      LayoutError: if this is one of several processes, or the sources do not match.
    """
    if jax.process_count() > 1:
        raise LayoutError(
            "Several seeds are for one process: launch them in a single process, or one seed on all hosts."
        )
    devices = jax.devices() if devices is None else devices
    count = len(sources)
    spread = max(n for n in range(1, min(count, len(devices)) + 1) if count % n == 0)
    source, per_seed = join_sources(sources)
    if side_by_side is None:
        side_by_side = not sources[0].in_order and goes_side_by_side(sources[0], devices[0].platform)
    mesh = make_mesh({SEED_AXIS: spread}, devices[:spread])
    replicated, sharded = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (SEED_AXIS,)))

    def shardings(_: TrainState) -> Any:
        return _state_fields(replicated, sharded)

    def begin(make: Callable[[Key], TrainState], keys: Key) -> TrainState:
        single = jax.jit(make)  # the same program as in a run of a single seed
        state = stacked([single(key) for key in keys])
        return jax.device_put(state, shardings(state))

    return Layout(
        mesh=mesh,
        replicated=replicated,
        place=lambda tree: jax.device_put(
            tree, jax.tree.map(lambda x: sharded if x else replicated, per_seed)
        ),
        shardings=shardings,
        begin=begin,
        local_source=lambda _: source,
        send=lambda host_batches: Sent(send_to_seeds(host_batches, mesh)),
        pick=lambda host_batches, round_, turn: jax.tree.map(lambda x: x[round_, turn], host_batches),
        compile=functools.partial(_compile, mesh=mesh, per_seed=per_seed, side_by_side=side_by_side),
        message=_message(count, spread, side_by_side, devices[0].platform, sources[0].in_order),
    )


def goes_side_by_side(source: Source, platform: str) -> bool:
    """Whether several seeds of a source are trained side by side by default: of all but images, and not on a
    CPU."""
    if platform == "cpu":
        return False
    host_batch = jax.tree.map(lambda x: x[0], source.host_batches(0, 1))
    batch = jax.eval_shape(source.get_batch, source.device_data, host_batch)
    return all(leaf.ndim != 4 for leaf in jax.tree.leaves(batch))


def _message(count: int, devices: int, side_by_side: bool, platform: str, in_order: bool) -> str:
    if count == devices:
        way = "one on each device"
    else:
        way = f"{count // devices} on {'each of ' + str(devices) + ' devices' if devices > 1 else 'one device'}, "
        way += "side by side" if side_by_side else "one after the other"
        if not side_by_side:
            reason = "a stream is read once" if in_order else "convolutions stay plain"
            way += f" ({'on a CPU, side by side is not faster' if platform == 'cpu' else reason})"
    return f"Training {count} seeds, {way}."


def _compile(game: Game, source: Source, *, mesh: Mesh, **options: Any) -> Run:
    program = seeds_program(game, source, mesh=mesh, **options)
    on_every_device = NamedSharding(mesh, PartitionSpec())

    def run(
        state: TrainState, device_data: Tree, host_batches: Any, rounds: int
    ) -> tuple[TrainState, Metrics]:
        sent = send_to_seeds(host_batches, mesh)
        return program(state, device_data, sent, jax.device_put(np.int32(rounds), on_every_device))

    return run


def send_to_seeds(host_batches: Any, mesh: Mesh) -> Any:
    """Puts host batches on the devices, `[K, T, S, ...]` as `[S, K, T, ...]`, the seeds' axis over the mesh."""
    if isinstance(host_batches, Sent):
        return host_batches.batches
    sharding = NamedSharding(mesh, PartitionSpec(SEED_AXIS))
    return jax.tree.map(lambda x: jax.device_put(np.moveaxis(x, 2, 0), sharding), host_batches)


def seeds_program(
    game: Game,
    source: Source,
    *,
    mesh: Mesh,
    per_seed: Tree,
    side_by_side: bool,
    schedule: Schedule | None = None,
    diagnostics: Sequence[Diagnostic] = (),
) -> Any:
    """The jitted rollout of several seeds itself: to be called, or lowered for devices that are not there.

    Args:
      game: the game.
      source: the joined source.
      mesh: over `SEED_AXIS`.
      per_seed: which leaves of `device_data` differ by seed, see `join_sources`.
      side_by_side: by `vmap`, else in sequence.
      schedule, diagnostics: as in `rollout_program`.
    """
    rollout = rollout_program(game, source.get_batch, schedule=schedule, diagnostics=diagnostics)
    is_per_seed = jax.tree.leaves(per_seed)

    def split(device_data: Tree) -> tuple[list[Any], Callable[[list[Any]], Tree]]:
        """The leaves that differ between seeds, and a function that joins those of a seed with the common ones."""
        leaves, structure = jax.tree.flatten(device_data)

        def join(seed_leaves: list[Any]) -> Tree:
            remaining = iter(seed_leaves)
            return jax.tree.unflatten(
                structure,
                [next(remaining) if p else leaf for p, leaf in zip(is_per_seed, leaves, strict=True)],
            )

        return [leaf for p, leaf in zip(is_per_seed, leaves, strict=True) if p], join

    def play_on_device(
        state: TrainState, device_data: Tree, host_batches: Tree, rounds: Array
    ) -> tuple[TrainState, Metrics]:
        seed_data, join = split(device_data)

        def play_seed(args: Any) -> tuple[TrainState, Metrics]:
            (key, players, ema), leaves, host_batch = args
            seed_state = TrainState(state.step, state.cursor, key, players, ema)
            return rollout(seed_state, join(leaves), host_batch, rounds)

        args = (state.key, state.players, state.ema), seed_data, host_batches
        if side_by_side:
            return jax.vmap(play_seed, out_axes=(_state_fields(None, 0), 1))(args)
        after, metrics = jax.lax.map(play_seed, args)
        after = after._replace(step=after.step[0], cursor=after.cursor[0])
        return after, jax.tree.map(lambda m: m.swapaxes(0, 1), metrics)

    over_seeds, replicated = PartitionSpec(SEED_AXIS), PartitionSpec()
    states = _state_fields(replicated, over_seeds)
    data_specs = jax.tree.map(lambda x: over_seeds if x else replicated, per_seed)
    return jax.jit(
        jax.shard_map(
            play_on_device,
            mesh=mesh,
            in_specs=(states, data_specs, over_seeds, replicated),
            out_specs=(states, PartitionSpec(None, SEED_AXIS)),
            check_vma=False,
        ),
        donate_argnums=0,
        compiler_options=compiler_options(mesh.devices.flat[0].platform),
    )
