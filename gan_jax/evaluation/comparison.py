"""The result of a comparison: scores with intervals and floors, as a table, a figure and JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from gan_jax.tables import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gan_jax.metrics import Fingerprint

Bounds: TypeAlias = tuple[float, float, float]
"""A value and the bounds of its interval, which are NaN if there is none."""


class Column(NamedTuple):
    """Scores with their common fingerprint.

    Attributes:
      bounds: a value and its interval by the metric's name.
      fingerprint: what they depend on.
    """

    bounds: Mapping[str, Bounds]
    fingerprint: Fingerprint


class Difference(NamedTuple):
    """A score of one set less that of another, with an interval from resamples that share the real images.

    >>> Difference("fid", "a", "b", 2.0, 1.0, 3.0).supported, Difference("fid", "a", "b", 2.0, -1.0, 5.0).supported
    (True, False)
    """

    metric: str
    first: str
    second: str
    value: float
    low: float
    high: float

    @property
    def supported(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Sets of fakes against one set of real images.

    Attributes:
      fakes: the scores of each set, by its name.
      floors: the scores of two disjoint draws of the real images, by label: what perfect fakes would have.
      differences: of every two sets.
      notes: what was skipped, left out, or computed of a part, a line each.
      level: the confidence level of all intervals.
    """

    fakes: Mapping[str, Column]
    floors: Mapping[str, Column]
    differences: Sequence[Difference]
    notes: Sequence[str]
    level: float

    def __str__(self) -> str:
        """A table with a column for each set and each floor; columns with another fingerprint are marked."""
        columns = {**self.fakes, **self.floors}
        parts = column_tables(self.fakes, self.floors, most=len(self.fakes))
        if self.differences:
            parts.append(self._differences())
        first = next(iter(columns.values())).fingerprint
        level = f"Intervals: {100 * self.level:g} %."
        parts.append("\n".join([*self.notes, *outside_lines(columns), level, str(first)]))
        return "\n\n".join(parts)

    def _differences(self) -> str:
        rows = [["difference", "", "", "supported"]]
        for each in self.differences:
            names = f"{each.first} - {each.second}"
            rows.append([each.metric, names, cell(each[3:]), "yes" if each.supported else "no"])
        return text_table(rows, align="llrl")

    def as_dict(self) -> dict[str, Any]:
        """The comparison as plain dicts and lists, for JSON."""

        def plain(columns: Mapping[str, Column]) -> dict[str, Any]:
            return {
                name: {
                    "scores": {metric: list(bounds) for metric, bounds in column.bounds.items()},
                    "fingerprint": dataclasses.asdict(column.fingerprint),
                    "key": column.fingerprint.key,
                }
                for name, column in columns.items()
            }

        return {
            "fakes": plain(self.fakes),
            "floors": plain(self.floors),
            "differences": [{**each._asdict(), "supported": each.supported} for each in self.differences],
            "notes": list(self.notes),
            "level": self.level,
        }

    def figure(self) -> Figure:
        """A chart for each metric: the sets' values and intervals, and their floors as dotted lines."""
        from gan_jax.pictures import Row, figure, interval_plot

        metrics = list(dict.fromkeys(metric for column in self.fakes.values() for metric in column.bounds))
        charts = []
        for metric in metrics:
            rows = {
                name: column.bounds[metric] for name, column in self.fakes.items() if metric in column.bounds
            }
            floors = [column.bounds[metric][0] for column in self.floors.values() if metric in column.bounds]
            charts.append(interval_plot(rows, x_label=metric, marks=floors))
        pairs = [tuple(charts[k : k + 2]) for k in range(0, len(charts), 2)]
        height = 1.0 + 0.35 * len(self.fakes)
        return figure(*(Row((*pair, None)[:2], height=height) for pair in pairs))


def column_tables(columns: Mapping[str, Column], floors: Mapping[str, Column], *, most: int) -> list[str]:
    """Tables with a row for each metric, and what the marks of columns with another fingerprint mean.

    Where some values have an interval, a dash stands for that of the others.

    Args:
      columns: scores by label.
      floors: the scores of real samples against real ones, which stand in every table.
      most: the largest number of other columns in a table.

    >>> from gan_jax.metrics import Fingerprint
    >>> mark = Fingerprint(extractor="pixels", weights="none", resize="none", value_range="float [-1, 1]",
    ...                    real=100, fake=50, split="test", seed=0)
    >>> print(*column_tables({"ours": Column({"frechet": (1.5, 1.25, 2.0)}, mark)}, {}, most=4))
                         ours
    frechet     1.5 [1.25, 2]
    real images           100
    fake images            50
    """
    from gan_jax.metrics.fingerprints import marked

    every = {**columns, **floors}
    labels, explained = marked({name: column.fingerprint for name, column in every.items()})
    bounds = [each for column in every.values() for each in column.bounds.values()]
    dash = any(math.isfinite(low) for _, low, _ in bounds)
    names, parts = list(columns), []
    for start in range(0, len(names), most):
        shown = {name: every[name] for name in (*names[start : start + most], *floors)}
        metrics = list(dict.fromkeys(metric for column in shown.values() for metric in column.bounds))
        rows = [["", *(labels[name] for name in shown)]]
        for metric in metrics:
            rows.append([metric, *(cell(column.bounds.get(metric), dash=dash) for column in shown.values())])
        for side in ("real", "fake"):
            sizes = [getattr(column.fingerprint, side) for column in shown.values()]
            rows.append([f"{side} images", *(f"{size:,}" if size else "unknown" for size in sizes)])
        parts.append(text_table(rows, align="lr"))
    if explained:
        parts.append("\n".join(["Not comparable with the first column:", *explained]))
    return parts


def outside_lines(columns: Mapping[str, Column]) -> list[str]:
    """A line for each metric of which values lie outside of their intervals."""
    metrics = dict.fromkeys(metric for column in columns.values() for metric in column.bounds)
    return [line for metric in metrics if (line := _outside(metric, columns))]


def _outside(metric: str, columns: Mapping[str, Column]) -> str:
    """A line about values that lie outside of their intervals, or nothing.

    An interval is about the score of the distributions. The value of few images is biased away from it. A bootstrap
    finds the bias that is proportional to 1 / N; where that is large beside the interval, what is left may be too.
    """
    found, biased = [], []
    for name, column in columns.items():
        value, low, high = column.bounds.get(metric, (math.nan,) * 3)
        if value < low or value > high:
            found.append(f"below {high:.4g} ({name})" if low == 0 else f"{(low + high) / 2:.4g} ({name})")
            if low > 0 and abs(value - (low + high) / 2) > high - low:
                biased.append(name)
    if not found:
        return ""
    line = f"{metric} without the bias of finite samples, as in its interval: {', '.join(found)}."
    if biased:
        line += (
            f" The bias of {', '.join(biased)} is more than the width of the interval, which a part that is left "
            "of it may miss: take more images."
        )
    return line


def cell(bounds: Sequence[float] | None, *, dash: bool = True) -> str:
    """A value with its interval; where it has none, with a dash in its place or, without `dash`, nothing.

    >>> cell((1.5, 1.25, 2.0)), cell((1.5, math.nan, math.nan)), cell(None)
    ('1.5 [1.25, 2]', '1.5 [-]', '-')
    >>> cell((1.5, math.nan, math.nan), dash=False)
    '1.5'
    """
    if bounds is None:
        return "-"
    value, low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{value:.5g} [-]" if dash else f"{value:.5g}"
    return f"{value:.5g} [{low:.4g}, {high:.4g}]"
