"""Evaluations of a run at its cadence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_jax.evaluation.evaluate import evaluate, log_of, numbers_of
from gan_jax.evaluation.seed_statistics import combined, is_number, summary
from gan_jax.runs.part import Played, every
from gan_jax.runs.writer import Writer
from gan_jax.training.experiment import Experiment, ExperimentError, closest


class Evaluate:
    """Writes an evaluation to the log, and keeps its numbers for the checkpoint of its round.

    Args:
      experiment: what is trained.
      writer: where the evaluation is written.
    """

    name = "evaluate"
    can_wait = True
    in_background = False

    def __init__(self, experiment: Experiment, writer: Writer):
        self._experiment = experiment
        self._writer = writer
        self._numbers: tuple[int, dict[str, float], str] = -1, {}, ""

    def due(self, step: int) -> bool:
        """At the experiment's `evaluate_every`."""
        return every(self._experiment.evaluate_every, step)

    def run(self, played: Played) -> None:
        """Evaluates every seed.

        Raises:
          ExperimentError: if the evaluations do not give the number that `keep_best` names.
        """
        evaluations = [evaluate(view.experiment, view.state, view.batch()) for view in played.views()]
        combination = evaluations[0] if len(evaluations) == 1 else combined(evaluations)
        line = log_of(combination)
        if len(evaluations) > 1:
            logs = [log_of(evaluation) for evaluation in evaluations]
            numbers = [name for name in line if is_number(line[name])]
            line |= summary({name: np.array([log.get(name, np.nan) for log in logs]) for name in numbers})
        self._writer.scalars(played.step, line)
        known = numbers_of(combination)
        self._numbers = played.step, known, self._measured_by(combination)
        best = self._experiment.best
        if best is not None and best.metric not in known:
            raise ExperimentError(
                f"keep_best names {best.metric}{closest(best.metric, known)}, but the evaluations give "
                f"{', '.join(sorted(known))}."
            )

    def numbers_at(self, step: int) -> dict[str, float]:
        """The evaluation's numbers, if it was of this round."""
        return self._numbers[1] if self._numbers[0] == step else {}

    def measured_by(self, step: int) -> str:
        """What identifies how the number that `keep_best` names was measured, if it was at this round."""
        return self._numbers[2] if self._numbers[0] == step else ""

    def _measured_by(self, evaluation: Mapping[str, Any]) -> str:
        best = self._experiment.best
        if best is None:
            return ""
        keys = [
            mark["key"]
            for part in evaluation.get("each", [evaluation])
            for mark in part["fingerprints"].values()
            if any(
                best.metric in (name, f"samples/ema/{name}", f"samples/raw/{name}")
                for name in mark["metrics"]
            )
        ]
        return " ".join([f"{evaluation['evaluation_samples']} samples", *keys])
