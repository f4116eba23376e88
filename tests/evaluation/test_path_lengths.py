"""Path lengths of a state's generators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.evaluation.path_lengths import path_length
from gan_jax.functional.priors import gaussian
from gan_jax.network import Network
from gan_jax.objectives import label_condition
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.training.experiment import ExperimentError
from gan_jax.training.step import init_state
from tests import helpers
from tests.evaluation.test_evaluate import experiment, make_game

PRIOR = gaussian(2)
SCALE = 3.0


def squared(x, y):
    return jnp.sum((x - y) ** 2, axis=(1, 2, 3))


def linear(**fields):
    """Images `SCALE z`, with the mapping `2 z` where there is one."""
    return Network(
        init=lambda key: (jnp.float32(SCALE), ()),
        apply=lambda params, model_state, z, train, key: (params * z[:, :, None, None], model_state),
        **fields,
    )


def made(generator, objective=None, **changes):
    game = make_game(
        objective or non_saturating(PRIOR), networks_={"critic": helpers.critic(2), "generator": generator}
    )
    return experiment(game=game, evaluation_samples=480, **changes), init_state(game, jax.random.key(0))


def test_the_length_of_a_linear_generator_is_known():
    """`E |A (z_1 - z_0)|^2 = 2 d A^2`, d = 2; the extremes, 2 % of the paths, are left out."""
    found = path_length(*made(linear()), squared)
    assert float(found) == pytest.approx(4 * SCALE**2, rel=0.15)
    assert found.name == "path length (squared, epsilon 0.0001, 480 paths)"


def test_a_mapping_network_puts_the_path_into_w():
    halves = (
        lambda params, model_state, z: (2 * z, model_state),
        lambda params, model_state, w, train, key: (params * w[:, :, None, None], model_state),
    )
    in_z, in_w = (path_length(*made(linear(halves=value)), squared, samples=50) for value in (None, halves))
    np.testing.assert_allclose(in_w.lengths, 4 * in_z.lengths, rtol=0.05)


def test_generators_of_conditions_are_refused():
    conditional = non_saturating(PRIOR, condition=label_condition)
    given = made(linear(), conditional, condition_batch=lambda n: {"y": np.zeros(n)})
    with pytest.raises(ExperimentError, match="whose only input is a latent, and generator has conditions"):
        path_length(*given, squared)
