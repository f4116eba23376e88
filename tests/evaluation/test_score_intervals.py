"""Intervals and floors of a run's scores: those of a comparison of sets, and what the table says of them."""

import json

import numpy as np
import pytest
from scipy import stats

import gan_jax as gj
from gan_jax import metrics
from gan_jax.evaluation import evaluate, score_tables, scoring
from gan_jax.evaluation.seed_statistics import combined
from gan_jax.metrics.path_length import PathLength, _trimmed_error
from tests.evaluation.test_evaluate import experiment, state_of

WHICH = ("frechet", "kernel", "neighbors", "sliced")


def sets():
    rng = np.random.default_rng(0)
    real, fake = (rng.normal(level, 40, (number, 4, 4, 1)) for level, number in ((128, 90), (110, 40)))
    return (np.clip(side, 0, 255).astype(np.uint8) for side in (real, fake))


def test_intervals_and_floors_are_those_of_a_comparison_of_the_same_images():
    real, fake = sets()
    plain = scoring.against(real, extractor="pixels", split="noise", which=WHICH)
    scores, alone = plain.with_intervals()(fake), plain(fake)
    assert not alone.intervals
    assert alone.floor is None
    assert scores.fingerprint == alone.fingerprint
    for name, value in alone.values.items():
        assert scores.values[name] == pytest.approx(value), name
    found = gj.compare(
        real, fake, metrics=["frechet", "kernel", "neighbors"], progress=False, use_cache=False
    )
    (column,), (floor,) = found.fakes.values(), found.floors.values()
    for name in ("frechet", "precision", "recall", "density", "coverage"):
        title = name if name == "frechet" else f"{name} (k=5, pixels)"
        for ours, theirs in ((scores, column), (scores.floor, floor)):
            value, *bounds = theirs.bounds[title]
            assert ours.values[name] == pytest.approx(value), name
            assert ours.intervals[name] == pytest.approx(tuple(bounds)), name
    assert (scores.floor.fingerprint.real, scores.floor.fingerprint.fake) == (50, 40)
    # One block has no spread, ten blocks have: their interval stands about the value.
    low, high = scores.intervals["kernel"]
    assert "kernel_error" not in scores.left_out
    assert (low + high) / 2 == pytest.approx(scores.values["kernel"])
    assert high - low == pytest.approx(np.ptp(column.bounds["kernel"][1:]))
    low, high = scores.intervals["sliced_wasserstein"]
    assert 0 <= low < scores.values["sliced_wasserstein"] < high
    assert scores.without_interval.keys() == {"coverage_ceiling"}
    assert metrics.Scores.from_dict(json.loads(json.dumps(scores.as_dict()))) == scores


def test_a_floor_is_computed_once_for_a_number_of_samples(monkeypatch):
    points = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    compare = scoring.against(points, split="points", which=("frechet",)).with_intervals()
    drawn = []
    monkeypatch.setattr(scoring, "real_draws", lambda *given: drawn.append(given[1]) or (given[0], given[0]))
    first, second, third = compare(points[:9]), compare(points[5:14]), compare(points[:7])
    assert drawn == [9, 7]
    assert first.floor is second.floor
    assert third.floor.values["frechet"] == pytest.approx(0, abs=1e-9)


def test_the_table_has_intervals_floors_and_reasons_and_no_spread_beside_an_interval():
    points = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    compare = scoring.against(points, split="points", which=("frechet", "sliced", "wasserstein"))
    made = experiment(evaluations={"mine": lambda x: {"mean": 0.5}, "scores": compare.with_intervals()})
    found = json.loads(json.dumps(evaluate.evaluate(made, state_of(made))))
    table = score_tables.tables([found])
    heading, *rows = table.split("\n\n")[1].splitlines()
    assert heading.split("  ")[-1].strip() == "real against real [1]"
    low, high = found["intervals"]["samples"]["ema"]["frechet"]
    (frechet,) = (row for row in rows if row.startswith("frechet"))
    assert f"{found['samples']['ema']['frechet']:.5g} [{low:.4g}, {high:.4g}]" in frechet
    assert f"{found['floors']['scores']['values']['frechet']:.5g} [" in frechet.rpartition("  ")[2]
    (exact,) = (row for row in rows if row.startswith("wasserstein_1"))
    assert exact.count("[-]") == 3
    assert "wasserstein_1 has no interval: no interval of the exact distance" in table
    assert "sliced_wasserstein_error" not in table
    assert "sliced_wasserstein_error" in found["samples"]["ema"]
    assert "mean  0.5  0.5" in " ".join(table.split("\n\n")[0].split()).replace(" ", "  ")
    assert "Intervals: 95 %, over the samples." in table
    plain = experiment(evaluations={"scores": compare})
    assert "[" not in score_tables.tables([evaluate.evaluate(plain, state_of(plain))]).split("\n\n")[0]


def test_several_seeds_have_the_interval_of_their_mean_and_each_its_own():
    points = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    compare = scoring.against(points, split="points", which=("frechet",)).with_intervals()
    made = experiment(evaluations={"scores": compare})
    one = evaluate.evaluate(made, state_of(made), weights="raw")
    other = {**one, "seed": 4, "samples": {"raw": {"frechet": one["samples"]["raw"]["frechet"] + 1}}}
    both = combined([one, other])
    assert both["each"][0]["intervals"] == one["intervals"]
    low, high = stats.t.interval(0.95, 1, both["samples"]["raw"]["frechet"], 0.5)
    table = score_tables.tables([both])
    assert f"[{low:.4g}, {high:.4g}]" in table
    assert "over the seeds" in table


def test_many_checkpoints_are_in_tables_below_each_other_each_with_the_floor():
    points = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    compare = scoring.against(points, split="points", which=("frechet",)).with_intervals()
    made = experiment(evaluations={"scores": compare})
    found = evaluate.evaluate(made, state_of(made))
    parts = score_tables.tables([{**found, "step": step} for step in (1, 2, 3)]).split("\n\n")
    headings = [part.splitlines()[0] for part in parts if part.startswith(" ")]
    assert [heading.count("round") for heading in headings] == [4, 2]
    assert all(heading.endswith("real against real [1]") for heading in headings)


def test_the_error_of_a_path_length_is_that_of_a_trimmed_mean():
    """Of 0 to 999 the kept are 9 to 990, 982 of them: the others count in the variance as the nearest of these."""
    lengths = np.random.default_rng(0).permutation(1000).astype(float)
    moved = np.array([9.0] * 9 + list(range(9, 991)) + [990.0] * 9)
    error = np.std(moved, ddof=1) / (0.982 * 1000**0.5)
    assert _trimmed_error(lengths) == pytest.approx(error)
    assert _trimmed_error(lengths) > np.std(np.arange(9, 991), ddof=1) / 982**0.5
    low, high = PathLength(499.5, error, lengths, "").interval(0.9)
    assert (high - low) / 2 == pytest.approx(error * stats.t.ppf(0.95, 981))
