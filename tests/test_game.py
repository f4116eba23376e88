"""A mistake in a game that can be found without playing is an error when the game is constructed."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest

from gan_jax.game import CriticRole, Game, GeneratorRole, Objective, Player
from gan_jax.network import parameter_count
from gan_jax.objectives import add_terms, r1, with_transforms
from gan_jax.objectives.gan import gan
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.schedule import alternating, fresh_turns, simultaneous, turn
from tests import helpers
from tests.helpers import PRIOR

OBJECTIVE = gan(PRIOR)


def players(networks=None, **optimizers):
    made = helpers.networks() if networks is None else networks
    return {name: Player(network, optimizers.get(name, optax.sgd(0.1))) for name, network in made.items()}


def build(**changes):
    options = {"players": players(), "objective": OBJECTIVE, "schedule": alternating()}
    return Game(**{**options, **changes})


def test_a_game_has_the_objectives_order_and_roles():
    game = build(players=dict(reversed(players().items())))
    assert list(game.players) == ["critic", "generator"]
    assert game.players["critic"].role == CriticRole()
    assert isinstance(game.players["generator"].role, GeneratorRole)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build(objective=gan),
            r"Game\(objective=...\) takes an objective.*got gan: call gan with its prior",
        ),
        (lambda: build(objective="gan"), r"takes an objective.*got 'gan'\.$"),
        (
            lambda: build(players={**players(), "critic": 3}),
            r"'critic' is a Player\(network, optimizer\), got int 3",
        ),
        (lambda: add_terms(gan, r1(1.0)), "add_terms takes an objective.*call gan with its prior"),
        (
            lambda: add_terms(OBJECTIVE, "r1"),
            r"objective and terms, as r1\(10.0\) returns them; got 'r1'",
        ),
        (lambda: with_transforms("gan"), "with_transforms takes an objective"),
    ],
)
def test_what_is_no_objective_player_or_term_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_game_is_hashed_by_identity():
    """Two equal-looking games are two programs; a jit cache must not confuse their closures."""
    assert build() != build()
    assert len({build(), build()}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"players": players({"critic": helpers.critic()})}, r"players are given for \['critic'\]"),
        (
            {"players": players({**helpers.networks(), "encoder": helpers.critic()})},
            r"players are given for \['critic', 'encoder', 'generator'\]",
        ),
        ({"schedule": (turn("critic"), turn("discriminator"))}, r"A turn names \['discriminator'\]"),
        ({"schedule": ()}, "at least one turn"),
        ({"schedule": ("critic", "generator")}, r"a tuple of turns.*got 'critic'"),
        ({"schedule": (turn("critic", fresh=False),)}, "must be fresh"),
        ({"phases": ((lambda step: True, (turn("encoder"),)),)}, r"A turn names \['encoder'\]"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, float("nan"), False, "0.9"])
def test_the_decay_of_an_average_lies_below_one(decay):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got ema="):
        Player(helpers.generator(), optax.sgd(0.1), ema=decay)
    Player(helpers.generator(), optax.sgd(0.1), ema=lambda step: 0.9)


@pytest.mark.parametrize(
    ("change", "given"),
    [
        (lambda score: jnp.argmax(score), r"int32\[\]"),
        (lambda score: (score > 0).astype(jnp.int32), r"int32\[2\]"),
        (lambda score: jnp.concatenate([score, score]), r"float32\[4\]"),
        (lambda score: score[:, None], r"float32\[2, 1\]: drop the last axis, score\[:, 0\]"),
    ],
    ids=["a scalar", "integers", "two an example", "a column"],
)
def test_a_score_that_is_none_is_refused_with_the_players_name(change, given):
    base = helpers.critic()

    def apply(params, model_state, x, train, key):
        out, model_state = base.apply(params, model_state, x, train=train, key=key)
        return change(out["score"]), model_state

    networks = {**helpers.networks(), "critic": dataclasses.replace(base, apply=apply)}
    with pytest.raises(ValueError, match=rf"score of 'critic' must be .*2 examples.*{given}"):
        build(players=players(networks))
    # Without a specification of its inputs the network is judged where it is traced.
    networks["critic"] = dataclasses.replace(networks["critic"], inputs=None)
    game = build(players=players(networks))
    with pytest.raises(ValueError, match="score of 'critic' must be "):
        helpers.loss("critic", game)


@pytest.mark.parametrize("known", [True, False], ids=["specified inputs", "no specification"])
@pytest.mark.parametrize(
    "objective", [wgan_gp(PRIOR), add_terms(OBJECTIVE, r1())], ids=["wgan_gp", "gan + r1"]
)
def test_a_per_example_penalty_refuses_a_critic_that_couples_its_batch(objective, known):
    critic = helpers.critic(couples_batch=True)
    made = players(
        {**helpers.networks(), "critic": critic if known else dataclasses.replace(critic, inputs=None)}
    )
    build(objective=OBJECTIVE, players=made)
    with pytest.raises(ValueError, match="'critic' couples its batch"):
        helpers.loss("critic", build(objective=objective, players=made))


def test_a_coupled_generator_is_fine():
    base = helpers.generator()

    def apply(params, model_state, z, train, key):
        out, model_state = base.apply(params, model_state, z, train=train, key=key)
        return out - jnp.mean(out, axis=0), model_state

    coupled = dataclasses.replace(base, apply=apply)
    build(objective=wgan_gp(PRIOR), players=players({**helpers.networks(), "generator": coupled}))


def test_turns():
    assert alternating(5) == (*(5 * (turn("critic"),)), turn("generator"))
    assert alternating(1, 2) == (turn("critic"), turn("generator"), turn("generator"))
    assert simultaneous() == (turn("critic", "generator"),)
    assert fresh_turns((turn("critic"), turn("generator", fresh=False), turn("critic"))) == 2


@pytest.mark.parametrize("players", [(), ("critic", "critic")])
def test_a_turn_names_different_players(players):
    with pytest.raises(ValueError, match="one or more players, each once"):
        turn(*players)


def test_counts_start_at_one():
    with pytest.raises(ValueError, match="at least one turn of each"):
        alternating(0)


def test_parameter_count():
    params, _ = helpers.critic().init(jax.random.key(0))
    assert parameter_count(params) == 2 * 4 + 4 + 4


def test_objectives_are_not_pytrees():
    """Functions live in dataclasses that a tree map does not open."""
    assert jax.tree.leaves(OBJECTIVE) == [OBJECTIVE]
    assert isinstance(OBJECTIVE, Objective)
