import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.runs.metrics_log import json_line, read_metrics, thin_metrics, truncate_metrics
from gan_jax.runs.workdir import Workdir, WorkdirError
from tests.runs.test_writer import strict


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "run")


def test_lines_are_strict_json_with_the_arrays_own_precision():
    line = json_line(
        3,
        1.23456,
        {
            "third": jnp.float32(1) / 3,
            "half": jnp.bfloat16(0.1),
            "double": np.float64(1) / 3,
            "count": jnp.int32(7),
            "yes": np.bool_(True),
            "word": "text",
            "bad": jnp.array([jnp.nan, jnp.inf, -jnp.inf, 2.5]),
        },
    )
    assert "\n" not in line
    record = strict(line)
    assert list(record)[:2] == ["step", "time"]
    assert record["bad"] == ["NaN", "Infinity", "-Infinity", 2.5]
    assert np.float32(record["third"]) == np.float32(1) / np.float32(3)
    assert record["third"] == 0.33333334  # no digits that a float32 has not
    assert jnp.bfloat16(record["half"]) == jnp.bfloat16(0.1)
    assert record["double"] == 1 / 3
    assert (record["count"], record["yes"], record["word"], record["time"]) == (7, True, "text", 1.235)


def lines(*steps):
    return b"".join(json.dumps({"step": step, "loss": step / 2}).encode() + b"\n" for step in steps)


@pytest.mark.parametrize("cut", [b"", b'{"step": 40, "lo', b"\x00\xff\n", b"[1]\n", b'{"loss": 1}\n'])
def test_a_resumed_log_has_every_round_once(workdir, cut):
    workdir.root.mkdir(parents=True)
    workdir.metrics.write_bytes(lines(10, 20, 20, 30, 40) + cut)
    assert truncate_metrics(workdir, 20) == 2 + bool(cut)
    assert workdir.metrics.read_bytes() == lines(10, 20, 20)
    with open(workdir.metrics, "ab") as file:
        file.write(lines(30, 40))
    assert workdir.metrics.read_bytes() == lines(10, 20, 20, 30, 40)


def test_a_log_that_is_another_runs_too_by_a_hard_link_becomes_the_runs_own(workdir, tmp_path):
    workdir.root.mkdir(parents=True)
    (tmp_path / "copied.jsonl").write_bytes(lines(10, 20))
    os.link(tmp_path / "copied.jsonl", workdir.metrics)
    assert truncate_metrics(workdir, 20) == 0
    with open(workdir.metrics, "ab") as file:
        file.write(lines(30))
    assert workdir.metrics.read_bytes() == lines(10, 20, 30)
    assert (tmp_path / "copied.jsonl").read_bytes() == lines(10, 20)


def test_an_intact_log_is_not_touched(workdir):
    assert truncate_metrics(workdir, 5) == 0  # none there
    workdir.root.mkdir(parents=True)
    workdir.metrics.write_bytes(lines(1, 2))
    before = os.stat(workdir.metrics).st_ino
    assert truncate_metrics(workdir, 2) == 0
    assert os.stat(workdir.metrics).st_ino == before


def test_non_finite_numbers_are_numbers_again(workdir):
    workdir.root.mkdir(parents=True)
    workdir.metrics.write_text('{"step": 1, "a": "NaN", "b": ["-Infinity", 2], "c": "text", "d": {"e": 1}}\n')
    (record,) = read_metrics(workdir)
    assert np.isnan(record["a"])
    assert record["b"] == [-np.inf, 2]
    assert (record["c"], record["d"]) == ("text", {"e": 1})
    with pytest.raises(WorkdirError, match="Cannot read"):
        read_metrics(Workdir(workdir.root / "nowhere"))


@pytest.mark.parametrize("logs", [1, 2, 5])
def test_thinning_leaves_half_of_the_logs_and_half_of_the_evaluations(workdir, logs):
    """So many logs for each evaluation: where every second line is of one kind, none of that kind was left."""
    workdir.root.mkdir()
    lines = []
    for step in range(1, 101):
        lines.append(json_line(step, 0.0, {"critic/loss": 1.0}))
        if step % logs == 0:
            lines.append(json_line(step, 0.0, {"evaluation/samples/ema/frechet": 2.0}))
    workdir.metrics.write_text("".join(line + "\n" for line in lines))
    left = thin_metrics(workdir, len(lines) // 2)
    found = read_metrics(workdir)
    assert left == len(found)
    steps = {
        name: [line["step"] for line in found if name in line]
        for name in ("critic/loss", "evaluation/samples/ema/frechet")
    }
    older = {name: [step for step in of if step <= 49] for name, of in steps.items()}
    assert older["critic/loss"] == list(range(1, 50, 2))
    assert older["evaluation/samples/ema/frechet"] == list(range(logs, 50, 2 * logs))
    assert [step for step in steps["critic/loss"] if step > 51] == list(range(52, 101))
