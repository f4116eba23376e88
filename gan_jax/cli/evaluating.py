"""`--mode=evaluate`: scores of a run's checkpoints."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterator
from typing import Any

from gan_jax.cli.errors import UsageError
from gan_jax.cli.opened_run import OpenedRun, open_run
from gan_jax.cli.request import Request
from gan_jax.game import GeneratorRole
from gan_jax.runs.files import write_atomically
from gan_jax.runs.strict_json import dumps
from gan_jax.runs.terminal import tell
from gan_jax.training.experiment import Experiment


def evaluate(request: Request) -> None:
    """Writes `evaluation.json`, a list of the evaluations of the checkpoints, and prints their tables."""
    from gan_jax.evaluation import scoring
    from gan_jax.evaluation.averages import young_average
    from gan_jax.evaluation.batches import get_batch, iterate_host_batches
    from gan_jax.evaluation.evaluate import evaluate as evaluate_state
    from gan_jax.evaluation.seed_statistics import combined

    run = open_run(request)
    weights, standing = run.weights(request), run.standing(request)
    host_batch_iterator = iterate_host_batches(run.experiment.source)
    first = next(host_batch_iterator)
    experiment = _scored(request, run, itertools.chain([first], host_batch_iterator))
    found = []
    run = dataclasses.replace(run, experiment=experiment)
    for state in run.states(_wanted(request, run)):
        evaluations = [
            evaluate_state(single, seed_state, get_batch(single.source, seed_state, first), weights=weights)
            for single, seed_state in run.per_seed(state, standing)
        ]
        if weights != "raw" and (note := young_average(experiment.game, int(state.step))):
            tell(note, sys.stderr)
        found.append(evaluations[0] if len(evaluations) == 1 else combined(evaluations))
    if not found:
        raise UsageError("None of the checkpoints could be read.")
    text = dumps({"checkpoints": found}, indent=2, name="evaluation") + "\n"
    path = run.workdir.root / "evaluation.json"
    write_atomically(path, text.encode())
    tell(scoring.tables(found))
    tell(f"Written to {path}")


def _scored(request: Request, run: OpenedRun, host_batch_iterator: Iterator[Any]) -> Experiment:
    """The experiment with the comparison that the flags ask for among its evaluations."""
    from gan_jax.evaluation import scoring

    experiment = run.experiment
    n = experiment.evaluation_samples if request.num_samples is None else request.num_samples
    if n < 2:
        raise UsageError(f"--num_samples is 2 or more to evaluate, got {n}.")
    experiment = dataclasses.replace(experiment, evaluation_samples=n)
    everyone, players = run.generators(None), run.generators(request.player)
    prefixes = {player: "" if len(everyone) == 1 else f"{player}/" for player in everyone}
    evaluations = {
        name: evaluation
        for name, evaluation in experiment.evaluations.items()
        if any(name.startswith(prefixes[player]) for player in players)
    }
    asked = request.data or request.extractor or request.metrics
    for player, batches in zip(players, itertools.tee(host_batch_iterator, len(players)), strict=True):
        name = f"{prefixes[player]}scores"
        if name in evaluations and not asked:
            continue
        role = experiment.game.players[player].role
        assert isinstance(role, GeneratorRole)
        real, description = scoring.reference(
            request.data or "",
            run.sample_shape(player),
            experiment.source,
            n,
            batches,
            entry=role.target,
        )
        evaluations[name] = scoring.against(
            real,
            extractor=request.extractor or experiment.extractor,
            split=description,
            which=tuple(filter(None, (request.metrics or "").split(","))),
            seed=experiment.seed,
        )
    return dataclasses.replace(experiment, evaluations=evaluations)


def _wanted(request: Request, run: OpenedRun) -> list[int | None]:
    """The rounds to evaluate; `None` is the newest that is undamaged."""
    given = request.checkpoints
    if given is None:
        return [request.checkpoint]
    if request.checkpoint is not None:
        raise UsageError("give --checkpoint or --checkpoints, not both.")
    if given == "best" and run.experiment.best is None:
        raise UsageError(
            "--checkpoints=best needs a run that keeps the best checkpoint: --config.keep_best=METRIC."
        )
    with run.checkpoints() as checkpoints:
        steps, best = checkpoints.steps(), checkpoints.best()
    if given == "best":
        if best is None:
            raise UsageError(
                f"no checkpoint in {run.workdir.checkpoints} was evaluated yet: set evaluate_every."
            )
        return [best]
    if given == "all":
        return list(steps) or [None]
    try:
        return [int(step) for step in given.split(",")]
    except ValueError:
        raise UsageError(f"--checkpoints is all, best, or rounds as in 500,1000; got {given!r}.") from None
