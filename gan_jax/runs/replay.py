"""What led to a number that is none: rounds played again from the last good checkpoint, looked at one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.diagnostics import gradients, health, layer_gradients
from gan_jax.distributed.layout import Layout
from gan_jax.game import TrainState, fresh_turns
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.loop import broken_leaf, initial, layout_of, schedule_at
from gan_jax.runs.workdir import Workdir, read_metrics, write_atomically
from gan_jax.runs.writer import json_line
from gan_jax.training.experiment import Experiment, ExperimentError
from gan_jax.training.rollout import stack_rounds

DIAGNOSTICS = (health, gradients, layer_gradients)


class Replayed(NamedTuple):
    """What a replay has found.

    Attributes:
      start: the round of the checkpoint.
      step: the round at which something was not finite, or after the last one played.
      player, leaf, metric: what was not finite first, by the end of that round; `None` where all was.
      seed: whose of several.
    """

    start: int
    step: int
    player: str | None = None
    leaf: str | None = None
    metric: str | None = None
    seed: int | None = None


def named_round(workdir: Workdir) -> int | None:
    """The round after the last one that the log says was not finite, or `None`."""
    if not workdir.metrics.exists():
        return None
    rounds = [line["step"] for line in read_metrics(workdir) if "alarm/non_finite" in line]
    return rounds[-1] + 1 if rounds else None


def replay(
    experiment: Experiment,
    workdir: Workdir,
    *,
    checkpoint: int | None = None,
    until: int | None = None,
    say: Callable[[str], None] = print,
) -> Replayed:
    """Plays on from a checkpoint, a round at a time, until something is not finite.

    The rounds go through the program that trained, so they are the rounds that were played, bit for bit. The
    diagnostics are computed beside it, by a program of their own. Each round's metrics go to `replay.jsonl`.

    Args:
      experiment: what was trained.
      workdir: where.
      checkpoint: the round to start from; the newest good one by default, the run's beginning where there is none.
      until: the round to stop at; the one that the log names by default.
      say: prints a line for the user.

    Raises:
      ExperimentError: if there is no round to stop at.
      CheckpointError: if the checkpoint cannot be restored.
    """
    until = named_round(workdir) if until is None else until
    if until is None:
        raise ExperimentError(
            f"{workdir.metrics} names no round at which something was not finite: say how far to replay, --until=N."
        )
    layout = layout_of(experiment)
    make, key, target = initial(experiment)
    with Checkpoints(workdir.checkpoints) as checkpoints:
        if checkpoint is None and not checkpoints.steps():  # it stopped before its first save
            start, state = 0, layout.begin(make, key)
        else:
            restored = checkpoints.restore(target, checkpoint, shardings=layout.shardings(target))
            start, state = restored.step, restored.state
            if experiment.source.restore is not None and restored.payload is not None:
                experiment.source.restore(restored.payload)
    if start >= until:
        raise ExperimentError(
            f"The checkpoint of round {start} lies after the rounds to replay, which end at {until}: "
            "choose an earlier one with --checkpoint."
        )
    say(f"Replaying rounds {start} to {until - 1} of {workdir.root}.")
    found = _play(experiment, layout, workdir, state, until, say)
    say(_words(found))
    say(f"Every round's metrics, with gradient norms by layer: {workdir.root / 'replay.jsonl'}")
    return found


def _play(
    experiment: Experiment,
    layout: Layout,
    workdir: Workdir,
    state: TrainState,
    until: int,
    say: Callable[[str], None],
) -> Replayed:
    source = layout.local_source(experiment.source)
    device_data = layout.place(source.device_data)
    start = step = int(state.step)
    cursor, lines = int(state.cursor), []
    first_seed = experiment.seed if experiment.seeds > 1 else None
    found = Replayed(start, until)
    programs: dict[Any, Any] = {}
    while step < until:
        schedule = schedule_at(experiment.game, step)
        if schedule not in programs:
            of = {"schedule": schedule}
            programs[schedule] = (
                layout.compile(experiment.game, experiment.source, diagnostics=experiment.diagnostics, **of),
                layout.compile(experiment.game, experiment.source, diagnostics=DIAGNOSTICS, **of),
            )
        played, looked_at = programs[schedule]
        turns = fresh_turns(schedule)
        host_batches = stack_rounds(source, cursor, turns, 1, experiment.rounds_per_dispatch)
        _, seen = looked_at(jax.tree.map(jnp.copy, state), device_data, host_batches, 1)
        state, metrics = played(state, device_data, host_batches, 1)
        now = {name: np.asarray(values)[0] for name, values in {**seen, **metrics}.items()}
        lines.append(json_line(step, 0.0, now))
        broken = _broken(now, state, first_seed)
        if broken:
            found = Replayed(start, step, **broken)
            break
        step, cursor = step + 1, cursor + turns
    write_atomically(workdir.root / "replay.jsonl", "".join(line + "\n" for line in lines).encode())
    return found


def _broken(metrics: Mapping[str, np.ndarray], state: TrainState, seed: int | None) -> dict[str, Any]:
    """What of a round is not finite: its player, and its leaf or its metric."""
    told: dict[str, Any] = {}
    for name, value in metrics.items():
        if np.issubdtype(np.asarray(value).dtype, np.number) and not np.isfinite(value).all():
            told = {"player": name.partition("/")[0], "metric": name}
            break
    leaf = broken_leaf(state, seed)
    if leaf is not None:
        told |= {"player": leaf[0], "leaf": leaf[1], "seed": leaf[2]}
    return told


def _words(found: Replayed) -> str:
    if found.player is None:
        return f"Rounds {found.start} to {found.step - 1} were played again, and everything was finite."
    of = "" if found.seed is None else f" of seed {found.seed}"
    what = [f"the metric {found.metric}"] if found.metric else []
    what += [f"the {found.player}'s {found.leaf}"] if found.leaf else []
    return f"At round {found.step} {' and '.join(what)}{of} stopped being finite."
