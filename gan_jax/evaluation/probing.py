"""Evaluation of an experiment's probes at each log."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from gan_jax.diagnostics.probe import ProbeContext
from gan_jax.distributed.mesh import mesh_of, replicated_on
from gan_jax.evaluation.batches import batch_mesh
from gan_jax.keys import named_key
from gan_jax.precision import at_highest_precision
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state
from gan_jax.types import Batch, Metrics


def probe(experiment: Experiment, state: TrainState, batch: Batch) -> dict[str, np.ndarray]:
    """The metrics of the experiment's probes for a state, on one batch, at the highest precision of products."""
    with batch_mesh(state, batch):
        metrics = _probes(experiment, mesh_of(state))(state, batch)
    return {name: np.asarray(value) for name, value in metrics.items()}


@functools.lru_cache(maxsize=8)
def _probes(experiment: Experiment, mesh: Mesh | None) -> Callable[[TrainState, Batch], Metrics]:
    game = experiment.game

    def measure(state: TrainState, batch: Batch) -> Metrics:
        # Computed again rather than stored; the compiler drops it if no probe reads it.
        start = init_state(game, jax.random.key(experiment.seed))
        context = ProbeContext(
            game=game,
            players=state.players,
            batch=batch,
            step=state.step,
            turn_key=jax.random.fold_in(named_key(state.key, "probe"), state.step),
            start=start,
            state=state,
        )
        measured: Metrics = {}
        for run_probe in experiment.probes:
            measured |= at_highest_precision(run_probe)(context)
        return measured

    return jax.jit(measure, out_shardings=replicated_on(mesh))
