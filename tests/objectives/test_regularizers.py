"""Regularisers against closed forms: path lengths of linear generators, limits of penalties, orthogonal kernels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional.noise import instance_noise
from gan_jax.functional.path_length import AVERAGE, OFFSET, W, style_layers
from gan_jax.keys import named_key
from gan_jax.network import Network
from gan_jax.networks.stylegan2 import stage_sizes
from gan_jax.objectives import (
    add_terms,
    approximate_penalty,
    orthogonal_regularization,
    path_length,
    r1,
    with_transforms,
)
from gan_jax.objectives._regularizers import orthogonal_residual
from gan_jax.objectives.gan import gan
from gan_jax.objectives.wgan import wgan
from gan_jax.play import apply_turn
from gan_jax.schedule import turn
from tests import helpers
from tests.helpers import PRIOR, context

MATRIX = jnp.array([[1.0, 2.0, -1.0], [0.0, 3.0, 1.0]])


def linear_generator(mapped=False):
    """G(z) = A z, or A w with w = tanh(M z) and w offered to the term."""

    def init(key):
        state = {AVERAGE: {W: jnp.zeros(3)}} if mapped else {}
        return {"matrix": MATRIX, "mapping": jnp.eye(3) * 7.0}, state

    def apply(params, model_state, z, train, key=None):
        w = jnp.tanh(z @ params["mapping"]) + model_state.get(OFFSET, {W: 0.0})[W] if mapped else z
        return w @ params["matrix"].T, model_state

    return Network(init=init, apply=apply, inputs=helpers.spec(3))


def directions(n):
    """The y that the term draws in a turn of `helpers.context`: `[n / 2, 2]`."""
    key = named_key(named_key(jax.random.key(7), "term/path_length"), "direction")
    return np.asarray(jax.random.normal(key, (n // 2, 2)))


@pytest.mark.parametrize("mapped", [False, True])
def test_the_path_length_of_a_linear_generator_is_the_length_of_a_transposed_direction(mapped):
    """||A' y|| by w whatever the mapping is; a moves by a hundredth of its distance to the mean length."""
    term = path_length(weight=3.0)
    game = helpers.game(
        add_terms(gan(PRIOR), term),
        networks_={"critic": helpers.critic(), "generator": linear_generator(mapped)},
    )
    players = helpers.players_of(game)
    players["generator"] = players["generator"]._replace(objective_state={"path_length": jnp.array(2.0)})
    without = helpers.game(gan(PRIOR), networks_={n: p.network for n, p in game.players.items()})
    base, _ = helpers.loss("generator", without, helpers.players_of(without))
    total, out = helpers.loss("generator", game, players)
    lengths = np.linalg.norm(directions(helpers.B) @ np.asarray(MATRIX), axis=1)
    average = 2.0 + 0.01 * (lengths.mean() - 2.0)
    np.testing.assert_allclose(out.metrics["path_length/length"], lengths.mean(), rtol=1e-5)
    np.testing.assert_allclose(out.objective_state["path_length"], average, rtol=1e-6)
    np.testing.assert_allclose(out.metrics["path_length"], np.mean((lengths - average) ** 2), rtol=1e-4)
    np.testing.assert_allclose(total - base, 3.0 * np.mean((lengths - average) ** 2), rtol=1e-4)


@pytest.mark.full
def test_the_mean_squared_path_length_is_the_squared_norm_of_the_jacobian():
    """E ||A' y||^2 = ||A||_F^2 = 16; its deviation over n directions is sqrt(2 tr (A A')^2 / n)."""
    n = 8000
    game = helpers.game(
        add_terms(gan(PRIOR), path_length(decay=0.0)),
        networks_={"critic": helpers.critic(), "generator": linear_generator()},
    )
    _, out = helpers.loss("generator", game, batch_=helpers.batch(n=n))
    gram = np.asarray(MATRIX @ MATRIX.T)
    deviation = np.sqrt(2 * np.trace(gram @ gram) / (n / 2))
    np.testing.assert_allclose(out.metrics["path_length"], np.trace(gram), atol=5 * deviation)


@pytest.mark.parametrize("size", [8, 32, 1024])
def test_the_weight_of_path_lengths_is_the_papers(size):
    """2 / (H W L) = ln 2 / (r^2 (ln r - ln 2)), appendix B: noise over sqrt(H W), lengths over sqrt(L)."""
    layers = style_layers((size, size, 3))
    assert layers == len(stage_sizes(size)) * 2
    paper = np.log(2) / (size**2 * (np.log(size) - np.log(2)))
    np.testing.assert_allclose(2 / (size**2 * layers), paper)


def test_path_lengths_of_a_generator_with_a_mapping_are_by_the_root_of_its_layers():
    """G(w) repeats 3 numbers w over 8 x 8 pixels: J' y are the sums of y's channels; L = 4."""

    def apply(params, model_state, z, train, key=None):
        w = z + model_state.get(OFFSET, {W: 0.0})[W]
        return jnp.broadcast_to(w[:, None, None], (len(w), 8, 8, 3)) * params, model_state

    def judge(params, model_state, x, train, key=None):
        return params * x.mean(axis=tuple(range(1, x.ndim))), model_state

    networks = {
        "critic": Network(init=lambda key: (jnp.ones(()), {}), apply=judge),
        "generator": Network(init=lambda key: (jnp.ones(()), {AVERAGE: {W: jnp.zeros(3)}}), apply=apply),
    }
    game = helpers.game(add_terms(gan(PRIOR), path_length(decay=0.0)), networks_=networks)
    _, out = helpers.loss("generator", game, batch_={"x": jnp.zeros((helpers.B, 8, 8, 3))})
    key = named_key(named_key(jax.random.key(7), "term/path_length"), "direction")
    noise = np.asarray(jax.random.normal(key, (helpers.B // 2, 192))).reshape(-1, 64, 3)
    lengths = np.linalg.norm(noise.sum(axis=1) / 8, axis=1) / 2
    np.testing.assert_allclose(out.metrics["path_length"], np.mean(lengths**2), rtol=1e-5)


def test_only_every_other_example_is_used():
    """The generator is called with half of the batch."""
    game = helpers.game(add_terms(gan(PRIOR), path_length()))
    seen = []

    def spy(params, model_state, z, train, key=None):
        seen.append(z.shape[0])
        return helpers.generator().apply(params, model_state, z, train=train, key=key)

    network = dataclasses.replace(helpers.generator(), apply=spy)
    players = {**game.players, "generator": dataclasses.replace(game.players["generator"], network=network)}
    helpers.loss("generator", dataclasses.replace(game, players=players))
    assert helpers.B // 2 in seen


def test_the_average_is_kept_in_the_generators_state():
    game = helpers.game(add_terms(gan(PRIOR), path_length()))
    after, metrics = apply_turn(turn("generator"), context(game, helpers.players_of(game), helpers.batch()))
    assert after["generator"].objective_state["path_length"] == metrics["generator/path_length/average"] > 0


def linear_critic(slope):
    def apply(params, model_state, x, train, key=None):
        return x @ params, model_state

    return Network(init=lambda key: (slope, {}), apply=apply, inputs=helpers.spec(len(slope)))


def quadratic_critic():
    """D(x) = (x, S x) / 2: grad D = S x."""
    matrix = jnp.array([[2.0, 1.0], [1.0, -1.0]])

    def apply(params, model_state, x, train, key=None):
        return jnp.einsum("bi,ij,bj->b", x, params, x) / 2, model_state

    return Network(init=lambda key: (matrix, {}), apply=apply, inputs=helpers.spec(2))


def penalties(network, n, *terms, transforms=()):
    objective = with_transforms(add_terms(wgan(PRIOR), *terms), *transforms)
    game = helpers.game(objective, networks_={"critic": network, "generator": helpers.generator()})
    return helpers.loss("critic", game, batch_=helpers.batch(n=n))[1].metrics


@pytest.mark.parametrize("sigma", [0.5, 0.01])
def test_the_first_order_penalty_of_a_linear_critic_is_sigma_squared_times_its_slope(sigma):
    """E (c sigma e)^2 = sigma^2 ||c||^2 at any sigma; the deviation of n squares is sqrt(2 / n) of it. Noise that
    the critic's inputs are given is the same for both scores, so it is not in the difference."""
    n, slope = 8000, jnp.array([3.0, -4.0])
    metrics = penalties(
        linear_critic(slope), n, approximate_penalty(sigma=sigma), transforms=[instance_noise(5.0)]
    )
    np.testing.assert_allclose(
        metrics["approximate_penalty_real"] / sigma**2, 25.0, rtol=5 * np.sqrt(2 / n) + 1e-3
    )


def test_the_first_order_penalty_tends_to_r1():
    """lambda sigma^2 = gamma / 2: the ratio to R1 tends to 1 as sigma falls, up to the chance of n directions."""
    n, ratios = 8000, []
    for sigma in (1.0, 0.1, 0.01):
        metrics = penalties(quadratic_critic(), n, approximate_penalty(sigma=sigma), r1(1.0))
        ratios.append(metrics["approximate_penalty_real"] / (2 * sigma**2 * metrics["r1"]))
    assert abs(ratios[0] - 1) > 0.2
    np.testing.assert_allclose(ratios[1:], 1.0, atol=0.08)


def test_orthogonal_regularisation_is_the_sum_over_kernels():
    """Kernels [3, 4] and [4, 2] of the toy generator; biases are none, and orthogonal columns add nothing."""
    game = helpers.game(add_terms(gan(PRIOR), orthogonal_regularization(2.0)))
    players = helpers.players_of(game)
    kernels = [leaf for leaf in jax.tree.leaves(players["generator"].params) if leaf.ndim > 1]
    assert [kernel.shape for kernel in kernels] == [(3, 4), (4, 2)]
    grams = [np.asarray(kernel).T @ np.asarray(kernel) for kernel in kernels]
    expected = sum(np.sum((gram * (1 - np.eye(len(gram)))) ** 2) for gram in grams)
    _, out = helpers.loss("generator", game, players)
    np.testing.assert_allclose(out.metrics["orthogonal"], expected, rtol=1e-4)
    assert float(orthogonal_residual(jnp.array([[0.0, -2.0], [3.0, 0.0]]))) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: path_length(decay=1.5), r"path_length\(decay=1.5\)"),
        (lambda: approximate_penalty(sigma=0.0), r"approximate_penalty\(sigma=0.0\)"),
        (lambda: approximate_penalty(on="both"), "'real' or 'fake'"),
        (lambda: orthogonal_regularization(-1.0), r"orthogonal_regularization\(weight=-1.0\)"),
    ],
)
def test_what_makes_no_sense_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
