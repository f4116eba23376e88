"""Score losses against numbers computed by hand and the closed forms of their papers.

Scores are multiples of log 2 or small integers, so that sigmoids are 1/3, 4/5, ... and every number is checked
with a pencil.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional import divergences as dv
from gan_jax.functional.f_divergences import F_DIVERGENCES, alpha_divergence
from gan_jax.functional.kernels import distances, gaussian_kernel, linear_kernel, squared_mmd
from gan_jax.objectives import (
    began,
    bgan,
    cramer,
    dragan,
    ebgan,
    f_gan,
    gan,
    hinge,
    least_squares,
    mmd_gan,
    non_saturating,
    r3gan,
    relativistic,
    wgan,
    wgan_gp,
    zero_centred,
)
from tests.helpers import PRIOR

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
    # max(0, 1 - x) + max(0, 1 + g), where log 4 > 1
    (hinge.critic_loss, [1 + 1 + LOG(2), 2 * (1 - LOG(2)), 1.0]),
    (hinge.generator_loss, [-LOG(2), LOG(2), 0.0]),
    (zero_centred.critic_loss, [LOG(6), LOG(9 / 4), LOG(5 / 2)]),
    (zero_centred.generator_loss, [LOG(3 / 2), LOG(3), LOG(2)]),
    (dragan.critic_loss, [LOG(6), LOG(9 / 4), LOG(5 / 2)]),
    (dragan.generator_loss, [-LOG(3), LOG(2 / 3), -LOG(2)]),
    (bgan.critic_loss, [LOG(6), LOG(9 / 4), LOG(5 / 2)]),
    (bgan.generator_loss, [LOG(2) ** 2 / 2, LOG(2) ** 2 / 2, 0.0]),
    # real - fake: -log 2, log 4, log 4, so D = 1/3, 4/5, 4/5
    (functools.partial(relativistic.critic_loss, average=False), [LOG(3), LOG(5 / 4), LOG(5 / 4)]),
    (functools.partial(relativistic.generator_loss, average=False), [LOG(3 / 2), LOG(5), LOG(5)]),
    (r3gan.critic_loss, [LOG(3), LOG(5 / 4), LOG(5 / 4)]),
    (r3gan.generator_loss, [LOG(3 / 2), LOG(5), LOG(5)]),
    # E fake = 0, E real = log 2: the critic sees real as it is, fake less log 2
    (relativistic.critic_loss, [LOG(2) + LOG(2), LOG(3 / 2) + LOG(5 / 4), LOG(5 / 4) + LOG(3 / 2)]),
    # the generator: softplus(E real - fake) + softplus(real - E fake)
    (relativistic.generator_loss, [LOG(2) + LOG(2), LOG(5) + LOG(3), LOG(3) + LOG(5)]),
    # L = -score: L(x) - k L(g) at k = 1/2
    (
        functools.partial(began.critic_loss, k=0.5),
        [LOG(2) / 2, -LOG(2) * 1.5, -LOG(4)],
    ),
    (began.generator_loss, [-LOG(2), LOG(2), 0.0]),
    # L(x) + max(0, 1 - L(g))
    (ebgan.critic_loss, [1 + LOG(2), 1 - 2 * LOG(2), 1 - LOG(4)]),
    (ebgan.generator_loss, [-LOG(2), LOG(2), 0.0]),
    # KL: exp(g - 1) - x
    (f_gan.critic_loss, [2 / np.e, 0.5 / np.e - LOG(2), 1 / np.e - LOG(4)]),
    (f_gan.generator_loss, [-2 / np.e, -0.5 / np.e, -1 / np.e]),
    (f_gan.heuristic_generator_loss, [-LOG(2), LOG(2), 0.0]),
]
FAR = [pair[0] for pair in GOLDEN if pair[0] not in (f_gan.critic_loss, f_gan.generator_loss)]


class ScoreLosses(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_golden_values(self):
        for loss, expected in GOLDEN:
            with self.subTest(str(loss)):
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
@pytest.mark.parametrize("loss", FAR)
def test_far_scores_stay_finite(loss, score):
    """log(1 - sigmoid(200)) written naively is -inf; the bound of the KL is exp(199), and infinite by rights."""
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


@pytest.mark.full
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


def test_f_gan_members_are_the_objectives_they_should_be():
    """The GAN row is the minimax game, its heuristic the -log D game; Jensen-Shannon differs by log 4."""
    row = F_DIVERGENCES["gan"]
    np.testing.assert_allclose(
        f_gan.critic_loss(REAL, FAKE, row), gan.critic_loss(REAL, FAKE), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        f_gan.generator_loss(REAL, FAKE, row), gan.generator_loss(REAL, FAKE), 1e-6, 1e-6
    )
    np.testing.assert_allclose(
        f_gan.heuristic_generator_loss(REAL, FAKE, row), non_saturating.generator_loss(REAL, FAKE)
    )
    shifted = f_gan.critic_loss(REAL, FAKE, F_DIVERGENCES["jensen_shannon"])
    np.testing.assert_allclose(shifted, gan.critic_loss(REAL, FAKE) - LOG(4), rtol=1e-5, atol=1e-6)


def test_f_gan_takes_names_and_families():
    for divergence in (*F_DIVERGENCES, alpha_divergence(0.3)):
        assert set(f_gan.f_gan(PRIOR, divergence=divergence).players) == {"critic", "generator"}
    assert f_gan.f_gan(PRIOR, divergence="gan").logits
    assert not f_gan.f_gan(PRIOR, divergence="kl").logits
    with pytest.raises(ValueError, match="There is no f-divergence 'wasserstein'"):
        f_gan.f_gan(None, divergence="wasserstein")


def test_hinge_at_the_optimal_critic_is_twice_one_minus_total_variation():
    """min_D L_D = 2 (1 - TV), at D = sign(p - q) (Lim & Ye, 2017): p = (.5, .3, .2), q = (.2, .3, .5), TV = .3."""
    p, q = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.2, 0.3, 0.5])
    best = jnp.sign(p - q)
    half = hinge.critic_loss(0.0, 0.0) / 2
    loss = jnp.sum(p * (hinge.critic_loss(best, 0.0) - half)) + jnp.sum(
        q * (hinge.critic_loss(0.0, best) - half)
    )
    np.testing.assert_allclose(loss, 2 * (1 - 0.3), rtol=1e-6)


FEATURES_X, FEATURES_Y = jnp.array([[0.0, 0.0], [0.0, 2.0]]), jnp.array([[3.0, 0.0], [3.0, 2.0], [3.0, 4.0]])


def test_mmd_by_hand():
    """Linear kernel: biased MMD^2 is the squared distance of the means, (0, 1) and (3, 2). Gaussian, s = 1, on the
    line: unbiased by pairs."""
    np.testing.assert_allclose(
        squared_mmd(linear_kernel, FEATURES_X, FEATURES_Y, biased=True), 10.0, rtol=1e-6
    )
    x, y = jnp.array([[0.0], [1.0]]), jnp.array([[2.0], [2.0]])
    expected = np.exp(-0.5) + 1.0 - 2 * (np.exp(-2.0) + np.exp(-0.5)) / 2
    kernel = gaussian_kernel((1.0,))
    np.testing.assert_allclose(mmd_gan.generator_loss(x, y, kernel), expected, rtol=1e-6)
    np.testing.assert_allclose(mmd_gan.critic_loss(x, y, kernel), -expected, rtol=1e-6)


def test_mmd_is_the_difference_of_the_witness():
    """Biased MMD^2 = E w(X) - E w(Y)."""
    w = functools.partial(mmd_gan.witness, real=FEATURES_X, fake=FEATURES_Y)
    np.testing.assert_allclose(
        jnp.mean(w(FEATURES_X)) - jnp.mean(w(FEATURES_Y)),
        squared_mmd(mmd_gan.RATIONAL_QUADRATIC, FEATURES_X, FEATURES_Y, biased=True),
        rtol=1e-5,
    )


def test_energy_distance_by_hand_and_as_a_kernel():
    """x = 0, 2 and y = 3, 7 on the line: 2 (3 + 7 + 1 + 5) / 4 - 2 - 4 = 2; biased, own distances are 1 and 2, so
    8 - 1 - 2 = 5, twice the squared discrepancy of the distance kernel."""
    x, y = jnp.array([[0.0], [2.0]]), jnp.array([[3.0], [7.0]])
    np.testing.assert_allclose(cramer.generator_loss(x, y), 2.0, rtol=1e-6)

    def distance_kernel(a, b):
        return (jnp.abs(a) + jnp.abs(b).T - distances(a, b)) / 2

    np.testing.assert_allclose(2 * squared_mmd(distance_kernel, x, y, biased=True), 5.0, rtol=1e-5)


def test_cramer_surrogate_by_hand():
    """x = 0, 2; y = 3, 7: E|x - y| = 4, E|y - y'| = 4, E|x| = 1, E|y| = 5: f(X) - f(Y) = (4 - 1) - (4 - 5) = 4."""
    x, y = jnp.array([[0.0], [2.0]]), jnp.array([[3.0], [7.0]])
    np.testing.assert_allclose(cramer.critic_loss(x, y), -4.0, rtol=1e-6)
    np.testing.assert_allclose(cramer.critic_loss(x, y, surrogate=False), -2.0, rtol=1e-6)


def test_energy_distance_of_two_gaussians():
    """E|N(0, s^2)| = s sqrt(2 / pi); for N(0, 1) against N(0, 2^2) on the line the energy distance is
    sqrt(2 / pi) (2 sqrt 5 - sqrt 2 - sqrt 8)."""
    keys = jax.random.split(jax.random.key(0))
    x, y = jax.random.normal(keys[0], (2000, 1)), 2 * jax.random.normal(keys[1], (2000, 1))
    expected = np.sqrt(2 / np.pi) * (2 * np.sqrt(5) - np.sqrt(2) - np.sqrt(8))
    np.testing.assert_allclose(cramer.generator_loss(x, y), expected, atol=0.05)


def test_pulling_away_is_zero_for_orthogonal_codes_and_one_for_parallel_ones():
    np.testing.assert_allclose(ebgan.pulling_away(3 * jnp.eye(4)), 0.0, atol=1e-7)
    np.testing.assert_allclose(
        ebgan.pulling_away(jnp.outer(jnp.arange(1.0, 5.0), jnp.ones(3))), 1.0, rtol=1e-6
    )
    assert np.all(np.isfinite(jax.grad(ebgan.pulling_away)(jnp.zeros((3, 2)))))


def test_bgan_weights_are_the_density_ratio_normalised():
    """At the optimal critic exp(score) = p / q: the weights of three samples of q make E_q[w] of it."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(bgan.importance_weights(jnp.log(p / q)), (p / q) / np.sum(p / q), rtol=1e-6)


def test_bgan_discrete_gradient_by_hand():
    """One z, two samples, weights 1/4 and 3/4: d/d log_prob of the surrogate is minus the weights."""
    scores, log_prob = jnp.log(jnp.array([[1.0, 3.0]])), jnp.log(jnp.array([[0.5, 0.5]]))
    found = jax.grad(lambda lp: jnp.sum(bgan.discrete_generator_loss(scores, lp)))(log_prob)
    np.testing.assert_allclose(found, [[-0.25, -0.75]], rtol=1e-6)
    frozen = jax.grad(lambda s: jnp.sum(bgan.discrete_generator_loss(s, log_prob)))(scores)
    np.testing.assert_array_equal(frozen, 0.0)
