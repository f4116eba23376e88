"""Evaluations: scores of samples, and every player's loss on a batch.

A state on several devices is evaluated on all of them: examples are sharded, and the results equal those of one
device up to rounding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gan_jax.distributed.mesh import mesh_of, replicated_on
from gan_jax.evaluation.batches import batch_mesh, get_batch
from gan_jax.evaluation.sampling import generators_of, sample
from gan_jax.game import Game, GeneratorRole, TurnContext
from gan_jax.keys import named_key
from gan_jax.precision import at_highest_precision
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.types import Batch, Metrics


@at_highest_precision
def evaluate(
    experiment: Experiment, state: TrainState, batch: Batch | None = None, *, weights: str | None = None
) -> dict[str, Any]:
    """Runs the experiment's evaluations on samples, and computes every player's loss and scores on a batch.

    If a generator keeps a moving average, both the averaged and the current parameters are evaluated, with the
    same latents. With several generators the metrics of each are prefixed with its name. Everything is computed at
    the highest precision of products, whatever the training's.

    Args:
      experiment: the experiment with its evaluations.
      state: the state to evaluate.
      batch: a batch from `get_batch`; by default the next of the source, which consumes it from a stream.
      weights: `ema` or `raw`, to evaluate only the averaged or only the current parameters.

    Returns:
      A dict for JSON: `step`, `evaluation_samples`, `seed`; `samples`, the metrics by name for `ema` and `raw`;
      `fingerprints`, for each evaluation what its scores depend on, their names `metrics`, and the reasons for
      those `left_out`; `players`, the losses and scores. Where evaluations give intervals: `intervals`, whose
      `samples` are bounds as `samples` are numbers, `without_interval`, the reasons by metric, and `floors`, the
      scores of real samples for each evaluation.
    """
    key = named_key(jax.random.key(experiment.seed), "evaluation")
    game = experiment.game
    generators = generators_of(game)
    averaged = any(name in state.ema for name in generators)
    kinds = {"ema": True, "raw": False} if averaged else {"raw": False}
    if weights is not None:
        kinds = {weights: weights == "ema"}
    samples: dict[str, dict[str, Any]] = {}
    fingerprints: dict[str, Any] = {}
    bounds: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    without: dict[str, str] = {}
    floors: dict[str, Any] = {}
    for kind, ema in kinds.items():
        samples[kind] = {}
        for player in generators:
            drawn = sample(
                game,
                state,
                key,
                experiment.evaluation_samples,
                player=player,
                ema=ema,
                condition_batch=experiment.evaluation_batch or experiment.condition_batch,
            )
            prefix = "" if len(generators) == 1 else f"{player}/"
            for name, evaluation in experiment.evaluations_of(player).items():
                result: Any = evaluation(drawn)
                if hasattr(result, "intervals"):
                    bounds[kind] |= {
                        f"{prefix}{metric}": list(ends) for metric, ends in result.intervals.items()
                    }
                    if hasattr(result, "fingerprint"):
                        fingerprints[f"{prefix}{name}"] = _fingerprint(result, prefix)
                        without |= {
                            f"{prefix}{metric}": why for metric, why in result.without_interval.items()
                        }
                        if result.floor is not None:
                            floors[f"{prefix}{name}"] = result.floor.as_dict()
                    result = result.values
                samples[kind] |= {f"{prefix}{metric}": value for metric, value in result.items()}
    return {
        "step": int(state.step),
        "evaluation_samples": experiment.evaluation_samples,
        "seed": experiment.seed,
        "samples": samples,
        "fingerprints": fingerprints,
        "players": losses_and_scores(experiment, state, batch),
        **({"intervals": {"samples": bounds}} if any(bounds.values()) else {}),
        **({"without_interval": without} if without else {}),
        **({"floors": floors} if floors else {}),
    }


def _fingerprint(scores: Any, prefix: str) -> dict[str, Any]:
    return {
        "key": scores.fingerprint.key,
        **dataclasses.asdict(scores.fingerprint),
        "metrics": [f"{prefix}{metric}" for metric in scores.values],
        **({"left_out": dict(scores.left_out)} if scores.left_out else {}),
    }


def log_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an evaluation for `metrics.jsonl`: its numbers by flat names, and the fingerprints as text.

    >>> log_of({"step": 7, "samples": {"raw": {"frechet": 1.5}}, "fingerprints": {}, "players": {}})
    {'evaluation/samples/raw/frechet': 1.5}
    """
    texts = {
        f"evaluation/fingerprint/{name}": ", ".join(f"{k} {v}" for k, v in mark.items() if k != "metrics")
        for name, mark in evaluation["fingerprints"].items()
    }
    numbers = _flat({part: evaluation[part] for part in ("samples", "players")}, "evaluation")
    return {**numbers, **texts}


def numbers_of(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """An evaluation's numbers by name, from which the best checkpoint is chosen.

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
    """Every player's loss terms, and the mean and standard deviation of its scores, on a batch.

    Terms with an interval are computed and count once, whatever the round is.

    Args:
      experiment: the experiment.
      state: the state to evaluate.
      batch: as in `evaluate`.

    Returns:
      Numbers named `player/metric`.
    """
    source = experiment.source
    if batch is None:
        host_batch = jax.tree.map(lambda x: x[0], source.host_batches(int(state.cursor), 1))
        batch = get_batch(source, state, host_batch)
    with batch_mesh(state, batch):
        metrics = _losses(experiment.game, mesh_of(state))(state, batch)
    return {name: float(value) for name, value in metrics.items()}


@functools.lru_cache(maxsize=8)
def _losses(game: Game, mesh: Mesh | None) -> Callable[[TrainState, Batch], Metrics]:
    def measure(state: TrainState, batch: Batch) -> Metrics:
        key = jax.random.fold_in(named_key(state.key, "evaluation"), state.step)
        context = TurnContext(game, state.players, batch, state.step, key, lazy=False)
        measured: Metrics = {}
        for name, part in game.objective.players.items():
            output = part.loss(context)
            measured |= {f"{name}/{metric}": value for metric, value in output.metrics.items()}
            views = {"real": output.outputs.real, "fake": output.outputs.fake}
            if isinstance(part.role, GeneratorRole):
                del views["real"]
            for kind, view in views.items():
                if view is not None:
                    measured[f"{name}/score_{kind}_mean"] = jnp.mean(view.score)
                    measured[f"{name}/score_{kind}_std"] = jnp.std(view.score)
        return measured

    return jax.jit(measure, out_shardings=replicated_on(mesh))
