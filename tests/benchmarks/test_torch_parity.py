"""Both sides of the comparisons with PyTorch play the same game; $BENCHMARK_TORCH_PYTHON names its Python."""

import argparse
import importlib.util
import os
import sys

import pytest

from benchmarks import games, harness, inception, versus

TORCH = os.environ.get(harness.TORCH_PYTHON) or (sys.executable if importlib.util.find_spec("torch") else "")
GAMES = [
    games.DCGAN(objective="wgan_gp", size=8, width=4, batch_size=8, examples=64),
    games.R3GAN(size=8, width=8, group_size=4, latent=4, batch_size=8, examples=64),
    games.StyleGAN2(size=16, width=4, most=8, style=8, layers=2, latent=4, batch_size=8, examples=64),
]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not TORCH, reason="PyTorch is not installed")]


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.label)
def test_a_round_from_the_same_parameters_and_draws_is_the_same(game):
    """Each turn starts from what the turns before made, so that equal losses are equal steps too.

    Adam divides a gradient by its size: where it is nearly zero, rounding decides the sign of a whole step.
    """
    found = versus.parity(game, TORCH)
    assert found.losses < 1e-4
    assert found.parameters < 2.5 * game.learning_rate


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.label)
def test_what_is_counted_by_hand_is_at_most_what_pytorch_computes(game):
    """PyTorch counts the filters of resampling too, and what a double backward computes a second time."""
    by_hand, _, counted = versus.parity(game, TORCH).counts
    for player in ("critic", "generator"):
        assert by_hand[player] <= counted[player] <= 1.5 * by_hand[player]


def test_the_folded_inception_network_makes_the_same_features():
    flags = argparse.Namespace(images=2, size=32, threads=0, channels_last=False, torch_python=TORCH)
    with inception.worker("ours", flags) as ours, inception.worker("folded", flags) as theirs:
        assert inception.largest_difference(ours, theirs, 2) < inception.TOLERANCE
