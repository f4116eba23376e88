"""The Dirac-GAN: eigenvalues of a round's Jacobian against closed forms, and where trajectories go.

Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018. A simultaneous step of size h has
the eigenvalues 1 + h t, with t those of the continuous field; alternating steps follow from the product of the
two shears.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax import field as fields
from gan_jax.functional import priors
from gan_jax.game import InputTransform
from gan_jax.objectives import add_terms, r1, r2, with_transforms
from gan_jax.objectives.bgan import bgan
from gan_jax.objectives.f_gan import f_gan
from gan_jax.objectives.gan import gan
from gan_jax.objectives.hinge import hinge
from gan_jax.objectives.least_squares import least_squares
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.r3gan import r3gan
from gan_jax.objectives.relativistic import relativistic
from gan_jax.objectives.wgan import wgan
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.objectives.zero_centred import zero_centred
from gan_jax.schedule import alternating, simultaneous, turn
from gan_jax.training.step import make_train_step
from tests.helpers import dirac_game, dirac_jacobian, dirac_train_state, eigenvalues, quadratic_roots

PRIOR = priors.gaussian(1)
H, GAMMA, SIGMA = 0.25, 0.6, 1.5


def plus_minus(sigma):
    """Instance noise on two points, +sigma and -sigma, so that its expectation is exact on two examples."""

    def apply(inputs, key, step, objective_state):
        x, *rest = inputs
        signs = jnp.where(jnp.arange(x.shape[0]) % 2 == 0, 1.0, -1.0)[:, None]
        return (x + sigma * signs, *rest)

    return InputTransform(name="plus_minus", apply=apply)


def noisy(sigma):
    return with_transforms(gan(PRIOR), plus_minus(sigma))


# name: objective, then b and c of t^2 + b t + c, whose roots are the eigenvalues of the field's Jacobian.
CLOSED_FORMS = {
    "gan": (gan(PRIOR), 0.0, 1 / 4),
    "non_saturating": (non_saturating(PRIOR), 0.0, 1 / 4),
    "wgan": (wgan(PRIOR), 0.0, 1.0),
    # At a = -1, b = c = 1 the scores' slopes at 0 are (fake + 1) and (fake - 1).
    "least_squares": (least_squares(PRIOR, a=-1.0, b=1.0, c=1.0), 0.0, 1.0),
    "noise": (noisy(SIGMA), SIGMA**2 / 2, 1 / 4),
    "little_noise": (noisy(0.4), 0.4**2 / 2, 1 / 4),
    "r1": (add_terms(gan(PRIOR), r1(GAMMA)), GAMMA, 1 / 4),
    "strong_r1": (add_terms(gan(PRIOR), r1(3.0)), 3.0, 1 / 4),
    "r2": (add_terms(gan(PRIOR), r2(GAMMA)), GAMMA, 1 / 4),
    "zero_centred": (zero_centred(PRIOR, gamma_real=0.2, gamma_fake=0.3), 0.5, 1 / 4),
    # The slopes at 0: hinge 1 and 1; -log sigmoid of a difference 1/2; its average form has two of them; the
    # boundary seeker's is 0.
    "hinge": (hinge(PRIOR), 0.0, 1.0),
    "relativistic": (relativistic(PRIOR, average=False), 0.0, 1 / 4),
    "relativistic_average": (relativistic(PRIOR), 0.0, 1.0),
    "r3gan": (r3gan(PRIOR, gamma=GAMMA), 2 * GAMMA, 1 / 4),
    "bgan": (bgan(PRIOR), 0.0, 0.0),
    # f-GAN: both slopes are d/dv f*(g_f(v)) at 0.
    "kl": (f_gan(PRIOR, divergence="kl"), 0.0, np.exp(-2)),
    "reverse_kl": (f_gan(PRIOR, divergence="reverse_kl"), 0.0, 1.0),
    "pearson": (f_gan(PRIOR, divergence="pearson"), 0.0, 1.0),
    "neyman": (f_gan(PRIOR, divergence="neyman"), 0.0, 1.0),
    "squared_hellinger": (f_gan(PRIOR, divergence="squared_hellinger"), 0.0, 1.0),
    "jeffrey": (f_gan(PRIOR, divergence="jeffrey"), 0.0, 1.0),
    "jensen_shannon": (f_gan(PRIOR, divergence="jensen_shannon"), 0.0, 1 / 4),
    "total_variation": (f_gan(PRIOR, divergence="total_variation"), 0.0, 1 / 4),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_simultaneous_eigenvalues(name):
    objective, b, c = CLOSED_FORMS[name]
    jacobian = dirac_jacobian(dirac_game(objective, lr=H, schedule=simultaneous()))
    expected = [1 + H * root for root in quadratic_roots(b, c)]
    np.testing.assert_allclose(eigenvalues(jacobian), expected, atol=1e-6)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_alternating_eigenvalues(name):
    """psi' = (1 - h b) psi - h u theta, then theta' = theta + h v psi' with u v = c: trace 2 - h b - h^2 c,
    determinant 1 - h b."""
    objective, b, c = CLOSED_FORMS[name]
    jacobian = dirac_jacobian(dirac_game(objective, lr=H, schedule=alternating()))
    expected = quadratic_roots(-(2 - H * b - H * H * c), 1 - H * b)
    np.testing.assert_allclose(eigenvalues(jacobian), expected, atol=1e-6)


PAIRED = relativistic(PRIOR, average=False)


@pytest.mark.parametrize(
    ("objective", "polynomial", "roots"),
    [
        (PAIRED, [1, 0, 0.25], [-0.5j, 0.5j]),
        # A defective root moves by the square root of an error: its polynomial is compared instead.
        (add_terms(PAIRED, r1(1.0)), [1, 1, 0.25], None),
        (r3gan(PRIOR, gamma=1.0), [1, 2, 0.25], [-1 - np.sqrt(3) / 2, -1 + np.sqrt(3) / 2]),
    ],
    ids=["no penalty", "R1", "R1 and R2"],
)
def test_relativistic_pairing_converges_with_penalties(objective, polynomial, roots):
    """R3GAN's theorem at the Dirac-GAN: rotation without a penalty, decay with R1, with both -.134 and -1.866."""
    step = dirac_jacobian(dirac_game(objective, lr=H, schedule=simultaneous()))
    field = (np.asarray(step) - np.eye(2)) / H
    np.testing.assert_allclose(np.poly(field), polynomial, atol=1e-6)
    if roots is not None:
        np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(field)), roots, atol=1e-6)


@pytest.mark.parametrize(
    ("n_critic", "n_generator", "h"), [(1, 1, 1.0), (5, 1, 1.5), (2, 3, 1.6), (2, 3, 1.7)]
)
def test_alternating_gan_stays_on_the_unit_circle_up_to_a_step(n_critic, n_generator, h):
    """|eigenvalue| = 1 exactly where h sqrt(n_d n_g) / 2 <= 2."""
    game = dirac_game(gan(PRIOR), lr=h, schedule=alternating(n_critic, n_generator))
    found = eigenvalues(dirac_jacobian(game))
    trace = 2 - h * h * n_critic * n_generator / 4
    np.testing.assert_allclose(found, quadratic_roots(-trace, 1.0), rtol=2e-5, atol=1e-6)
    on_circle = h * np.sqrt(n_critic * n_generator) / 2 <= 2
    assert np.allclose(np.abs(found), 1.0, atol=1e-4) == on_circle


@pytest.mark.parametrize("psi", [-2.0, 0.5, 1.0, 3.0])
def test_wgan_gp_away_from_zero(psi):
    """lambda (|psi| - 1)^2 curves by 2 lambda wherever psi is not 0; there the field has no derivative."""
    weight = 0.7
    game = dirac_game(wgan_gp(PRIOR, penalty=weight), lr=H, schedule=simultaneous())
    expected = [1 + H * root for root in quadratic_roots(2 * weight, 1.0)]
    np.testing.assert_allclose(eigenvalues(dirac_jacobian(game, psi=psi, theta=0.3)), expected, atol=1e-6)


def with_field(objective, field):
    return dirac_game(objective, lr=H, schedule=simultaneous(), field=field)


def test_consensus_moves_the_eigenvalues_left():
    """J^T J = I / 4 at the GAN's equilibrium: +-i/2 becomes -gamma/4 +- i/2."""
    found = eigenvalues(dirac_jacobian(with_field(gan(PRIOR), fields.consensus(GAMMA))))
    np.testing.assert_allclose(found, [1 + H * (-GAMMA / 4 - 0.5j), 1 + H * (-GAMMA / 4 + 0.5j)], atol=1e-6)


def test_symplectic_adjustment_of_an_antisymmetric_game():
    """J antisymmetric: A^T J = J^T J = I / 4, so +-i/2 becomes -lambda/4 +- i/2."""
    found = eigenvalues(
        dirac_jacobian(with_field(gan(PRIOR), fields.symplectic_adjustment(GAMMA, align=False)))
    )
    np.testing.assert_allclose(found, [1 + H * (-GAMMA / 4 - 0.5j), 1 + H * (-GAMMA / 4 + 0.5j)], atol=1e-6)


def test_extragradient_is_the_step_from_the_looked_ahead_point():
    """1 + h t becomes 1 + h t (1 + h t)."""
    found = eigenvalues(dirac_jacobian(with_field(wgan(PRIOR), fields.extragradient())))
    np.testing.assert_allclose(found, [1 + H * t * (1 + H * t) for t in (-1j, 1j)], atol=1e-6)


@pytest.mark.parametrize(("order", "terms"), [(2, 3), (4, 5)])
def test_runge_kutta_is_the_exponential_up_to_its_order(order, terms):
    """A Runge-Kutta step of order p multiplies by the first p + 1 terms of exp(h t)."""
    found = eigenvalues(dirac_jacobian(with_field(wgan(PRIOR), fields.runge_kutta(order))))
    factorial = [1, 1, 2, 6, 24]
    expected = [sum((H * t) ** k / factorial[k] for k in range(terms)) for t in (-1j, 1j)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def optimistic(lr):
    return optax.optimistic_gradient_descent(lr, alpha=1.0, beta=1.0)


def radii(objective, schedule, rounds=2000, optimizer=optax.sgd, **options):
    """||(psi, theta)|| after every round, from (0, 1)."""
    game = dirac_game(objective, lr=0.1, schedule=schedule, optimizer=optimizer, **options)
    step = make_train_step(game)
    batches = {"x": jnp.zeros((len(schedule), 2, 1) if len(schedule) > 1 else (2, 1))}

    def body(state, _):
        state, _ = step(state, batches)
        psi, theta = state.players["critic"].params, state.players["generator"].params
        return state, jnp.sqrt(psi**2 + theta**2)

    state = dirac_train_state(jnp.zeros(()), jnp.ones(()))
    for name in game.players:
        player = state.players[name]
        state.players[name] = player._replace(opt_state=optimizer(0.1).init(player.params))
    return np.asarray(jax.jit(lambda s: jax.lax.scan(body, s, None, length=rounds)[1])(state))


def test_trajectories_circle_spiral_in_and_spiral_out():
    """Alternating play circles, simultaneous play spirals out, R1 and consensus spiral in; clipped WGAN circles."""
    circle = radii(gan(PRIOR), alternating())
    assert 0.8 < circle[-200:].min() < circle[-200:].max() < 1.3
    out = radii(gan(PRIOR), simultaneous())
    assert out[-1] > 1.5
    assert np.all(np.diff(out[::200]) > 0)
    assert radii(add_terms(gan(PRIOR), r1(1.0)), simultaneous())[-1] < 1e-3
    assert radii(gan(PRIOR), simultaneous(), field=fields.consensus(1.0))[-1] < 1e-3
    assert radii(wgan(PRIOR), alternating())[-200:].min() > 0.8
    # The optimistic step 2 v_t - v_{t-1} (optax's) damps the rotation as extragradient does.
    assert radii(wgan(PRIOR), simultaneous(), optimizer=optimistic)[-1] < 1e-3
    assert radii(wgan(PRIOR), simultaneous(), field=fields.extragradient())[-1] < 1e-3


def test_order_of_turns_is_a_similarity_and_not_the_same_map():
    """G then C has the eigenvalues of C then G, from a transposed shear."""
    game = dirac_game(gan(PRIOR), lr=H, schedule=alternating())
    turned = dataclasses.replace(game, schedule=(turn("generator"), turn("critic")))
    first, second = dirac_jacobian(game), dirac_jacobian(turned)
    np.testing.assert_allclose(eigenvalues(first), eigenvalues(second), atol=1e-6)
    assert not np.allclose(first, second)
