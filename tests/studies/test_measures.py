"""What studies measure by their own functions: half-spaces, equal processor time, digits that are none."""

import math

import numpy as np
import pytest

from experiments.studies import memorising, ratios, stacked_digits
from experiments.studies.framework.setups.digit_judge import REJECTED, judged
from gan_jax.data import load


def test_half_spaces_reach_the_total_variation_of_shifted_gaussians():
    """N(0, I) and N((2, 0), I): the half-space between them has 2 Phi(1) - 1 of the mass more on one side."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 20_000, 2))
    assert memorising.half_space_distance(x, y) == pytest.approx(0.0, abs=0.03)
    shifted = y + np.array([2.0, 0.0])
    assert memorising.half_space_distance(x, shifted) == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.02)


def test_paths_are_compared_where_the_faster_one_has_ended():
    """Half of the slow path, which falls from 1 to 0, is .5: twice the fast one's .25."""
    rounds = ratios.SNAPSHOTS
    slow = {"rounds": rounds, "seconds_a_round": 2.0, "path": np.linspace(1, 0, rounds + 1)}
    fast = {"rounds": rounds, "seconds_a_round": 1.0, "path": np.full(rounds + 1, 0.25)}
    effect = ratios.at_equal_time("slow", "fast")
    assert effect({"slow": slow, "fast": fast}) == pytest.approx(2.0)


def test_modes_are_read_off_at_the_time_of_the_method_that_ends_first():
    def course(seconds, modes):
        return {
            "snapshots": [{"seconds": s, "modes_covered": m} for s, m in zip(seconds, modes, strict=True)]
        }

    result = {
        "GAN": course([0.0, 10.0], [0, 100]),
        "PacGAN 2": course([0.0, 20.0], [0, 300]),
        "unrolled 5": {},
        "noise": course([0.0, 1.0], [7, 7]),
    }
    found = {name: stacked_digits.at_equal_time(result, name) for name in ("GAN", "PacGAN 2", "noise")}
    assert found == {"GAN": 100.0, "PacGAN 2": 150.0, "noise": 7.0}


@pytest.mark.full
def test_the_judge_names_digits_and_rejects_what_is_none():
    """Of the half that it does not compare with it rejects one in a hundred, and its classifier hardly errs."""
    digits = load("digits")
    images = digits["x"].astype(np.float32) / 127.5 - 1
    named = judged(images)
    assert (named[0::2] == REJECTED).mean() == 0.0
    assert (named[1::2] == REJECTED).mean() == pytest.approx(0.01, abs=0.002)
    assert (named == digits["y"]).mean() > 0.96
    draw = np.random.default_rng(0)
    noise = draw.uniform(-1, 1, size=(500, 8, 8, 1)).astype(np.float32)
    for nothing in (noise, np.zeros_like(noise), -images[:500]):
        assert (judged(nothing) == REJECTED).all()
