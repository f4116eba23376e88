"""Probes: what is measured of a state at each log."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from gan_jax.diagnostics.probe import ProbeContext
from gan_jax.distributed.mesh import mesh_of, replicated_on
from gan_jax.evaluation.batches import share_batch
from gan_jax.keys import named_key
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state
from gan_jax.types import Batch, Metrics


def probe(experiment: Experiment, state: TrainState, batch: Batch) -> dict[str, np.ndarray]:
    """What the experiment's probes say of the state, on one batch."""
    with share_batch(state, batch):
        found = _probes(experiment, mesh_of(state))(state, batch)
    return {name: np.asarray(value) for name, value in found.items()}


@functools.lru_cache(maxsize=8)
def _probes(experiment: Experiment, mesh: Mesh | None) -> Callable[[TrainState, Batch], Metrics]:
    game = experiment.game

    def measure(state: TrainState, batch: Batch) -> Metrics:
        # Computed again rather than kept: what no probe reads, the compiler drops.
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
        for one_probe in experiment.probes:
            measured |= one_probe(context)
        return measured

    return jax.jit(measure, out_shardings=replicated_on(mesh))
