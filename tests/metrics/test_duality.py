"""Kantorovich-Rubinstein: primal, dual and critics whose estimates are known in closed form."""

import functools

import jax.numpy as jnp
import numpy as np
import ot
import pytest

from gan_jax.metrics import critic_gap, kantorovich_rubinstein, lipschitz_violation


@pytest.fixture
def clouds():
    rng = np.random.default_rng(0)
    return rng.normal(size=(25, 2)), rng.normal(size=(40, 2)) + np.array([1.0, 0.5])


def test_primal_and_dual_equal_pots_optimum(clouds):
    check = kantorovich_rubinstein(*clouds)
    expected = ot.emd2([], [], ot.dist(*clouds, metric="euclidean"))
    assert check.primal == pytest.approx(expected, rel=1e-9)
    assert check.dual == pytest.approx(expected, rel=1e-9)
    potential, points = check.potential, np.concatenate(clouds)
    assert potential[:25].mean() - potential[25:].mean() == pytest.approx(expected, rel=1e-9)
    distinct = ot.dist(points, points, metric="euclidean") + np.eye(65)
    assert (np.abs(potential[:, None] - potential) / distinct).max() <= 1 + 1e-9


@pytest.mark.parametrize("scale", [1e-9, 1e22])
def test_primal_and_dual_have_the_scale_of_the_points(clouds, scale):
    expected = kantorovich_rubinstein(*clouds)
    check = kantorovich_rubinstein(*(scale * side for side in clouds))
    assert check.primal == pytest.approx(scale * expected.primal, rel=1e-9)
    assert check.dual == pytest.approx(scale * expected.dual, rel=1e-9)
    potential = check.potential[:25].mean() - check.potential[25:].mean()
    assert potential == pytest.approx(scale * expected.primal, rel=1e-9)


def test_points_that_both_sets_hold(clouds):
    real = np.concatenate([clouds[0], clouds[1][:10]])
    check = kantorovich_rubinstein(real, clouds[1])
    assert check.dual == pytest.approx(check.primal, rel=1e-9)
    assert kantorovich_rubinstein(real, real[::-1]).primal == pytest.approx(0, abs=1e-9)


def test_the_critic_along_a_pure_shift_is_optimal(clouds):
    real = clouds[0]
    fake = real - np.array([3.0, 4.0])
    towards = jnp.array([0.6, 0.8])
    best = kantorovich_rubinstein(real, fake, critic=lambda x: x @ towards)
    assert best.primal == pytest.approx(5.0)
    assert best.critic == pytest.approx(5.0, rel=1e-5)
    assert best.gap == pytest.approx(0.0, abs=1e-4)
    # A critic of the first axis only measures 3 of 5; scaling it changes nothing.
    for scale in (1.0, 10.0):
        slanted = kantorovich_rubinstein(real, fake, critic=functools.partial(scaled_first_axis, scale))
        assert slanted.critic == pytest.approx(3.0 * scale, rel=1e-5)
        assert slanted.lipschitz.largest_gradient == pytest.approx(scale, rel=1e-5)
        # The shift itself has slope 3 / 5, some pair of points has more, none more than 1.
        assert 0.6 * scale < slanted.lipschitz.largest_slope <= scale * (1 + 1e-5)
        assert slanted.gap == pytest.approx(5 - 3 * scale / slanted.lipschitz.largest_slope, rel=1e-5)


def scaled_first_axis(scale, x):
    return scale * x[:, 0]


@pytest.mark.full
def test_a_bound_is_never_above_the_distance(clouds):
    def critic(x):
        return jnp.sin(3 * x[:, 0]) + x[:, 0] * x[:, 1] - 2 * x[:, 1]

    check = kantorovich_rubinstein(*clouds, critic=critic)
    assert 0 < check.bound < check.primal
    assert check.gap == pytest.approx(check.primal - check.bound)
    large = critic_gap(*clouds, critic)
    assert large.primal == pytest.approx(check.primal)
    assert (large.critic, large.bound) == (check.critic, check.bound)


def test_slopes_by_hand():
    # |x|^2 between (0,0), (1,0), (0,2): slopes 1, 2 and 3/sqrt(5); gradients 0, 2, 4 at the points, less between.
    found = lipschitz_violation(lambda x: (x**2).sum(1), np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
    assert found.largest_slope == pytest.approx(2.0)
    assert found.largest_gradient == pytest.approx(4.0)
    assert found.constant == found.largest_gradient


def test_images_reach_the_critic_in_their_shape():
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, size=(6, 4, 4, 1)).astype(np.float32)
    check = kantorovich_rubinstein(images, images[::-1] - 0.5, critic=lambda x: x.mean(axis=(1, 2, 3)))
    # Shifting each of 16 pixels by a half is a distance of 2; the mean's slope is 1 / 4 along it.
    assert check.primal <= 2 + 1e-6
    assert check.critic == pytest.approx(0.5, rel=1e-5)
    assert check.lipschitz.largest_gradient == pytest.approx(0.25, rel=1e-5)


def test_bad_input_is_named(clouds):
    with pytest.raises(ValueError, match="at most 800"):
        kantorovich_rubinstein(np.zeros((500, 2)), np.zeros((500, 2)))
    with pytest.raises(ValueError, match=r"scores \[65\], one per example"):
        kantorovich_rubinstein(*clouds, critic=lambda x: x)
