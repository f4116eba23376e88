"""What led to NaN or infinity: rounds played again from the last good checkpoint, one by one, with diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from gan_jax.diagnostics import gradients, health, layer_gradients
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.config import overridden_after, read_config
from gan_jax.runs.files import is_there, write_atomically
from gan_jax.runs.finite import broken_leaf
from gan_jax.runs.interrupts import Interrupt
from gan_jax.runs.metrics_log import json_line, read_metrics
from gan_jax.runs.opening import first_state, layout_of, restore
from gan_jax.runs.part import Played
from gan_jax.runs.rounds import Rounds, dispatches
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import Experiment, ExperimentError

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
    log: Callable[[str], None] = tell,
) -> Replayed:
    """Plays on from a checkpoint, a round at a time, until something is not finite.

    The rounds go through the program that trained, so they are the rounds that were played, bit for bit. The
    diagnostics are computed beside it, by a program for them only. Each round's metrics go to `replay.jsonl`.

    Args:
      experiment: what was trained.
      workdir: where.
      checkpoint: the round to start from; the newest good one by default, the run's beginning where there is none.
      until: the round to stop at; the one that the log names by default.
      log: prints a line for the user.

    Raises:
      ExperimentError: if there is no round to stop at.
      CheckpointError: if the checkpoint cannot be restored.
    """
    until = named_round(workdir) if until is None else until
    if until is None:
        raise ExperimentError(
            f"{workdir.metrics} names no round at which something was not finite: give the round to stop at, "
            "--until=N."
        )
    layout = layout_of(experiment)
    with Checkpoints(workdir.checkpoints) as checkpoints:
        if checkpoint is None and not checkpoints.steps():  # it stopped before its first save
            state = first_state(experiment, layout)
        else:
            state = restore(checkpoints, experiment, layout, checkpoint).state
    rounds = Rounds(experiment, layout, extra_diagnostics=DIAGNOSTICS)
    begun = rounds.at(state)
    if begun.step >= until:
        raise ExperimentError(
            f"The checkpoint of round {begun.step} lies after the rounds to replay, which end at {until}: "
            "choose an earlier one with --checkpoint."
        )
    log(f"Replaying rounds {begun.step} to {until - 1} of {workdir.root}.")
    recorded = is_there(workdir.config)  # a run without the launcher may have no configuration
    for launch in overridden_after(read_config(workdir), begun.step + 1) if recorded else ():
        log(
            f"From round {launch.step} on the run was trained with {', '.join(launch.overridden)}: the rounds "
            "before are played with that too, and not as they were."
        )
    first_seed = experiment.seed if experiment.seeds > 1 else None
    found, lines = Replayed(begun.step, until), []
    for played in dispatches(rounds, begun, until=until, interrupt=Interrupt(), most=1):
        metrics = {name: values[0] for name, values in played.history.items()}
        lines.append(json_line(played.start, 0.0, metrics))
        broken = _broken(metrics, played, first_seed)
        if broken is not None:
            found = broken._replace(start=begun.step)
            break
    path = workdir.root / "replay.jsonl"
    write_atomically(path, "".join(line + "\n" for line in lines).encode())
    log(_message(found))
    log(f"Every round's metrics, with gradient norms by layer: {path}")
    return found


def _broken(metrics: Mapping[str, np.ndarray], played: Played, first_seed: int | None) -> Replayed | None:
    """What of a round is not finite: its player, and its leaf or its metric."""
    metric = next((name for name, value in metrics.items() if not np.isfinite(value).all()), None)
    leaf = broken_leaf(played.state, first_seed)
    if leaf is not None:
        return Replayed(played.start, played.start, leaf.player, leaf.leaf, metric, leaf.seed)
    if metric is not None:
        return Replayed(played.start, played.start, metric.partition("/")[0], None, metric)
    return None


def _message(found: Replayed) -> str:
    if found.player is None:
        return f"Rounds {found.start} to {found.step - 1} were played again, and everything was finite."
    of_seed = "" if found.seed is None else f" of seed {found.seed}"
    broken = [f"the metric {found.metric}"] if found.metric else []
    broken += [f"the {found.player}'s {found.leaf}"] if found.leaf else []
    return f"At round {found.step} {' and '.join(broken)}{of_seed} stopped being finite."
