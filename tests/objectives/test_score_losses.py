"""Score losses against numbers computed by hand and the closed forms of their papers.

Scores are multiples of log 2 or small integers, so that sigmoids are 1/3, 4/5, ... and every number is checked
with a pencil.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional import divergences as dv
from gan_jax.objectives import gan, least_squares, non_saturating, wgan, wgan_gp

LOG = np.log
# D = sigmoid(score): sigmoid(log 2) = 2/3, sigmoid(-log 2) = 1/3, sigmoid(log 4) = 4/5.
REAL = jnp.array([0.0, LOG(2), LOG(4)], jnp.float32)
FAKE = jnp.array([LOG(2), -LOG(2), 0.0], jnp.float32)

GOLDEN = [
    # -log D(x) - log(1 - D(g)): (1/2, 2/3), (2/3, 1/3), (4/5, 1/2)
    (gan.critic_loss, [LOG(2) + LOG(3), LOG(3 / 2) + LOG(3 / 2), LOG(5 / 4) + LOG(2)]),
    # log(1 - D(g))
    (gan.generator_loss, [-LOG(3), LOG(2 / 3), -LOG(2)]),
    (non_saturating.critic_loss, [LOG(6), LOG(9 / 4), LOG(5 / 2)]),
    # -log D(g)
    (non_saturating.generator_loss, [LOG(3 / 2), LOG(3), LOG(2)]),
    (wgan.critic_loss, [LOG(2), -LOG(4), -LOG(4)]),
    (wgan.generator_loss, [-LOG(2), LOG(2), 0.0]),
    (wgan_gp.critic_loss, [LOG(2), -LOG(4), -LOG(4)]),
    (wgan_gp.generator_loss, [-LOG(2), LOG(2), 0.0]),
]


class ScoreLosses(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_golden_values(self):
        for loss, expected in GOLDEN:
            with self.subTest(f"{loss.__module__}.{loss.__name__}"):
                np.testing.assert_allclose(self.variant(loss)(REAL, FAKE), expected, rtol=2e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_least_squares_by_hand(self):
        real, fake = jnp.array([0.0, 1.0, 3.0]), jnp.array([2.0, 0.0, -1.0])
        found = self.variant(least_squares.critic_loss)(real, fake)
        np.testing.assert_allclose(found, [2.5, 0.0, 2.5])
        np.testing.assert_allclose(self.variant(least_squares.generator_loss)(real, fake), [0.5, 0.5, 2.0])

    @chex.variants(with_jit=True, without_jit=True)
    def test_least_squares_targets(self):
        """a = -1, b = 1, c = 0: ((x - 1)^2 + (g + 1)^2) / 2 and g^2 / 2."""
        loss = self.variant(lambda r, f: least_squares.critic_loss(r, f, a=-1.0, b=1.0))
        np.testing.assert_allclose(loss(jnp.array([3.0]), jnp.array([2.0])), [(4 + 9) / 2])
        np.testing.assert_allclose(least_squares.generator_loss(None, jnp.array([3.0]), c=0.0), [4.5])


@pytest.mark.parametrize("score", [-200.0, 200.0])
@pytest.mark.parametrize("loss", [pair[0] for pair in GOLDEN])
def test_far_scores_stay_finite(loss, score):
    """log(1 - sigmoid(200)) written naively is -inf."""
    scores = jnp.array([score])
    value, grad = jax.value_and_grad(lambda s: jnp.sum(loss(s, s)))(scores)
    assert np.isfinite(value)
    assert np.all(np.isfinite(grad))


def optimal_value(p, q):
    """-E critic_loss at the optimal logits log p - log q, an expectation under each of the two."""
    score = jnp.log(p) - jnp.log(q)
    zero = jnp.zeros_like(score)
    # gan.critic_loss(real, fake) is a sum of a real and a fake part; each is integrated under its own masses.
    real = gan.critic_loss(score, zero) - gan.critic_loss(zero, zero) / 2
    fake = gan.critic_loss(zero, score) - gan.critic_loss(zero, zero) / 2
    return -jnp.sum(p * real + q * fake)


def test_minimax_value_at_the_optimal_critic_on_masses():
    """V(G, D*) = -log 4 + 2 JSD; p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2), M = (3/8, 1/4, 3/8):
    JSD = (1/2 log(4/3) + 1/4 log(2/3)), by hand."""
    p, q = jnp.array([0.5, 0.25, 0.25]), jnp.array([0.25, 0.25, 0.5])
    jsd = 0.5 * LOG(4 / 3) + 0.25 * LOG(2 / 3)
    np.testing.assert_allclose(optimal_value(p, q), -LOG(4) + 2 * jsd, rtol=1e-6)


def test_minimax_value_at_the_optimal_critic_of_two_gaussians():
    with jax.enable_x64(True):
        x = jnp.linspace(-12.0, 13.0, 20001)
        cell = x[1] - x[0]
        p = jnp.exp(-(x**2) / 2) / jnp.sqrt(2 * jnp.pi) * cell
        q = jnp.exp(-((x - 1) ** 2) / 2) / jnp.sqrt(2 * jnp.pi) * cell
        jsd = dv.jensen_shannon(jnp.log(p), jnp.log(q))
        np.testing.assert_allclose(optimal_value(p, q), -LOG(4) + 2 * jsd, rtol=1e-9)


def test_minus_log_d_step_at_the_optimal_critic_follows_kl_minus_two_jsd():
    """Arjovsky & Bottou (2017), Theorem 2.5, for q_theta = N(theta, 1) against p = N(0, 1), by quadrature.

    E_z[d/dtheta softplus(-log D*(theta + z))] with D* held fixed, against d/dtheta (KL(q || p) - 2 JSD).
    """
    with jax.enable_x64(True):
        z = jnp.linspace(-10.0, 10.0, 8001)
        weight = jnp.exp(-(z**2) / 2) / jnp.sqrt(2 * jnp.pi) * (z[1] - z[0])
        theta = 0.7

        def step(t):
            x = t + z
            # log p - log q at the frozen theta
            return jnp.sum(weight * non_saturating.generator_loss(None, -theta * x + theta**2 / 2))

        def target(t):
            x = jnp.linspace(-12.0, 13.0, 8001)
            cell = jnp.log(x[1] - x[0]) - jnp.log(2 * jnp.pi) / 2
            log_p, log_q = -(x**2) / 2 + cell, -((x - t) ** 2) / 2 + cell
            return dv.kl(log_q, log_p) - 2 * dv.jensen_shannon(log_p, log_q)

        np.testing.assert_allclose(jax.grad(step)(theta), jax.grad(target)(theta), rtol=1e-6)


def test_generator_gradients_of_the_two_gans_differ_where_the_critic_is_sure():
    """At score -10 log(1 - D) has slope -sigmoid(-10), -log D has -sigmoid(10)."""
    sure = jnp.array(-10.0)
    minimax = jax.grad(lambda s: gan.generator_loss(s, s))(sure)
    heuristic = jax.grad(lambda s: non_saturating.generator_loss(s, s))(sure)
    np.testing.assert_allclose(minimax, -1 / (1 + np.exp(10)), rtol=1e-5)
    np.testing.assert_allclose(heuristic, -1 / (1 + np.exp(-10)), rtol=1e-6)


def test_wasserstein_dual_at_the_known_potential():
    """W1 of a translation is its length, reached by the potential f(x) = -x: data at 0 .. 3, model 2 further."""
    x = jnp.arange(4.0)
    estimate = -jnp.mean(wgan.critic_loss(-x, -(x + 2.0)))
    np.testing.assert_allclose(estimate, 2.0)


def test_least_squares_generator_minimises_pearson_at_the_optimal_critic():
    """Mao et al. (2017), (6): with b - c = 1, b - a = 2, 2 C(G) = chi^2_Pearson(p + q || 2 q)."""
    a, b, c = -1.0, 1.0, 0.0
    p, q = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.2, 0.3, 0.5])
    best = (b * p + a * q) / (p + q)
    # The derivation adds the term over real scores, constant in the generator's parameters at fixed D.
    twice = jnp.sum((p + q) * jnp.square(best - c))
    pearson = jnp.sum(jnp.square(2 * q - (p + q)) / (p + q))
    np.testing.assert_allclose(twice, pearson, rtol=1e-6)
    both = jnp.sum(
        p * least_squares.generator_loss(None, best, c) + q * least_squares.generator_loss(None, best, c)
    )
    np.testing.assert_allclose(2 * both, pearson, rtol=1e-6)
