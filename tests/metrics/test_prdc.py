"""Precision, recall, density and coverage against the `prdc` package and hand-drawn balls."""

import contextlib
import io

import numpy as np
import pytest

from gan_jax.metrics import expected_coverage
from gan_jax.metrics import prdc as module
from gan_jax.metrics import precision_recall_density_coverage as prdc


@pytest.mark.parametrize(
    ("number", "other", "dimension", "neighbors"), [(200, 150, 3, 5), (60, 90, 40, 3), (30, 30, 1, 1)]
)
def test_equals_the_package(number, other, dimension, neighbors, monkeypatch):
    from prdc import compute_prdc

    monkeypatch.setattr(module, "_CELLS", 1000)  # several chunks
    rng = np.random.default_rng(number)
    real = rng.normal(size=(number, dimension))
    fake = 0.8 * rng.normal(size=(other, dimension)) + 0.4
    with contextlib.redirect_stdout(io.StringIO()):
        expected = compute_prdc(real, fake, nearest_k=neighbors)
    found = prdc(real, fake, neighbors=neighbors)
    assert found == {name: pytest.approx(value) for name, value in expected.items()}


def test_by_hand():
    # Real balls (k = 1): 0 and 1 reach 1, 3 reaches 2. Fake balls: 0.5 and 0.7 reach 0.2, 10 reaches 9.3.
    real, fake = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [0.7], [10.0]])
    found = prdc(real, fake, neighbors=1)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)  # 1 and 3 lie in the ball of 10
    assert found["density"] == pytest.approx(
        4 / 3
    )  # 0.5 and 0.7 lie in the balls of 0 and 1, not in that of 3
    assert found["coverage"] == pytest.approx(2 / 3)


def in_integers(real, fake, neighbors):
    """The definition with open balls, in integer arithmetic."""

    def distances(a, b):
        return ((a[:, None] - b) ** 2).sum(-1)

    def reach(a):
        others = (np.sort(np.delete(row, i)) for i, row in enumerate(distances(a, a)))
        return np.array([row[neighbors - 1] for row in others])

    between = distances(real, fake)
    inside = between < reach(real)[:, None]
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": (between < reach(fake)).any(axis=1).mean(),
        "density": inside.sum(axis=0).mean() / neighbors,
        "coverage": inside.any(axis=1).mean(),
    }


@pytest.mark.parametrize(("values", "dimension"), [((-1, 1), 8), ((0, 1, 2, 3), 3), ((0, 1), 12)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties_are_decided_as_in_integers(values, dimension, dtype, monkeypatch):
    monkeypatch.setattr(module, "_CELLS", 5000)
    rng = np.random.default_rng(0)
    real, fake = rng.choice(values, size=(300, dimension)), rng.choice(values, size=(250, dimension))
    expected = in_integers(real, fake, 5)
    # Halves and an offset of 0.1 are no integers: their ties are found by computing near distances again.
    for scale, offset in ((1, 0), (1, 1000), (0.5, 0), (0.5, 1.25), (0.25, 4096.125)):
        moved = [np.asarray(side * scale + offset, dtype) for side in (real, fake)]
        assert prdc(*moved) == expected, (scale, offset)
    if (values, dimension) == ((-1, 1), 8):
        assert (expected["precision"], expected["density"]) == (0.728, 0.2576)


def test_large_integers_are_no_float32():
    rng = np.random.default_rng(1)
    real, fake = 2**25 + rng.integers(0, 40, size=(200, 3)), 2**25 + rng.integers(0, 40, size=(180, 3))
    assert prdc(real, fake) == in_integers(real, fake, 5)


def test_repeated_samples_have_empty_balls():
    """Six equal fakes have five neighbours each at distance 0: not even an equal real lies nearer than that."""
    real = np.random.default_rng(2).normal(size=(30, 4))
    fake = np.repeat(real[:1], 6, axis=0)
    found = prdc(real, fake)
    assert found["recall"] == 0
    assert found["precision"] == 1
    again = prdc(fake, real)
    assert (again["precision"], again["density"], again["coverage"]) == (0, 0, 0)


def test_the_expected_coverage_is_what_real_samples_reach():
    rng = np.random.default_rng(3)
    found = [
        prdc(rng.normal(size=(60, 2)), rng.normal(size=(20, 2)), neighbors=3)["coverage"] for _ in range(200)
    ]
    error = np.std(found) / np.sqrt(200)
    assert np.mean(found) == pytest.approx(expected_coverage(60, 20, neighbors=3), abs=4 * error)
    assert expected_coverage(3, 1, neighbors=1) == pytest.approx(1 - 2 / 3)
    with pytest.raises(ValueError, match="more than that many reals"):
        expected_coverage(5, 5)


def test_a_common_offset_changes_nothing():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(80, 6)), rng.normal(size=(80, 6))
    assert prdc(real + 1e5, fake + 1e5) == prdc(real, fake)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.full((9, 2), np.inf), np.zeros((9, 2)), "infinite"),
        (np.zeros((9, 2)), np.zeros((5, 2)), "fake: needs at least 6 samples, got 5"),
        (np.zeros((9, 2)), np.zeros((9, 3)), "differ in a sample's shape"),
    ],
)
def test_bad_input_is_named(real, fake, message):
    with pytest.raises(ValueError, match=message):
        prdc(real, fake)
