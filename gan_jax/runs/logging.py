"""The log: means of the metrics, probes, and alarms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gan_jax.diagnostics.alarms import Alarms, as_metrics
from gan_jax.evaluation.probing import probe
from gan_jax.evaluation.seed_statistics import metrics_of_seed, summary
from gan_jax.game import GeneratorRole
from gan_jax.runs.interval import Interval
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.part import Played, every
from gan_jax.runs.workdir import Workdir
from gan_jax.runs.writer import Writer
from gan_jax.training.experiment import Experiment

_OTHER_LINES = ("evaluation/", "alarm/")
"""What is in lines of `metrics.jsonl` beside the logs, or in a log beside the means."""


class Log:
    """Writes the means since the last log, what the probes measure, and the alarms; new alarms are shown.

    Args:
      experiment: what is trained.
      interval: the sums since the last log.
      writer: where the log is written.
      show: shows a line on the terminal.
    """

    name = "log"
    can_wait = False
    in_background = False

    def __init__(
        self, experiment: Experiment, interval: Interval, writer: Writer, show: Callable[[str], None]
    ):
        self._experiment = experiment
        self._interval = interval
        self._writer = writer
        self._show = show
        generators = experiment.game.objective.with_role(GeneratorRole)
        self._alarms = [Alarms(generators) for _ in range(experiment.seeds)]

    def due(self, step: int) -> bool:
        """At the experiment's `log_every`."""
        return every(self._experiment.log_every, step)

    def run(self, played: Played) -> None:
        """Writes a line and begins the next interval."""
        metrics = self._interval.means()
        if self._experiment.probes:
            probed = [probe(view.experiment, view.state, view.batch()) for view in played.views()]
            if self._experiment.seeds == 1:
                metrics = probed[0] | metrics
            else:
                metrics = {name: np.stack([p[name] for p in probed]) for name in probed[0]} | metrics
        if self._experiment.seeds > 1:
            metrics = summary(metrics)
        self._writer.scalars(played.step, metrics | self.alarms(metrics, played.step, self._show))
        self._interval.clear()

    def alarms(self, metrics: Mapping[str, Any], step: int, show: Callable[[str], None]) -> dict[str, str]:
        """The alarms that hold, of several seeds each separately; shows those that are new."""
        texts: dict[str, list[str]] = {}
        single = self._experiment.seeds == 1
        for place, alarms in enumerate(self._alarms):
            of_seed = "" if single else f"Seed {self._experiment.seed + place}: "
            found = alarms.check(metrics if single else metrics_of_seed(metrics, place))
            for alarm in alarms.news(found):
                show(f"Alarm at round {step}: {alarm.name}. {of_seed}{alarm}")
            for name, text in as_metrics(found).items():
                texts.setdefault(name, []).append(f"{of_seed}{text}")
        return {name: " ".join(text) for name, text in texts.items()}

    def recall(self, workdir: Workdir) -> None:
        """Reads the logs of an earlier launch, which later logs are compared with as if the run had gone on."""
        if not workdir.metrics.exists():
            return
        for line in read_metrics(workdir):
            if any(name not in ("step", "time") and not name.startswith(_OTHER_LINES) for name in line):
                self.alarms(line, line["step"], lambda text: None)
