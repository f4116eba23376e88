"""Both sides of the comparisons with PyTorch play the same game; $BENCHMARK_TORCH_PYTHON names its Python."""

import argparse
import dataclasses
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
def test_what_is_counted_by_hand_is_what_pytorch_computes(game):
    """PyTorch counts filters of resampling and norms of kernels too; of grouped kernels it counts too much."""
    wider = {games.R3GAN: {"group_size": 32}, games.StyleGAN2: {"most": 32}}.get(type(game), {})
    game = dataclasses.replace(game.replayable, width=16, threads=1, **wider)
    with versus.torchs(game, TORCH) as program:
        counted = program.ask("flops")
    assert counted.keys() == game.turns.keys()
    for name, by_hand in game.turns.items():
        assert by_hand <= counted[name] <= 1.25 * by_hand, name


def test_the_folded_inception_network_makes_the_same_features():
    flags = argparse.Namespace(images=2, size=32, threads=0, channels_last=False, torch_python=TORCH)
    with inception.worker("ours", flags) as ours, inception.worker("folded", flags) as theirs:
        assert inception.largest_difference(ours, theirs, 2) < inception.TOLERANCE
