"""Many seeds in one program: independent runs of one game, spread over the devices, told together and apart."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.data.source import Source
from gan_jax.distributed.compiler import compiler_options
from gan_jax.distributed.layout import Layout, LayoutError, Run, make_mesh
from gan_jax.functional.intervals import student_interval
from gan_jax.game import Diagnostic, Game, TrainState
from gan_jax.schedule import Schedule
from gan_jax.training.rollout import rollout_program
from gan_jax.types import Array, Key, Metrics, Tree

SEED_AXIS = "seed"


def _fields(common: Any, own: Any) -> Any:
    """What holds of a state's fields: rounds and batches are counted in common, so that a lazy term's condition
    stays one condition; all else is each seed's own."""
    return TrainState(common, common, own, own, own)


def stacked(states: Sequence[TrainState]) -> TrainState:
    """One state of several seeds' states, `[S, ...]`; `step` and `cursor` are common."""
    together = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *states)
    return together._replace(step=states[0].step, cursor=states[0].cursor)


def state_of(state: TrainState, seed: int) -> TrainState:
    """The state of one of the seeds, by its place, on one device."""
    device = jax.devices()[0]
    return jax.device_put(_pick(jax.device_put(state, device), seed), device)


@jax.jit
def _pick(state: TrainState, seed: Array) -> TrainState:
    one = jax.tree.map(lambda x: x[seed], (state.key, state.players, state.ema))
    return TrainState(state.step, state.cursor, *one)


def together(sources: Sequence[Source]) -> tuple[Source, Tree]:
    """One source that feeds all seeds, `[count, S, ...]`, and which of its resident leaves differ between them.

    Data that all seeds share are kept once; what differs (a seed, a split drawn by it) is stacked.

    Raises:
      LayoutError: if a source is an iterator with a state of its own, or the data are of different shapes.
    """
    if any(source.state is not None for source in sources):
        raise LayoutError(
            "Several seeds need data that are read by number, not a stream with a state of its own."
        )
    shapes = {str(jax.tree.map(np.shape, source.device_data)) for source in sources}
    if len(shapes) > 1:
        raise LayoutError("Several seeds need data of the same shapes, but those of these seeds differ.")

    def differs(*leaves: Any) -> bool:
        return any(leaf is not leaves[0] and not np.array_equal(leaf, leaves[0]) for leaf in leaves[1:])

    residents = [source.device_data for source in sources]
    apart = jax.tree.map(differs, *residents)

    def join(apart: bool, *leaves: Any) -> Any:
        return np.stack([np.asarray(leaf) for leaf in leaves]) if apart else leaves[0]

    def host_batches(cursor: int, count: int) -> Any:
        return jax.tree.map(lambda *x: np.stack(x, axis=1), *[s.host_batches(cursor, count) for s in sources])

    def close() -> None:
        for source in sources:
            source.close()

    device_data = jax.tree.map(join, apart, *residents)
    return dataclasses.replace(
        sources[0], host_batches=host_batches, host_batch_shards=None, device_data=device_data, close=close
    ), apart


def make_seeds_layout(
    sources: Sequence[Source],
    *,
    devices: Sequence[jax.Device] | None = None,
    side_by_side: bool | None = None,
) -> Layout:
    """As many of the devices as divide the seeds take equal numbers of them, each seed whole on its device.

    A device plays its seeds one after the other, or side by side by `vmap`. On a CPU that gains nothing, and is
    slower where kernels become grouped convolutions; one after the other, each seed's result is that of its run
    alone, bit for bit.

    Args:
      sources: one for each seed, from the first seed on.
      devices: all by default.
      side_by_side: `None` is one after the other on CPU, side by side elsewhere.

    Raises:
      LayoutError: if this is one of several processes, or the sources do not go together.
    """
    if jax.process_count() > 1:
        raise LayoutError("Several seeds are for one process: launch them alone, or one seed on all hosts.")
    devices = jax.devices() if devices is None else devices
    count = len(sources)
    spread = max(n for n in range(1, min(count, len(devices)) + 1) if count % n == 0)
    if side_by_side is None:
        side_by_side = devices[0].platform != "cpu"
    mesh = make_mesh({SEED_AXIS: spread}, devices[:spread])
    whole, shared = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (SEED_AXIS,)))
    source, apart = together(sources)

    def shardings(_: TrainState) -> Any:
        return _fields(whole, shared)

    def begin(make: Callable[[Key], TrainState], keys: Key) -> TrainState:
        single = jax.jit(make)  # one at a time, as alone
        state = stacked([single(key) for key in keys])
        return jax.device_put(state, shardings(state))

    return Layout(
        mesh=mesh,
        replicated=whole,
        place=lambda tree: jax.device_put(tree, jax.tree.map(lambda own: shared if own else whole, apart)),
        shardings=shardings,
        begin=begin,
        reading=lambda _: source,
        pick=lambda host_batches, round_, turn: jax.tree.map(lambda x: x[round_, turn], host_batches),
        compile=functools.partial(_compile, mesh=mesh, apart=apart, side_by_side=side_by_side),
        words=_words(count, spread, side_by_side, devices[0].platform),
    )


def _words(count: int, devices: int, side_by_side: bool, platform: str) -> str:
    if count == devices:
        way = "one on each device"
    else:
        way = f"{count // devices} on {'each of ' + str(devices) + ' devices' if devices > 1 else 'one device'}, "
        way += "side by side" if side_by_side else "one after the other"
        way += " (on a CPU, side by side is not faster)" if platform == "cpu" and not side_by_side else ""
    return f"Training {count} seeds, {way}."


def _compile(
    game: Game,
    source: Source,
    *,
    mesh: Mesh,
    apart: Tree,
    side_by_side: bool,
    schedule: Schedule | None = None,
    diagnostics: Sequence[Diagnostic] = (),
) -> Run:
    inner = rollout_program(game, source.get_batch, schedule=schedule, diagnostics=diagnostics)
    owns = jax.tree.leaves(apart)

    def split(device_data: Tree) -> tuple[list[Any], Callable[[list[Any]], Tree]]:
        """What is a seed's own of the resident data, and the data with one seed's in their place."""
        leaves, structure = jax.tree.flatten(device_data)

        def join(own: list[Any]) -> Tree:
            left = iter(own)
            return jax.tree.unflatten(
                structure, [next(left) if o else leaf for o, leaf in zip(owns, leaves, strict=True)]
            )

        return [leaf for o, leaf in zip(owns, leaves, strict=True) if o], join

    def of_one_device(
        state: TrainState, device_data: Tree, host_batches: Tree, rounds: Array
    ) -> tuple[TrainState, Metrics]:
        mine, join = split(device_data)

        def one(args: Any) -> tuple[TrainState, Metrics]:
            (key, players, ema), own, host_batch = args
            for_seed = TrainState(state.step, state.cursor, key, players, ema)
            return inner(for_seed, join(own), host_batch, rounds)

        args = (state.key, state.players, state.ema), mine, host_batches
        if side_by_side:
            return jax.vmap(one, out_axes=(_fields(None, 0), 1))(args)
        after, metrics = jax.lax.map(one, args)
        after = after._replace(step=after.step[0], cursor=after.cursor[0])
        return after, jax.tree.map(lambda m: m.swapaxes(0, 1), metrics)

    seeds, whole = PartitionSpec(SEED_AXIS), PartitionSpec()
    states = _fields(whole, seeds)
    residents = jax.tree.map(lambda own: seeds if own else whole, apart)
    program = jax.jit(
        jax.shard_map(
            of_one_device,
            mesh=mesh,
            in_specs=(states, residents, seeds, whole),
            out_specs=(states, PartitionSpec(None, SEED_AXIS)),
            check_vma=False,
        ),
        donate_argnums=0,
        compiler_options=compiler_options(),
    )
    along, everywhere = NamedSharding(mesh, seeds), NamedSharding(mesh, whole)

    def run(
        state: TrainState, device_data: Tree, host_batches: Any, rounds: int
    ) -> tuple[TrainState, Metrics]:
        # [K, T, S, ...] to [S, K, T, ...]
        sent = jax.tree.map(lambda x: jax.device_put(np.moveaxis(x, 2, 0), along), host_batches)
        return program(state, device_data, sent, jax.device_put(np.int32(rounds), everywhere))

    return run


# ---------------------------------------------------------------------------------------------------------
# What is told of them


def summary(metrics: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Metrics `[S, ...]` as their mean, its 95 % interval over the seeds (Student's t), and each seed's own.

    >>> told = summary({"loss": np.array([1.0, 3.0])})
    >>> told["loss"], told["loss/seeds"], [round(bound, 2) for bound in told["loss/interval"]]
    (2.0, [1.0, 3.0], [-10.71, 14.71])
    """
    told: dict[str, Any] = {}
    for name, values in metrics.items():
        each = np.asarray(values, np.float64)
        mean, low, high = student_interval(each)
        told |= {
            name: mean.tolist(),
            f"{name}/interval": [low.tolist(), high.tolist()],
            f"{name}/seeds": each.tolist(),
        }
    return told


def own_metrics(line: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """One seed's metrics of a line that `summary` made.

    >>> own_metrics({"step": 5, **summary({"loss": np.array([1.0, 3.0])})}, 1)
    {'loss': 3.0}
    """
    return {
        name.removesuffix("/seeds"): values[seed] for name, values in line.items() if name.endswith("/seeds")
    }


def combined(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several seeds' evaluations as one: means in their places; `seeds`, the means' `intervals` (as `summary` has
    them), and what each of them gave, beside."""
    parts = ("samples", "players")
    return {
        **evaluations[0],
        **{part: _over_seeds(_mean, [one[part] for one in evaluations]) for part in parts},
        "intervals": {part: _over_seeds(_interval, [one[part] for one in evaluations]) for part in parts},
        "seeds": [one["seed"] for one in evaluations],
        "each": [{part: one[part] for part in parts} for one in evaluations],
    }


def _over_seeds(told: Callable[[np.ndarray], Any], trees: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is told of every number over the seeds; what is no number is the first seed's."""
    found: dict[str, Any] = {}
    for name, value in trees[0].items():
        values = [tree[name] for tree in trees]
        if isinstance(value, Mapping):
            found[name] = _over_seeds(told, values)
        else:
            found[name] = told(np.asarray(values, np.float64)) if is_number(value) else value
    return found


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _interval(values: np.ndarray) -> list[float]:
    _, low, high = student_interval(values)
    return [low.tolist(), high.tolist()]


def is_number(value: Any) -> bool:
    """Whether a metric is one number."""
    return isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.ndim == 0)
