"""Rollouts compiled by the TPU's own compiler, without a TPU: one chip, a slice of four, two slices.

The matrix of all programs and targets is `python -m benchmarks.compiled`, whose results are stored; what must hold
of them is in `tests/benchmarks/test_compiled.py`.
"""

import importlib.util

import jax
import pytest

from benchmarks import compiled
from benchmarks.targets import devices_of

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="the TPU compiler is not installed: pip install -e '.[accelerators]'",
    ),
]


@pytest.fixture(autouse=True)
def _without_the_cache_of_programs():
    """A program for devices that are not there cannot be loaded."""
    jax.config.update("jax_enable_compilation_cache", False)
    yield
    jax.config.update("jax_enable_compilation_cache", True)


def compile_for(name, target):
    row = compiled.measured(compiled.PROGRAMS[name](devices_of(target)))
    assert compiled.broken(name, target, row) == []
    return row


def test_a_round_of_points_runs_on_one_chip():
    row = compile_for("ring", "v5e-1")
    assert row["donated arrays"] == row["arrays of the state"] > 0
    assert row["all-reduces"] == 0
    assert row["temporary bytes"] < 32e6


def test_convolutions_are_native_and_gradients_reduced_once_a_turn_on_four_chips():
    """WGAN-GP without batch normalisation in the critic: five turns of it and one of the generator."""
    row = compile_for("dcgan_8_pixels", "v5e-4")
    assert row["convolutions"]["convolution"] > 10
    assert row["dilated"] == []
    assert row["all-reduces"] >= 6


def test_a_batch_is_spread_over_two_slices():
    row = compile_for("ring", "v5e-2x4")
    assert row["all-reduces"] >= 6
    assert row["donated arrays"] == row["arrays of the state"]
