"""Precision, recall, density and coverage against the `prdc` package and hand-drawn balls."""

import contextlib
import io

import numpy as np
import pytest

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
