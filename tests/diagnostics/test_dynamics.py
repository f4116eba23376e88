"""Dynamics against the closed forms of the Dirac-GAN and of a bowl."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax import diagnostics
from gan_jax.game import Game, Player
from gan_jax.objectives import add_terms, r1
from gan_jax.objectives.gan import gan
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.wgan import wgan
from gan_jax.schedule import simultaneous, turn
from gan_jax.state import PlayerState, TrainState
from tests import helpers
from tests.helpers import PRIOR, dirac_game, dirac_train_state

ORIGIN = {"x": jnp.zeros((2, 1))}
GAMMA = 0.6


def probed(probe, game, start, state, batch):
    """The probe as one program."""
    return jax.jit(lambda start, state, batch: probe(helpers.probe_context(game, start, state, batch)))(
        start, state, batch
    )


def eigenvalues(objective, psi=0.0, theta=0.0):
    game = dirac_game(objective, lr=0.1, schedule=simultaneous())
    state = dirac_train_state(jnp.array(psi), jnp.array(theta))
    found = probed(diagnostics.eigenvalues, game, state, state, ORIGIN)
    return found, np.asarray(found["field/eigenvalues_real"] + 1j * found["field/eigenvalues_imaginary"])


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (gan(PRIOR), [-0.5j, 0.5j]),
        (non_saturating(PRIOR), [-0.5j, 0.5j]),
        (wgan(PRIOR), [-1j, 1j]),
        (
            add_terms(gan(PRIOR), r1(GAMMA)),
            [-GAMMA / 2 - 1j * (0.25 - GAMMA**2 / 4) ** 0.5, -GAMMA / 2 + 1j * (0.25 - GAMMA**2 / 4) ** 0.5],
        ),
        (add_terms(gan(PRIOR), r1(2.0)), [-1 - 0.75**0.5, -1 + 0.75**0.5]),
    ],
)
def test_eigenvalues_of_the_dirac_gan(objective, expected):
    """Mescheder et al. (2018): +-i/2, +-i without the sigmoid, -g/2 +- sqrt(g^2/4 - 1/4) with R1."""
    found, values = eigenvalues(objective)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    np.testing.assert_allclose(found["field/largest_real_part"], np.max(np.real(expected)), atol=1e-6)
    rotation = np.max(np.abs(np.imag(expected)) / np.abs(expected))
    np.testing.assert_allclose(found["field/rotation"], rotation, atol=1e-6)


def test_the_jacobian_is_that_of_the_field():
    """v = (theta, -psi) for the players critic, generator of the Wasserstein Dirac-GAN."""
    game = dirac_game(wgan(PRIOR), lr=0.1, schedule=simultaneous())
    state = dirac_train_state(jnp.array(0.3), jnp.array(-2.0))
    found = diagnostics.field_jacobian(helpers.context(game, state.players, ORIGIN))
    np.testing.assert_allclose(found, [[0, 1], [-1, 0]], atol=1e-7)


def test_a_game_too_large_for_its_jacobian_is_refused():
    game = helpers.game(
        gan(PRIOR),
        networks_={"critic": helpers.mlp(2, {"score": None}, hidden=400), "generator": helpers.generator()},
    )
    with pytest.raises(ValueError, match=r"up to 1000 parameters, this one has 16\d\d"):
        jax.eval_shape(lambda: diagnostics.field_jacobian(helpers.context(game)))


@pytest.mark.full
def test_interests_are_opposite_in_a_zero_sum_game_and_not_in_another():
    """The minimax generator's loss is minus what of the critic's depends on it."""
    game = helpers.game(gan(PRIOR))
    state = jax.jit(lambda key: helpers.init_state(game, key))(jax.random.key(7))
    found = probed(diagnostics.opposition, game, state, state, helpers.batch())
    np.testing.assert_allclose(found["generator/cosine_to_critic"], -1.0, atol=1e-5)
    game = helpers.game(non_saturating(PRIOR))
    found = probed(diagnostics.opposition, game, state, state, helpers.batch())
    assert -1 < found["generator/cosine_to_critic"] < -0.5, "other weights of the same examples' slopes"


def bowl(center=0.0):
    """One player, loss |x - center|^2 / 2."""

    def loss(players, batch):
        return jnp.sum((players["generator"].params - center) ** 2) / 2

    return Game(
        players={"generator": Player(helpers.scalar_network(None), optax.sgd(0.1))},
        objective=helpers.plain_objective({"generator": loss}),
        schedule=(turn("generator"),),
    )


def test_the_path_angle_jumps_at_a_point_that_attracts():
    begin, end = ({"generator": PlayerState(jnp.array(x), (), (), {})} for x in ([3.0, 4.0], [0.0, 0.0]))
    angle, norm = diagnostics.path_angles(
        helpers.context(bowl(), end, ORIGIN), begin, positions=(0.0, 0.5, 0.9, 1.0, 1.2)
    )
    np.testing.assert_allclose(angle, [-1, -1, -1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(norm, [5, 2.5, 0.5, 0, 1], atol=1e-6)


def test_the_path_angle_is_a_right_one_where_players_circle():
    """v = (theta, -psi) is at right angles to the way to the equilibrium, everywhere on it."""
    game = dirac_game(wgan(PRIOR), lr=0.1, schedule=simultaneous())
    begin, end = (dirac_train_state(jnp.array(a), jnp.array(b)) for a, b in ((3.0, 4.0), (0.0, 0.0)))
    found = probed(diagnostics.path, game, begin, end, ORIGIN)
    np.testing.assert_allclose(found["field/path_angle"], np.zeros(11), atol=1e-6)
    expected = 5 * np.abs(1 - np.linspace(0.6, 1.1, 11))
    np.testing.assert_allclose(found["field/path_norm"], expected, atol=1e-5)


def test_distances_are_relative_to_where_the_players_were():
    def state(x, average):
        return TrainState(0, 0, None, {"generator": PlayerState(x, (), (), {})}, average)

    start = state(jnp.array([3.0, 4.0]), {})
    now = state(jnp.array([3.0, 5.0]), {"generator": (jnp.array([1.0, 5.0]), ())})
    found = diagnostics.distances(helpers.probe_context(bowl(), start, now, ORIGIN))
    np.testing.assert_allclose(found["generator/distance_to_start"], 1 / 5)
    np.testing.assert_allclose(found["generator/distance_to_average"], 2 / 26**0.5, rtol=1e-6)
