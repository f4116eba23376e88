"""`metrics.jsonl`: its lines, written and read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from gan_jax.runs.files import has_other_names, read_regular, reason, write_atomically
from gan_jax.runs.strict_json import dumps, from_json
from gan_jax.runs.workdir import Workdir, WorkdirError

_RESERVED = ("step", "time")


def check_names(metrics: Mapping[str, Any]) -> None:
    """Checks that no metric has a name that every line uses itself.

    Raises:
      ValueError: if a metric is called `step` or `time`.
    """
    if taken := [name for name in _RESERVED if name in metrics]:
        raise ValueError(f"A metric cannot be called {taken[0]!r}: every line has a field of this name.")


def json_line(step: int, seconds: float, metrics: Mapping[str, Any]) -> str:
    """One line of `metrics.jsonl`: `step`, `time` (seconds since 1970), then the metrics by name.

    >>> import numpy as np
    >>> json_line(7, 12.5, {"critic/loss": np.float32(0.1), "norms": [1.0, float("inf")]})
    '{"step": 7, "time": 12.5, "critic/loss": 0.1, "norms": [1.0, "Infinity"]}'

    Raises:
      ValueError: if a metric is called `step` or `time`.
    """
    check_names(metrics)
    record = {"step": int(step), "time": round(seconds, 3)}
    return dumps(record | {name: metrics[name] for name in sorted(metrics)})


def parse_line(line: bytes) -> dict[str, Any] | None:
    """One line of `metrics.jsonl`, or `None` where it is no complete record (a kill cuts the last line)."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return None
    return record


def read_metrics(workdir: Workdir) -> list[dict[str, Any]]:
    """All records of `metrics.jsonl`, in order; the names of non-finite numbers become floats again.

    Raises:
      WorkdirError: if there is no such file.
    """
    try:
        records = [parse_line(line) for line in _lines(workdir.metrics)]
    except OSError as error:
        raise WorkdirError(f"Cannot read {workdir.metrics}: {reason(error)}.") from error
    return [from_json(record) for record in records if record is not None]


def truncate_metrics(workdir: Workdir, step: int, lines_at_step: int | None = None) -> int:
    """Drops what `metrics.jsonl` says of rounds after `step`, so that a resumed run's log has each round once.

    Lines that are no complete records go too. Where none is to be dropped, only a file is rewritten that has
    another name too, as in a copy by hard links (`cp -al`): what is appended to one would be in both.

    Args:
      workdir: the work directory.
      step: the round that the run goes on from.
      lines_at_step: how many lines of this round stay, the first; all if `None`.

    Returns:
      How many lines were dropped.

    Raises:
      WorkdirError: if the file cannot be rewritten; it is then as it was.
    """
    kept, dropped, at_step = [], 0, 0
    try:
        for line in _lines(workdir.metrics):
            record = parse_line(line)
            stays = record is not None and record["step"] <= step
            if record is not None and record["step"] == step:
                at_step += 1
                stays = lines_at_step is None or at_step <= lines_at_step
            if stays:
                kept.append(line)
            else:
                dropped += 1
        if dropped or has_other_names(workdir.metrics):
            write_atomically(workdir.metrics, b"".join(kept))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise WorkdirError(f"Cannot rewrite {workdir.metrics}: {reason(error)}.") from error
    return dropped


def count_lines(workdir: Workdir) -> int:
    """How many lines `metrics.jsonl` has; 0 where there is none.

    Raises:
      WorkdirError: if it cannot be read.
    """
    try:
        return sum(1 for _ in _lines(workdir.metrics))
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise WorkdirError(f"Cannot read {workdir.metrics}: {reason(error)}.") from error


def thin_metrics(workdir: Workdir, oldest: int) -> int:
    """Drops every second of the `oldest` first lines, and returns how many lines are left.

    Logs and evaluations are counted by themselves: where they take turns, every second line is of one kind. It is a
    function of the lines only: a run that was killed and gone on with thins as one that was left alone.

    Raises:
      OSError: if the file cannot be rewritten; it is then as it was.
    """
    kept, seen = [], {True: 0, False: 0}
    for place, line in enumerate(_lines(workdir.metrics)):
        kind = _EVALUATION in line
        if place >= oldest or seen[kind] % 2 == 0:
            kept.append(line)
        seen[kind] += 1
    write_atomically(workdir.metrics, b"".join(kept))
    return len(kept)


_EVALUATION = b'"evaluation/'
"""In every line of an evaluation, and in no log."""


def _lines(path: epath.Path) -> Iterator[bytes]:
    yield from io.BytesIO(read_regular(path))
