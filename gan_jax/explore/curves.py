"""The curves of a run: what `metrics.jsonl` has, and what of it is new."""

from __future__ import annotations

from typing import Any

from gan_jax.runs.files import is_there
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.workdir import Workdir


def records_after(workdir: Workdir, step: int) -> dict[str, Any]:
    """The records of the rounds after `step`, and the last round that there is; -1 where there is none."""
    records = read_metrics(workdir) if is_there(workdir.metrics) else []
    last = records[-1]["step"] if records else -1
    return {"records": [record for record in records if record["step"] > step], "last": last}
