"""R3GAN's objective: values by hand, and the sum of the relativistic loss and both penalties, term by term."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional.augment import diff_augment
from gan_jax.functional.noise import instance_noise
from gan_jax.functional.packing import packing
from gan_jax.functional.priors import gaussian
from gan_jax.network import Network
from gan_jax.objectives import adaptive_augmentation, add_terms, label_condition, r1, r2, with_transforms
from gan_jax.objectives.r3gan import r3gan
from gan_jax.objectives.relativistic import relativistic
from tests import helpers
from tests.helpers import PRIOR
from tests.tiers import full


def test_the_critics_loss_by_hand():
    """D(x) = s x^2 / 2 at s = 2, real 1 and 2, every sample 3: scores 1, 4 and 9, slopes 2, 4 and 6.

    softplus(9 - 1) and softplus(9 - 4); R1 = (4 + 16) / 2 / 2 = 5 and R2 = 36 / 2 = 18, times gamma = .5.
    """

    def critic(params, model_state, x, train, key):
        return params * x[:, 0] ** 2 / 2, model_state

    def generator(params, model_state, z, train, key):
        return jnp.broadcast_to(params, (z.shape[0], 1)), model_state

    networks = {
        "critic": Network(init=lambda key: (jnp.array(2.0), ()), apply=critic),
        "generator": Network(init=lambda key: (jnp.array(3.0), ()), apply=generator),
    }
    game = helpers.game(r3gan(gaussian(1), gamma=0.5), networks_=networks)
    batch = {"x": jnp.array([[1.0], [2.0]])}
    value, output = helpers.loss("critic", game, batch_=batch)
    pairs = (np.logaddexp(0, 8) + np.logaddexp(0, 5)) / 2
    np.testing.assert_allclose(value, pairs + 0.5 * (5 + 18), rtol=1e-6)
    np.testing.assert_allclose([output.metrics["r1"], output.metrics["r2"]], [5, 18], rtol=1e-6)
    np.testing.assert_allclose(output.outputs.real.score, [1, 4])
    value, _ = helpers.loss("generator", game, batch_=batch)
    np.testing.assert_allclose(value, (np.logaddexp(0, -8) + np.logaddexp(0, -5)) / 2, rtol=1e-5)


def label_networks():
    sizes = {"critic": helpers.X_DIM, "generator": helpers.Z_DIM}
    return {name: getattr(helpers, name)(size + helpers.CLASSES) for name, size in sizes.items()}


def packed_networks():
    return {"critic": helpers.critic(2 * helpers.X_DIM), "generator": helpers.generator()}


@pytest.mark.full
@pytest.mark.parametrize(
    ("options", "transforms", "networks"),
    [
        ({}, [instance_noise(0.3)], helpers.networks),
        full({"condition": label_condition}, [], label_networks),
        full({}, [packing(2)], packed_networks),
    ],
    ids=["noise", "labels", "packs"],
)
def test_it_is_the_relativistic_loss_with_r1_and_r2(options, transforms, networks):
    """One pass through the critic gives the value and the gradients of three terms."""

    def gamma(step):
        return 0.3 + step

    def gradients(objective):
        game = helpers.game(with_transforms(objective, *transforms), networks_=networks())
        players = helpers.players_of(game)

        def loss(params, name):
            moved = {**players, name: players[name]._replace(params=params)}
            return helpers.loss(name, game, moved, step=2)[0]

        return {name: jax.value_and_grad(loss)(players[name].params, name) for name in players}

    together = r3gan(PRIOR, gamma=gamma, **options)
    in_terms = add_terms(relativistic(PRIOR, average=False, **options), r1(gamma), r2(gamma))
    ours, theirs = gradients(together), gradients(in_terms)
    assert float(ours["critic"][0]) > float(np.log(2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def test_a_pair_has_one_label():
    """The sample that a real example is compared with is made and judged for that example's label."""
    game = helpers.game(r3gan(PRIOR, condition=label_condition), networks_=label_networks())
    _, output = helpers.loss("critic", game)
    labels = helpers.batch()["y"]
    for given in (output.outputs.real.conditions, output.outputs.fake.conditions):
        np.testing.assert_array_equal(given[0], labels)
    np.testing.assert_array_equal(output.outputs.generator_inputs[1], labels)


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"r3gan\(gamma=0\).*above 0.*relativistic"):
        r3gan(PRIOR, gamma=0)
    # The offset of a relativistic critic is free, so the sign of its score says nothing of overfitting.
    with pytest.raises(ValueError, match="'ada' needs an objective with the critic's loss"):
        add_terms(r3gan(PRIOR), adaptive_augmentation())
    with pytest.raises(ValueError, match="reads the state 'ada'"):
        with_transforms(r3gan(PRIOR), diff_augment("color", "ada"))
    with pytest.raises(ValueError, match="couples its batch"):
        helpers.game(
            r3gan(PRIOR),
            networks_={**helpers.networks(), "critic": helpers.critic(couples_batch=True)},
        )
    with pytest.raises(ValueError, match="already has a term named 'r1'"):
        add_terms(r3gan(PRIOR), r1())
