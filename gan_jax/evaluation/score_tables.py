"""Tables of the evaluations of checkpoints, with intervals and real-against-real floors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gan_jax.evaluation.comparison import Bounds, Column, cell, column_tables, outside_lines
from gan_jax.evaluation.score_intervals import LEVEL
from gan_jax.tables import text_table

COLUMNS = 4
"""Evaluations beside each other at most; further ones are in a table below."""
_NO_FIELDS = ("key", "metrics", "left_out")
"""What an evaluation's mark has beside the fields of a fingerprint."""
_SPREADS = ("_error", "_std")


def tables(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Tables of the evaluations of checkpoints, with a column each for current and averaged parameters.

    Each evaluation with a fingerprint has tables of its own, in which a column with another fingerprint than the
    first is marked, and a column for the real samples against real ones if there is one. Of several seeds a number
    is the mean and its interval that of the seeds; of a single one the interval is that of the samples. Losses are
    not shown; the file has them.

    Args:
      evaluations: those of `gan_jax.evaluation.evaluate.evaluate`, or combined ones of several seeds.
    """
    from gan_jax.metrics import Fingerprint

    plain: dict[str, dict[str, Bounds]] = {}
    scored: dict[str, dict[str, Column]] = {}
    floors: dict[str, dict[str, Column]] = {}
    reasons: dict[str, dict[str, None]] = {}
    for checkpoint in evaluations:
        marks = checkpoint["fingerprints"]
        with_mark = {name for mark in marks.values() for name in mark["metrics"]}
        for kind, numbers in checkpoint["samples"].items():
            label = f"round {checkpoint['step']}, {kind}"
            if "seeds" in checkpoint:
                label += f", mean of {len(checkpoint['seeds'])} seeds"
            ends = checkpoint.get("intervals", {}).get("samples", {}).get(kind, {})
            plain[label] = _bounds({k: v for k, v in numbers.items() if k not in with_mark}, ends)
            for name, mark in marks.items():
                fingerprint = Fingerprint(**{k: v for k, v in mark.items() if k not in _NO_FIELDS})
                found = _bounds({metric: numbers[metric] for metric in mark["metrics"]}, ends)
                scored.setdefault(name, {})[label] = Column(found, fingerprint)
        for name, mark in marks.items():
            reasons.setdefault(name, {}).update(dict.fromkeys(_reasons(checkpoint, mark)))
        for name, floor in checkpoint.get("floors", {}).items():
            prefix = name[: name.rfind("/") + 1]
            values = {f"{prefix}{metric}": value for metric, value in floor["values"].items()}
            ends = {f"{prefix}{metric}": bounds for metric, bounds in floor.get("intervals", {}).items()}
            column = Column(_bounds(values, ends), Fingerprint(**floor["fingerprint"]))
            known = floors.setdefault(name, {})
            if column.fingerprint not in [each.fingerprint for each in known.values()]:
                known["real against real" + (f" ({len(known) + 1})" if known else "")] = column
    parts = _plain_tables(plain)
    for name, columns in scored.items():
        parts += column_tables(columns, floors.get(name, {}), most=COLUMNS)
        first = next(iter(columns.values())).fingerprint
        outside = outside_lines({**columns, **floors.get(name, {})})
        parts.append("\n".join([*reasons[name], *outside, str(first)]))
    if any("intervals" in checkpoint for checkpoint in evaluations):
        of = "the seeds" if any("seeds" in checkpoint for checkpoint in evaluations) else "the samples"
        real = " Real against real: two draws of the real samples, what perfect fakes would score." * any(
            floors
        )
        parts.append(f"Intervals: {100 * LEVEL:g} %, over {of}.{real}")
    return "\n\n".join(parts)


def _bounds(numbers: Mapping[str, Any], ends: Mapping[str, Sequence[float]]) -> dict[str, Bounds]:
    """Numbers with their intervals; a metric's spread is left out where the metric has an interval."""
    spreads = {f"{name}{spread}" for name in ends for spread in _SPREADS}
    found = {}
    for name, value in numbers.items():
        if isinstance(value, int | float) and name not in spreads:
            low, high = ends.get(name, (math.nan, math.nan))
            found[name] = (float(value), float(low), float(high))
    return found


def _reasons(checkpoint: Mapping[str, Any], mark: Mapping[str, Any]) -> list[str]:
    left_out = [f"left out: {name}: {why}" for name, why in mark.get("left_out", {}).items()]
    without = checkpoint.get("without_interval", {}) if "seeds" not in checkpoint else {}
    known = [f"{name} has no interval: {why}." for name, why in without.items() if name in mark["metrics"]]
    return [*left_out, *known]


def _plain_tables(columns: Mapping[str, Mapping[str, Bounds]]) -> list[str]:
    """Tables of numbers without a fingerprint."""
    labels = [label for label, numbers in columns.items() if numbers]
    parts = []
    for start in range(0, len(labels), COLUMNS):
        shown = labels[start : start + COLUMNS]
        metrics = list(dict.fromkeys(metric for label in shown for metric in columns[label]))
        rows = [
            [metric, *(cell(columns[label].get(metric), dash=False) for label in shown)] for metric in metrics
        ]
        parts.append(text_table([["", *shown], *rows], align="lr"))
    return parts
