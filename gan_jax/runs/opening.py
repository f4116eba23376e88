"""Opening an experiment: its layout, its first state, the state of a checkpoint, and its sources' end."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from gan_jax.data.errors import DataTimeoutError
from gan_jax.distributed.layout import Layout, make_layout
from gan_jax.distributed.seeds import make_seeds_layout, stacked
from gan_jax.runs.checkpoint import Checkpoints, Restored
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state
from gan_jax.types import Key


@contextlib.contextmanager
def closing(experiment: Experiment) -> Iterator[None]:
    """Closes the experiment's sources at the block's end, unless one hangs: closing it would wait for it."""
    try:
        yield
    except DataTimeoutError:
        raise
    except BaseException:
        _close(experiment)
        raise
    _close(experiment)


def _close(experiment: Experiment) -> None:
    for source in (experiment.source, *experiment.extra_sources):
        source.close()


def layout_of(experiment: Experiment) -> Layout:
    """How the experiment, of one seed or of several, lies on the devices at hand.

    Raises:
      LayoutError: if they cannot take it.
    """
    if experiment.seeds > 1:
        return make_seeds_layout((experiment.source, *experiment.extra_sources))
    return make_layout(experiment.parallelism)


def initial(experiment: Experiment) -> tuple[Callable[[Key], TrainState], Any, TrainState]:
    """How the experiment begins: the state from a key, the key (or those of its seeds), and the state's shapes."""
    make = functools.partial(init_state, experiment.game)
    if experiment.seeds == 1:
        key = jax.random.key(experiment.seed)
        return make, key, jax.eval_shape(make, key)
    keys = [jax.random.key(experiment.seed + i) for i in range(experiment.seeds)]
    return make, keys, jax.eval_shape(lambda: stacked([make(key) for key in keys]))


def first_state(experiment: Experiment, layout: Layout) -> TrainState:
    """The state before the first round, on its devices."""
    make, key, _ = initial(experiment)
    return layout.begin(make, key)


def restore(
    checkpoints: Checkpoints, experiment: Experiment, layout: Layout, step: int | None = None
) -> Restored:
    """The state of a checkpoint on its devices; the experiment's source goes on from there too.

    Args:
      checkpoints: where it is saved.
      experiment: what was trained.
      layout: how it lies on the devices.
      step: the round; the newest that is undamaged by default.

    Raises:
      CheckpointError: if it cannot be restored.
    """
    target = initial(experiment)[2]
    restored = checkpoints.restore(target, step, shardings=layout.shardings(target))
    if experiment.source.restore is not None and restored.payload is not None:
        experiment.source.restore(restored.payload)
    return restored
