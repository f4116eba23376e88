"""What can be said of a state: samples, pictures, scores, probes and evaluations.

A state that lies on several devices is evaluated on all of them: examples are shared, and the numbers are those of
one device to rounding.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.data.source import Source
from gan_jax.functional.batch import named_key
from gan_jax.game import Game, TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state
from gan_jax.types import Array, Batch, Key, Metrics, Moment, Tree

CHUNK = 1000
"""Latents drawn with one key."""
BLOCK = 250
"""Samples that one device computes at once, however many devices there are: rounding depends on it."""


def mesh_of(state: TrainState) -> Mesh | None:
    """The mesh of several devices that the state lies on, or `None`."""
    mesh = getattr(getattr(state.step, "sharding", None), "mesh", None)
    return mesh if isinstance(mesh, Mesh) and mesh.size > 1 else None


def generator_variables(state: TrainState, ema: bool = True) -> tuple[Tree, Tree]:
    """The generator's `(params, model_state)`: its moving average where it keeps one and `ema` asks for it."""
    if ema and "generator" in state.ema:
        return state.ema["generator"]
    player = state.players["generator"]
    return player.params, player.model_state


def _whole(mesh: Mesh | None) -> NamedSharding | None:
    """Where results lie: whole on every device, so that every process can read them."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


@functools.lru_cache(maxsize=32)
def _sampler(game: Game, mesh: Mesh | None, kind: Any) -> Callable[..., Array]:
    """`(variables, key's words, numbers of the blocks, their inputs) -> samples`, a block on each device.

    Every device runs one and the same program on its block, so that samples agree to the last bits on any number of
    devices: on their way to 256 levels a rounding error can become a level.
    """

    def block(variables: tuple[Tree, Tree], words: Array, number: Array, inputs: Any) -> Array:
        key = named_key(jax.random.wrap_key_data(words, impl=kind), "generator")
        own = jax.random.fold_in(key, number[0])
        return game.networks["generator"].apply(*variables, *inputs, train=False, key=own)[0]

    if mesh is None:
        return jax.jit(block)
    everywhere, divided = PartitionSpec(), PartitionSpec(mesh.axis_names)
    shared = jax.shard_map(
        block,
        mesh=mesh,
        in_specs=(everywhere, everywhere, divided, divided),
        out_specs=divided,
        check_vma=False,
    )
    return jax.jit(shared, out_shardings=_whole(mesh))


def sample(
    game: Game,
    state: TrainState,
    key: Key,
    n: int,
    *,
    ema: bool = True,
    conditions: Callable[[int], tuple[Any, ...]] = lambda n: (),
) -> np.ndarray:
    """Samples of the generator in evaluation (running statistics, no noise in layers).

    Args:
      game: the game.
      state: whose generator; on several devices, they share the work.
      key: the draw; the same key gives the same latents whatever the parameters and the devices.
      n: how many.
      ema: use the moving average where the generator keeps one.
      conditions: `n -> the generator's extra_sources inputs`, each `[n, ...]`.

    Returns:
      `[n, ...]`, images in [-1, 1].

    Raises:
      ValueError: if `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"Ask for 1 or more samples, got {n}.")
    mesh = mesh_of(state)
    variables, prior = generator_variables(state, ema), game.objective.prior
    draw = _sampler(game, mesh, jax.random.key_impl(key))
    inputs = tuple(jax.tree.map(np.asarray, conditions(n)))
    if prior is not None:
        inputs = (_latents(prior, key, n), *inputs)
    # Blocks of one size, so that one program serves all; the last one's surplus is dropped.
    size, together = min(BLOCK, n), 1 if mesh is None else mesh.size
    parts = []
    for start in range(0, n, size * together):
        here = jax.tree.map(lambda x, a=start: _padded(x[a : a + size * together], size * together), inputs)
        numbers = np.arange(together, dtype=np.int32) + start // size
        parts.append(np.asarray(draw(variables, np.asarray(jax.random.key_data(key)), numbers, here)))
    return np.concatenate(parts)[:n]


def _latents(prior: Callable[[Key, int], Tree], key: Key, n: int) -> Tree:
    """`n` latents as numbers: drawn by themselves, since the devices are not to decide what is drawn."""
    parts = [
        prior(named_key(jax.random.fold_in(key, start), "latent"), min(CHUNK, n - start))
        for start in range(0, n, CHUNK)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)


def sample_shape(experiment: Experiment, state: TrainState) -> tuple[int, ...]:
    """The shape of one sample, of a state or of its shapes; nothing is drawn."""
    game = experiment.game

    def draw(state: TrainState, key: Key) -> Array:
        prior, conditions = game.objective.prior, experiment.conditions(1)
        inputs = conditions if prior is None else (prior(key, 1), *conditions)
        return game.networks["generator"].apply(*generator_variables(state), *inputs, train=False, key=key)[0]

    return jax.eval_shape(draw, state, jax.random.key(0)).shape[1:]


def _padded(x: np.ndarray, size: int) -> np.ndarray:
    """`x` with its last row repeated up to `size` rows."""
    return np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)]) if len(x) < size else x


def picture(experiment: Experiment, state: TrainState, *, ema: bool = True) -> Callable[[], np.ndarray]:
    """What draws the experiment's picture of `state`, uint8 `[H, W, C]`, on any thread.

    Its samples, always of the same latents, are made here.
    """
    key = named_key(jax.random.key(experiment.seed), "picture")
    samples = sample(
        experiment.game,
        state,
        key,
        experiment.picture_samples,
        ema=ema,
        conditions=experiment.conditions,
    )
    return functools.partial(experiment.picture, samples)


# ---------------------------------------------------------------------------------------------------------
# Evaluation


def evaluate(experiment: Experiment, state: TrainState, batch: Batch | None = None) -> dict[str, Any]:
    """What the experiment's evaluations say of samples, and every player's loss and scores on one batch.

    Where the generator keeps a moving average, its samples stand beside those of the parameters themselves, drawn
    from the same latents.

    Args:
      experiment: whose evaluations.
      state: what is evaluated.
      batch: as `get_batch` gives it; the next of the source if `None`, which a stream then has behind it.

    Returns:
      For JSON: `step`, `evaluation_samples`, `seed`; `samples`, by `ema` and `raw` the numbers by name;
      `fingerprints`, by evaluation what its scores depend on and which `metrics` those are; `players`.
    """
    key = named_key(jax.random.key(experiment.seed), "evaluation")
    kinds = {"ema": True, "raw": False} if "generator" in state.ema else {"raw": False}
    samples: dict[str, dict[str, Any]] = {}
    fingerprints: dict[str, Any] = {}
    for kind, ema in kinds.items():
        drawn = sample(
            experiment.game,
            state,
            key,
            experiment.evaluation_samples,
            ema=ema,
            conditions=experiment.conditions,
        )
        samples[kind] = {}
        for name, evaluation in experiment.evaluations.items():
            found: Any = evaluation(drawn)
            if hasattr(found, "fingerprint"):
                fingerprints[name] = _fingerprint(found)
                found = found.values
            samples[kind] |= found
    return {
        "step": int(state.step),
        "evaluation_samples": experiment.evaluation_samples,
        "seed": experiment.seed,
        "samples": samples,
        "fingerprints": fingerprints,
        "players": losses_and_scores(experiment, state, batch),
    }


def _fingerprint(scores: Any) -> dict[str, Any]:
    return {
        "key": scores.fingerprint.key,
        **dataclasses.asdict(scores.fingerprint),
        "metrics": list(scores.values),
    }


def log_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation's numbers by one name each, and the fingerprints in words, for `metrics.jsonl`.

    >>> log_of({"step": 7, "samples": {"raw": {"frechet": 1.5}}, "fingerprints": {}, "players": {}})
    {'evaluation/samples/raw/frechet': 1.5}
    """
    words = {
        f"evaluation/fingerprint/{name}": ", ".join(f"{k} {v}" for k, v in mark.items() if k != "metrics")
        for name, mark in evaluation["fingerprints"].items()
    }
    numbers = _flat({part: evaluation[part] for part in ("samples", "players")}, "evaluation")
    return {**numbers, **words}


def numbers_of(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """An evaluation's numbers, by which the best checkpoint is chosen.

    >>> numbers_of({"samples": {"ema": {"frechet": 1.5}, "raw": {"frechet": 2.0}}, "players": {}})
    {'frechet': 1.5, 'samples/ema/frechet': 1.5, 'samples/raw/frechet': 2.0}
    """
    first: Mapping[str, Any] = next(iter(evaluation["samples"].values()), {})
    full = {part: evaluation[part] for part in ("samples", "players")}
    return {**_flat(first), **_flat(full)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in tree.items():
        full = f"{prefix}/{name}" if prefix else name
        if isinstance(value, Mapping):
            flat |= _flat(value, full)
        elif np.ndim(value) == 0:
            flat[full] = float(value)
    return flat


def losses_and_scores(
    experiment: Experiment, state: TrainState, batch: Batch | None = None
) -> dict[str, float]:
    """Every player's loss terms and the mean and standard deviation of its scores, on one batch.

    Args:
      experiment: whose players.
      state: their parameters.
      batch: as in `evaluate`.
    """
    source = experiment.source
    if batch is None:
        host_batch = jax.tree.map(lambda x: x[0], source.host_batches(int(state.cursor), 1))
        batch = get_batch(source, state, host_batch)
    with _sharing(state, batch):
        found = _losses(experiment.game, mesh_of(state))(state, batch)
    return {name: float(value) for name, value in found.items()}


@functools.lru_cache(maxsize=8)
def _losses(game: Game, mesh: Mesh | None) -> Callable[[TrainState, Batch], Metrics]:
    def measure(state: TrainState, batch: Batch) -> Metrics:
        moment = Moment(state.step, jax.random.fold_in(named_key(state.key, "evaluation"), state.step))
        measured: Metrics = {}
        for name, loss in game.objective.losses.items():
            _, aux = loss(game, state.players, batch, moment)
            measured |= {f"{name}/{metric}": value for metric, value in aux.metrics.items()}
            for kind, scores in aux.scores.items():
                measured[f"{name}/score_{kind}_mean"] = jnp.mean(scores)
                measured[f"{name}/score_{kind}_std"] = jnp.std(scores)
        return measured

    return jax.jit(measure, out_shardings=_whole(mesh))


def probe(experiment: Experiment, state: TrainState, batch: Batch) -> dict[str, np.ndarray]:
    """What the experiment's probes say of the state, on one batch."""
    with _sharing(state, batch):
        found = _probes(experiment, mesh_of(state))(state, batch)
    return {name: np.asarray(value) for name, value in found.items()}


@functools.lru_cache(maxsize=8)
def _probes(experiment: Experiment, mesh: Mesh | None) -> Callable[[TrainState, Batch], Metrics]:
    game = experiment.game

    def look(state: TrainState, batch: Batch) -> Metrics:
        moment = Moment(state.step, jax.random.fold_in(named_key(state.key, "probe"), state.step))
        # Computed anew rather than kept: what no probe reads, the compiler drops.
        start = init_state(game, jax.random.key(experiment.seed))
        measured: Metrics = {}
        for one in experiment.probes:
            measured |= one(game, start, state, batch, moment)
        return measured

    return jax.jit(look, out_shardings=_whole(mesh))


def get_batch(source: Source, state: TrainState, host_batch: Any, device_data: Tree = None) -> Batch:
    """One batch on the state's devices, from its share of `source.host_batches`.

    Args:
      source: the data.
      state: on the devices in question.
      host_batch: what the host sends for this batch.
      device_data: `source.device_data` where it is on the devices already.
    """
    device_data = source.device_data if device_data is None else device_data
    with _sharing(state, jax.eval_shape(source.get_batch, device_data, host_batch)):
        return _fetcher(source)(device_data, host_batch)


@functools.lru_cache(maxsize=8)
def _fetcher(source: Source) -> Callable[[Tree, Any], Batch]:
    return jax.jit(source.get_batch)


def _sharing(state: TrainState, batch: Batch) -> contextlib.AbstractContextManager[Any]:
    """Within the state's mesh where its devices divide the batch; a batch that they do not is whole on each."""
    mesh = mesh_of(state)
    if mesh is None:
        return contextlib.nullcontext()
    divided = all(leaf.shape[0] % mesh.size == 0 for leaf in jax.tree.leaves(batch))
    return jax.set_mesh(mesh) if divided else contextlib.nullcontext()


# ---------------------------------------------------------------------------------------------------------
# The run's own data


def batches_of(source: Source) -> Iterator[Any]:
    """One batch's share of `source.host_batches` after the other, from the first; only forward, as a stream is read."""
    cursor = 0
    while True:
        yield jax.tree.map(lambda x: x[0], source.host_batches(cursor, 1))
        cursor += 1


def source_examples(source: Source, n: int, host_batch_iterator: Iterator[Any] | None = None) -> np.ndarray:
    """The first `n` examples `x` of a source, or all where it has fewer, as the critic's first input sees them.

    Reads the source from its beginning, so not while it trains.

    Args:
      source: the data.
      n: how many at most.
      host_batch_iterator: where to take batches from; `batches_of(source)` if `None`.

    Returns:
      `[n, ...]`, floats; images in [-1, 1].
    """
    wanted = n if source.size is None else min(n, source.size)
    device_data = jax.tree.map(jnp.asarray, source.device_data)
    parts: list[np.ndarray] = []
    host_batch_iterator = batches_of(source) if host_batch_iterator is None else host_batch_iterator
    while sum(map(len, parts)) < wanted:
        parts.append(np.asarray(_fetcher(source)(device_data, next(host_batch_iterator))["x"]))
    return np.concatenate(parts)[:wanted]
