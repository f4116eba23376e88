"""VRAL: identities of the meta-discriminators, the Parzen loss against closed-form divergences of Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.field import is_mean_over_examples
from gan_jax.objectives import least_squares, vral, vral_parzen
from gan_jax.play import apply_turn
from gan_jax.schedule import turn
from gan_jax.training.step import init_state, make_train_step
from tests import helpers
from tests.helpers import PRIOR, context, scalar_network
from tests.objectives.cases import vral_networks

LOG2 = np.log(2)


def zero_meta(objective, networks=None):
    """The game with meta-discriminators whose logits are 0, and its players."""
    game = helpers.game(objective, networks_=networks or vral_networks())
    players = helpers.players_of(game)
    for name in ("meta_real", "meta_fake"):
        params = jax.tree.map(jnp.zeros_like, players[name].params)
        players[name] = players[name]._replace(params=params)
    return game, players


def loss_of(game, players, name):
    return helpers.loss(name, game, players, helpers.batch())


@pytest.mark.parametrize(("form", "expected"), [("code", 2 * LOG2), ("slides", -2 * LOG2)])
def test_zero_meta_logits(form, expected):
    """Each meta-player at chance has 2 log 2; the critic +2 log 2 in the code's form, -2 log 2 in the slides'."""
    game, players = zero_meta(vral.vral(PRIOR, critic=form))
    for name in ("meta_real", "meta_fake"):
        np.testing.assert_allclose(loss_of(game, players, name)[0], 2 * LOG2, rtol=1e-6)
    np.testing.assert_allclose(loss_of(game, players, "critic")[0], expected, rtol=1e-6)


def test_golden_values():
    """Meta-logits log 2 and -log 2: sigmoids 2/3 and 1/3."""
    up, down = jnp.array([LOG2]), jnp.array([-LOG2])
    np.testing.assert_allclose(vral.meta_loss(up, down), [np.log(3 / 2) + np.log(3 / 2)], rtol=1e-6)
    # sp(-F) + sp(-R) at R = log 2, F = -log 2
    np.testing.assert_allclose(vral.critic_loss(up, down), [np.log(3) + np.log(3 / 2)], rtol=1e-6)
    np.testing.assert_allclose(vral.critic_loss(up, down, "slides"), [-np.log(3 / 2) - np.log(3)], rtol=1e-6)


def test_generator_forms_by_hand():
    game, players = zero_meta(vral.vral(PRIOR, generator="means"))
    total, out = loss_of(game, players, "generator")
    _, critic = loss_of(game, players, "critic")
    np.testing.assert_allclose(
        total,
        (np.mean(out.outputs.fake.score) - np.mean(critic.outputs.real.score)) ** 2,
        rtol=1e-5,
        atol=1e-6,
    )
    game, players = zero_meta(vral.vral(PRIOR))
    total, out = loss_of(game, players, "generator")
    np.testing.assert_allclose(total, np.mean((out.outputs.fake.score - 1) ** 2), rtol=1e-5)


@pytest.mark.full
def test_meta_fake_judges_fakes_against_the_standard_normal_and_meta_real_reals_against_one_further():
    """A meta-discriminator that is the identity shows what it is given: softplus(-y) + softplus(D)."""

    def identity(params, model_state, y, train, key):
        return y[:, 0], model_state

    network = scalar_network(identity)
    networks = {**vral_networks(), "meta_real": network, "meta_fake": network}
    game = helpers.game(vral.vral(PRIOR), networks_=networks)
    players = helpers.players_of(game)
    n = 4096
    batch = helpers.batch(n=n)
    for name, mean, kind in (("meta_fake", 0.0, "fake"), ("meta_real", 1.0, "real")):
        total, out = helpers.loss(name, game, players, batch)
        base_loss = np.mean(np.logaddexp(0, getattr(out.outputs, kind).score))
        # E softplus(-y), y ~ N(mean, 1), by quadrature.
        y = np.linspace(-10, 12, 20001)
        density = np.exp(-((y - mean) ** 2) / 2) / np.sqrt(2 * np.pi)
        expected = np.sum(np.logaddexp(0, -y) * density) * (y[1] - y[0])
        np.testing.assert_allclose(total - base_loss, expected, atol=5 * 0.7 / np.sqrt(n))


def test_whole_batch_meta_networks_map_all_scores_to_a_single_logit():
    metas = {name: helpers.critic(helpers.B) for name in ("meta_real", "meta_fake")}
    game, players = zero_meta(vral.vral(PRIOR, whole_batch=True), {**helpers.networks(), **metas})
    np.testing.assert_allclose(loss_of(game, players, "meta_real")[0], 2 * LOG2, rtol=1e-6)
    assert not is_mean_over_examples(game.objective.players["meta_real"].loss, context(game, players))
    after, metrics = apply_turn(turn("meta_real", "meta_fake"), context(game, players, helpers.batch()))
    assert {"meta_real/loss", "meta_fake/loss"} <= set(metrics)
    assert after["meta_real"].model_state["calls"] == 2


def test_the_critic_learns_only_through_the_meta_networks():
    """At zero meta-parameters the critic has no gradient: its loss is of F and R, not of scores."""
    game, players = zero_meta(vral.vral(PRIOR))
    after, _ = apply_turn(turn("critic"), context(game, players, helpers.batch()))
    for a, b in zip(
        jax.tree.leaves(after["critic"].params), jax.tree.leaves(players["critic"].params), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.full
def test_fifty_turns_of_the_meta_players_are_one_loop():
    """The round k (meta_real with meta_fake, critic), generator is as long a program for k = 50 as for 2."""

    def lines(k):
        schedule = (*(k * (turn("meta_real", "meta_fake"), turn("critic"))), turn("generator"))
        game = helpers.game(vral.vral(PRIOR), networks_=vral_networks(), schedule=schedule)
        state = jax.eval_shape(lambda key: init_state(game, key), jax.random.key(0))
        batches = helpers.batch(shape=(2 * k + 1,))
        return len(str(jax.make_jaxpr(make_train_step(game))(state, batches)).splitlines())

    assert lines(50) < 1.1 * lines(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"critic": "paper"}, "critic loss is one of"), ({"generator": "score"}, "generator loss is one of")],
)
def test_unknown_forms_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        vral.vral(PRIOR, **options)


# --- Parzen -------------------------------------------------------------------------------------------------


def gaussian_kl(m0, v0, m1, v1):
    """KL(N(m0, v0) || N(m1, v1)) = (log(v1 / v0) + (v0 + (m0 - m1)^2) / v1 - 1) / 2."""
    return (np.log(v1 / v0) + (v0 + (m0 - m1) ** 2) / v1 - 1) / 2


@pytest.mark.parametrize("window", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("score", [-1.0, 0.0, 2.0])
def test_one_score_is_a_gaussian(window, score):
    """With all scores equal p~ is N(score, h^2) itself, whatever the batch."""
    found = vral_parzen.kl_to_parzen(0.0, jnp.full(5, score), window)
    np.testing.assert_allclose(found, gaussian_kl(0, 1, score, window**2), rtol=1e-5, atol=1e-6)


def test_large_batches_tend_to_the_kl_of_the_blurred_gaussian():
    """Scores ~ N(m, s^2): the loss tends to KL(N(0, 1) || N(m, s^2 + h^2)); here by the scores' quantiles."""
    m, s, h = 0.4, 0.6, 0.5
    errors = []
    for n in (16, 4096):
        u = (np.arange(n) + 0.5) / n
        scores = m + s * np.sqrt(2) * np.asarray(jax.scipy.special.erfinv(2 * jnp.asarray(u) - 1))
        found = vral_parzen.kl_to_parzen(0.0, jnp.asarray(scores), h)
        errors.append(abs(found - gaussian_kl(0, 1, m, s * s + h * h)))
    assert errors[1] < 2e-3
    assert errors[1] < errors[0] / 10


@pytest.mark.full
def test_its_minimiser_has_variance_one_minus_h_squared():
    """argmin_s KL(N(0, 1) || N(0, s^2 + h^2)), at h = .6: s^2 = .64. By the scores' quantiles on a grid of s."""
    u = (jnp.arange(2048) + 0.5) / 2048
    quantiles = jnp.sqrt(2) * jax.scipy.special.erfinv(2 * u - 1)
    grid = jnp.linspace(0.5, 1.1, 61)
    losses = jax.vmap(lambda s: vral_parzen.kl_to_parzen(0.0, s * quantiles, 0.6))(grid)
    np.testing.assert_allclose(grid[jnp.argmin(losses)] ** 2, 0.64, atol=0.02)


def test_loss_is_the_sum_of_both_sides():
    real, fake = jnp.full(4, 1.5), jnp.full(4, 0.5)
    expected = gaussian_kl(0, 1, 0.5, 0.25) + gaussian_kl(1, 1, 1.5, 0.25)
    np.testing.assert_allclose(vral_parzen.critic_loss(real, fake, 0.5), expected, rtol=1e-5)


def test_the_other_directions_cross_entropy_has_half_least_squares_gradients():
    """-E log N(D; m, 1) differentiates to D - m: the least-squares critic's halves with a = 0, b = 1."""
    real, fake = jnp.array([0.3, 1.7, -2.0]), jnp.array([0.1, 2.0, -1.0])

    def cross_entropy(scores, m):
        return jnp.sum((scores - m) ** 2 / 2 + np.log(2 * np.pi) / 2)

    found = jax.grad(lambda r, f: jnp.sum(least_squares.critic_loss(r, f)), argnums=(0, 1))(real, fake)
    np.testing.assert_allclose(found[0], jax.grad(cross_entropy)(real, 1.0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found[1], jax.grad(cross_entropy)(fake, 0.0), rtol=1e-6, atol=1e-7)


def test_far_scores_have_finite_gradients():
    far = jnp.array([80.0, -90.0])
    value, grad = jax.value_and_grad(lambda s: vral_parzen.critic_loss(s, s))(far)
    assert np.isfinite(value)
    assert np.all(np.isfinite(grad))


@pytest.mark.parametrize("window", [0.0, 1.0, 2.0])
def test_window_lies_below_one(window):
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
        vral_parzen.vral_parzen(PRIOR, window=window)
