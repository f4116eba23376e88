"""The table and the plot of a sweep's evaluations."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gan_jax.functional.intervals import student_interval
from gan_jax.runs.strict_json import from_json
from gan_jax.tables import markdown_table, text_table
from gan_jax.training.experiment import HIGHEST, LOWEST

FILES = ("table.md", "sweep.png")
"""The files of the table and of the plot."""
DRAWN = 4
"""How many metrics the plot has at most."""
FIRST = ("frechet", "precision", "recall", "modes_covered")
"""Those that it has if they were measured."""
_OF_A_DRAW = ("key", "metrics", "left_out", "seed", "data")
"""Fields of an evaluation's mark in which runs may differ that are compared: those of a seed."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A run.

    Attributes:
      values: those that are its own.
      evaluation: as `evaluation.json` has it.
      examples: what identifies the examples that it was trained on, as `config.json` has it; empty if unknown.
    """

    values: Mapping[str, str]
    evaluation: Mapping[str, Any]
    examples: str = ""

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len(self.evaluation.get("seeds", [0]))

    def of_seeds(self, metric: str) -> list[float]:
        """The metric of every seed where it is finite; of the moving average's samples, if there is one."""
        parts = self.evaluation.get("each", [self.evaluation])
        found = [(part["samples"].get("ema") or part["samples"].get("raw", {})).get(metric) for part in parts]
        return [float(value) for value in from_json(found) if value is not None and np.isfinite(value)]

    def measured_by(self, metric: str) -> dict[str, Any]:
        """How the metric was measured, by the fields of a fingerprint; empty for a number without one."""
        for mark in self.evaluation.get("fingerprints", {}).values():
            if metric in mark["metrics"]:
                return {name: value for name, value in mark.items() if name not in _OF_A_DRAW}
        return {}

    def differs_from(self, first: Row, metric: str) -> dict[str, tuple[Any, Any]]:
        """In what the metric is another than in the first row, by name: its own, and the first row's.

        Of runs of the same seeds the examples are compared as well: other seeds may have drawn others.
        """
        ours, theirs = self.measured_by(metric), first.measured_by(metric)
        if self._seeds == first._seeds and self.examples and first.examples:
            ours["examples"], theirs["examples"] = self.examples, first.examples
        return {
            name: (theirs.get(name, "-"), ours.get(name, "-"))
            for name in {**theirs, **ours}
            if theirs.get(name) != ours.get(name)
        }

    @property
    def _seeds(self) -> list[Any]:
        return list(self.evaluation.get("seeds", [self.evaluation.get("seed")]))


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """The numbers of the evaluations of which it is known whether less or more is better, in their order."""
    names: dict[str, None] = {}
    for row in rows:
        samples = row.evaluation["samples"]
        names |= dict.fromkeys(samples.get("ema") or samples.get("raw", {}))
    return [name for name in names if name.rpartition("/")[2] in LOWEST | HIGHEST]


def cell(values: Sequence[float], best: bool = False, seeds: int = 1) -> str:
    """A mean, with the half width of its 95 % interval over seeds where there are several.

    Args:
      values: those that are finite.
      best: whether it has a star.
      seeds: how many there are; where some have no finite value, the cell says how many have.

    >>> cell([1.0, 2.0, 3.0], seeds=3), cell([2.5], best=True), cell([]), cell([1.0, 2.0], seeds=3)
    ('2 ± 2.5', '2.5 *', '-', '1.5 ± 6.4 (2 of 3)')
    """
    if not values:
        return "-"
    mean, low, high = student_interval(values)
    spread = f" ± {float(high - low) / 2:.2g}" if len(values) > 1 else ""
    part = f" ({len(values)} of {seeds})" if len(values) < seeds else ""
    return f"{float(mean):.4g}{spread}{part}{' *' if best else ''}"


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A row for each run, the swept fields first; the best mean of each metric has a star.

    Where some seeds have no finite number, the mean of the others is shown with their number and has no star. Of
    means that are the best alike none has one, nor have numbers that were measured in different ways or are of
    other examples.
    """
    fields, metrics = list(rows[0].values), metrics_of(rows)
    best: dict[str, int] = {}
    for metric in metrics:
        values = [row.of_seeds(metric) for row in rows]
        means = [
            float(np.mean(found)) if len(found) == row.seeds else np.nan
            for row, found in zip(rows, values, strict=True)
        ]
        finite = [mean for mean in means if not np.isnan(mean)]
        alike = not any(row.differs_from(rows[0], metric) for row in rows if row.of_seeds(metric))
        if not (alike and finite):
            continue
        first = min(finite) if metric.rpartition("/")[2] in LOWEST else max(finite)
        if finite.count(first) == 1:
            best[metric] = means.index(first)
    heading = [*fields, "round", *metrics]
    return [
        heading,
        *(
            [
                *row.values.values(),
                str(row.evaluation["step"]),
                *(cell(row.of_seeds(metric), best.get(metric) == place, row.seeds) for metric in metrics),
            ]
            for place, row in enumerate(rows)
        ),
    ]


def differences(rows: Sequence[Row]) -> list[str]:
    """A line for each way in which metrics of a row were measured otherwise than those of the first row."""
    lines: dict[str, list[str]] = {}
    for metric in metrics_of(rows):
        for row in rows:
            found = row.differs_from(rows[0], metric)
            if not row.of_seeds(metric) or not found:
                continue
            what = "; ".join(f"{name} {first} against {ours}" for name, (first, ours) in found.items())
            run = ", ".join(f"{field}={value}" for field, value in row.values.items())
            lines.setdefault(f"{run} is not comparable with the first row ({what}): ", []).append(metric)
    return [f"{line}{', '.join(metrics)}." for line, metrics in lines.items()]


def shown(rows: Sequence[Row]) -> str:
    """The table for a terminal, with a line that says what its numbers are."""
    seeds = max(row.seeds for row in rows)
    how = f"means of {seeds} seeds ± the half width of their 95 % interval" if seeds > 1 else "one seed each"
    return "\n".join([text_table(table(rows), align="l"), *differences(rows), f"{how}; * is the best."])


def files(rows: Sequence[Row]) -> dict[str, bytes]:
    """`table.md` and `sweep.png` by name; without metrics that can be drawn there is no plot."""
    from gan_jax import pictures

    cells, notes = table(rows), differences(rows)
    written = {FILES[0]: ("\n\n".join([markdown_table(cells), *notes]) + "\n").encode()}
    drawn = sorted(metrics_of(rows), key=lambda name: name.rpartition("/")[2] not in FIRST)[:DRAWN]
    if drawn:
        charts = tuple(
            pictures.dot_plot(
                {", ".join(f"{k}={v}" for k, v in row.values.items()): row.of_seeds(metric) for row in rows},
                x_label=metric,
                title=f"{metric}: {'lower' if metric.rpartition('/')[2] in LOWEST else 'higher'} is better",
            )
            for metric in drawn
        )
        height = 1.2 + 0.3 * len(rows)
        figure = pictures.figure(*(pictures.Row((chart,), height=height) for chart in charts))
        with tempfile.TemporaryDirectory() as folder:
            pictures.save(figure, pathlib.Path(folder) / FILES[1])
            written[FILES[1]] = (pathlib.Path(folder) / FILES[1]).read_bytes()
    return written
