"""What can be known to be wrong about a game is an error when it is built."""

import jax
import optax
import pytest

from gan_jax.game import Game, Objective, alternating, fresh_turns, parameter_count, simultaneous, turn
from gan_jax.objectives import add_terms, r1
from gan_jax.objectives.gan import gan
from gan_jax.objectives.wgan_gp import wgan_gp
from tests import helpers
from tests.helpers import PRIOR

OBJECTIVE = gan(PRIOR)


def build(**changes):
    options = {
        "networks": helpers.networks(),
        "objective": OBJECTIVE,
        "optimizers": {"critic": optax.sgd(0.1), "generator": optax.sgd(0.1)},
        "schedule": alternating(),
    }
    return Game(**{**options, **changes})


def test_a_right_game_is_built():
    assert build().players == ("critic", "generator")


def test_a_game_is_hashed_by_identity():
    """Two equal-looking games are two programs; a jit cache must not confuse their closures."""
    assert build() != build()
    assert len({build(), build()}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": {"critic": helpers.critic()}}, r"networks are given for \['critic'\]"),
        ({"optimizers": {"critic": optax.sgd(1.0)}}, r"optimizers are given for \['critic'\]"),
        (
            {"networks": {**helpers.networks(), "encoder": helpers.critic()}},
            r"networks are given for \['critic', 'encoder', 'generator'\]",
        ),
        ({"schedule": (turn("critic"), turn("discriminator"))}, r"A turn names \['discriminator'\]"),
        ({"schedule": ()}, "one turn or more"),
        ({"schedule": (turn("critic", fresh=False),)}, "must be fresh"),
        ({"phases": ((lambda step: True, (turn("encoder"),)),)}, r"A turn names \['encoder'\]"),
        ({"ema": {"encoder": 0.9}}, r"ema names \['encoder'\]"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


@pytest.mark.parametrize(
    "objective", [wgan_gp(PRIOR), add_terms(OBJECTIVE, r1())], ids=["wgan_gp", "gan + r1"]
)
def test_a_per_example_penalty_refuses_a_critic_that_couples_its_batch(objective):
    networks = {**helpers.networks(), "critic": helpers.critic(couples_batch=True)}
    with pytest.raises(ValueError, match=r"\['critic'\] couple their batch"):
        build(objective=objective, networks=networks)
    build(objective=OBJECTIVE, networks=networks)


def test_a_coupled_generator_is_fine():
    coupled = helpers.generator(couples_batch=True)
    build(objective=wgan_gp(PRIOR), networks={**helpers.networks(), "generator": coupled})


def test_turns():
    assert alternating(5) == (*(5 * (turn("critic"),)), turn("generator"))
    assert alternating(1, 2) == (turn("critic"), turn("generator"), turn("generator"))
    assert simultaneous() == (turn("critic", "generator"),)
    assert fresh_turns((turn("critic"), turn("generator", fresh=False), turn("critic"))) == 2


@pytest.mark.parametrize("players", [(), ("critic", "critic")])
def test_a_turn_names_different_players(players):
    with pytest.raises(ValueError, match="one or more different players"):
        turn(*players)


def test_counts_start_at_one():
    with pytest.raises(ValueError, match="start at 1"):
        alternating(0)


def test_parameter_count():
    params, _ = helpers.critic().init(jax.random.key(0))
    assert parameter_count(params) == 2 * 4 + 4 + 4


def test_objectives_are_not_pytrees():
    """Functions live in dataclasses that a tree map does not open."""
    assert jax.tree.leaves(OBJECTIVE) == [OBJECTIVE]
    assert isinstance(OBJECTIVE, Objective)
