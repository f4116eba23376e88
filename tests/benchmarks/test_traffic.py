"""The model of a round on many devices, against times worked out by hand."""

import json

import pytest

from benchmarks.harness import RESULTS
from benchmarks.traffic import UTILISATION, Machine, Round, predicted, table

MACHINE = Machine("m", "t", {"float32": 1e12}, 1e9, 8, 1e8, 1e-6, 1e-5, 2e-6)
ROUND = Round(
    operations=1e9 * UTILISATION,
    kernels=100,
    all_reduces=10,
    reduced=8_000_000,
    precision="float32",
    examples=64,
)


def test_a_round_is_its_parts_one_after_the_other():
    """8 MB: 2 x 7/8 of them at 1 GB/s inside a group of 8; beyond, an eighth of them each at .1 GB/s."""
    alone = ROUND.seconds(MACHINE, 1)
    assert alone == pytest.approx({"arithmetic": 1e-3, "launches": 1e-4, "latency": 0.0, "sending": 0.0})
    assert ROUND.seconds(MACHINE, 8)["sending"] == pytest.approx(0.014)
    far = ROUND.seconds(MACHINE, 32)
    assert far["latency"] == pytest.approx(10 * (1e-5 + 2 * 2e-6))
    assert far["sending"] == pytest.approx(0.014 + 2 * 8e6 * 0.75 / 8 / 1e8)


def test_strong_scaling_divides_the_arithmetic_only():
    line = predicted(ROUND, MACHINE)[1]
    assert line["devices"] == 64
    latency, sending = 10 * (1e-5 + 3 * 2e-6), 0.014 + 2 * 8e6 * (7 / 8) / 8 / 1e8
    rest = 1e-4 + latency + sending
    assert line["weak"] == pytest.approx(0.0011 / (1e-3 + rest), abs=1e-3)
    assert line["strong"] == pytest.approx(0.0011 / 8 / (1e-3 / 8 + rest), abs=1e-3)
    assert line["bound by"] == "sending"
    assert [found["strong"] is None for found in predicted(ROUND, MACHINE)] == [False] * 3 + [True] * 2


def test_the_page_has_the_stored_table():
    rows = json.loads((RESULTS / "traffic.json").read_text())["rows"]
    assert table(rows).strip() in (RESULTS.parent.parent / "docs" / "scale.md").read_text()
