"""Scores against numbers made by hand, and divergences at their optimal critics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance

from gan_jax import diagnostics
from gan_jax.diagnostics.scores import PROBABILITY_EDGES, SCORE_EDGES, moments
from gan_jax.objectives.gan import gan
from gan_jax.objectives.wgan import wgan
from gan_jax.play import apply_turn
from gan_jax.schedule import alternating, fresh_turns, turn
from gan_jax.training.step import init_state, make_train_step
from tests import helpers
from tests.helpers import PRIOR, context
from tests.objectives import cases
from tests.tiers import full_except


def test_means_variances_and_ranking_by_hand():
    found = moments(jnp.array([1.0, 3.0, 0.0, 2.0]), jnp.array([0.0, 5.0, 0.0, 1.0]))
    np.testing.assert_allclose(found["score_real_mean"], 1.5)
    np.testing.assert_allclose(found["score_fake_mean"], 1.5)
    np.testing.assert_allclose(found["score_real_variance"], (0.25 + 2.25 + 2.25 + 0.25) / 4)
    np.testing.assert_allclose(found["score_fake_variance"], (2.25 + 12.25 + 2.25 + 0.25) / 4)
    np.testing.assert_allclose(found["ranking"], (1 + 0 + 0.5 + 1) / 4)


def test_accuracy_and_saturation_by_hand():
    """Logits of 4.6 are D = .99004: saturated; those of 4.59 are D = .98995: not."""
    found = diagnostics.logit_statistics(jnp.array([4.6, -1.0, 0.0, 2.0]), jnp.array([-4.6, -4.59]))
    np.testing.assert_allclose(found["accuracy"], ((1 + 0 + 0.5 + 1) / 4 + 1) / 2)
    np.testing.assert_allclose(found["saturation"], (1 / 4 + 1 / 2) / 2)


@pytest.mark.parametrize("shift", [0, 2, 8])
def test_the_jsd_estimate_is_tight_at_the_optimal_critic(shift):
    """Two discrete distributions on 12 points; D* = p / (p + q); 'batches' hold each point as often as it is."""
    p, q = np.zeros(12, int), np.zeros(12, int)
    p[:4], q[shift : shift + 4] = (1, 2, 3, 4), (4, 3, 2, 1)
    logits = np.log(np.maximum(p, 1e-40)) - np.log(np.maximum(q, 1e-40))
    real, fake = (jnp.asarray(np.repeat(logits, counts), jnp.float32) for counts in (p, q))
    expected = scipy.spatial.distance.jensenshannon(p / 10, q / 10) ** 2
    np.testing.assert_allclose(diagnostics.jsd_estimate(real, fake), expected, atol=1e-6)
    if shift == 8:
        np.testing.assert_allclose(expected, np.log(2))


def test_the_jsd_estimate_of_any_other_critic_is_lower():
    real, fake = jnp.array([2.0, 1.0]), jnp.array([-1.0, 0.5])
    # The best constant shift of these scores is near 0; two units off is worse.
    assert diagnostics.jsd_estimate(real - 2, fake - 2) < diagnostics.jsd_estimate(real, fake)


def test_the_wasserstein_estimate_of_the_potential_is_the_distance():
    """On the line, all fakes left of the reals: f(x) = x is optimal and W1 is the difference of the means."""
    game = helpers.dirac_game(wgan(PRIOR), lr=0.0, schedule=alternating())
    state = helpers.dirac_train_state(jnp.array(1.0), jnp.array(-3.0))
    batch = {"x": jnp.array([[0.5], [1.5]])}
    _, metrics = apply_turn(turn("critic"), context(game, state.players, batch), [diagnostics.wasserstein])
    np.testing.assert_allclose(metrics["critic/wasserstein_estimate"], 4.0)


def test_histograms_are_numpys():
    values = np.random.default_rng(0).normal(size=500).astype(np.float32) * 3
    found = np.asarray(diagnostics.histogram(values, SCORE_EDGES))
    counts, _ = np.histogram(values, SCORE_EDGES)
    np.testing.assert_allclose(found[1, 1:] * 500, counts, atol=1e-3)
    np.testing.assert_array_equal(found[0], SCORE_EDGES)
    outside = diagnostics.histogram(np.array([-1e9, 1e9, 1e9, 0.0]), SCORE_EDGES)
    assert (outside[1, 1], outside[1, -1]) == (0.25, 0.5)


@pytest.mark.full
def test_histograms_of_a_round_are_means_over_its_turns():
    """Five turns in one scan: the edges are as they were, the shares sum to one."""
    game = helpers.game(gan(PRIOR), schedule=alternating(5))
    batches = helpers.batch(shape=(fresh_turns(game.schedule),))
    step = make_train_step(game, diagnostics=[diagnostics.histograms])
    metrics = jax.jit(lambda batches: step(init_state(game, jax.random.key(0)), batches)[1])(batches)
    for name, edges in (("score", SCORE_EDGES), ("probability", PROBABILITY_EDGES)):
        for kind in ("real", "fake"):
            found = metrics[f"critic/{name}_{kind}_histogram"]
            np.testing.assert_allclose(found[0], edges, rtol=1e-6)
            np.testing.assert_allclose(jnp.sum(found[1]), 1.0, rtol=1e-6)


def test_a_turn_reports_its_critics_scores_only():
    game = helpers.game(gan(PRIOR))
    both = [diagnostics.scores, diagnostics.health]
    for player, expected in (("critic", True), ("generator", False)):
        turn_context = context(game, helpers.players_of(game), helpers.batch())
        _, metrics = jax.eval_shape(functools.partial(apply_turn, turn(player), turn_context, both))
        assert ("critic/jsd_estimate" in metrics) is expected
        assert f"{player}/gradient_norm" in metrics


@pytest.mark.parametrize("name", full_except(["gan", "semi_supervised", "vral", "wgan_gp"], cases.MODULES))
def test_every_diagnostic_reads_every_objective(name):
    """Traced only: shapes fit, whatever the objective's players, heads and traits are."""
    game = cases.game(name)
    batch = cases.case(name).batch()

    def play(players):
        metrics = {}
        for player in game.players:
            metrics |= apply_turn(
                turn(player), context(game, players, batch), list(diagnostics.DIAGNOSTICS.values())
            )[1]
        return metrics

    metrics = jax.eval_shape(play, helpers.players_of(game))
    for player in game.players:
        assert f"{player}/update_ratio" in metrics
    assert all(value.shape in ((), (2, 65), (2, 21)) for value in metrics.values())
