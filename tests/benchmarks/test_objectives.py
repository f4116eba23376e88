"""The hand-written rounds are those of the library's objectives; one is played on both sides."""

import pytest

from benchmarks import objectives
from benchmarks.hand_written import HANDS
from gan_jax.objectives._catalogue import OBJECTIVES


def test_what_is_written_by_hand_are_objectives():
    """Not the other way round: a new objective needs no hand-written round."""
    assert {name.partition(":")[0] for name in HANDS} <= set(OBJECTIVES)


@pytest.mark.slow
def test_both_sides_play_the_same_game(monkeypatch):
    """`python -m benchmarks.objectives --check` shows the same of all of them."""
    monkeypatch.setattr(objectives, "BATCH", 16)
    monkeypatch.setattr(objectives, "WIDTHS", (8, 8))
    losses, parameters = objectives.check("wgan_gp", rounds=2)
    assert losses < 2e-4
    assert parameters < 2e-5  # two of Adam's first steps are 2e-4 long
