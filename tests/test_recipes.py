"""Learning rates and moving averages by round, as an experiment's configuration asks for them."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import ring
from gan_jax.optim import ema_half_life, learning_rate_schedule
from gan_jax.training.experiment import ExperimentError


def built(**fields):
    config = ring.get_config()
    config.update({"batch_size": 100, "latent": 4, "learning_rate": 0.01, **fields})
    return ring.build(config)


def steps(player, turns):
    """The sizes of Adam's steps at a constant gradient: its learning rate, to within eps."""
    optimizer, params = player.optimizer, jnp.zeros(())
    state, sizes = optimizer.init(params), []
    for _ in range(turns):
        update, state = optimizer.update(jnp.ones(()), state, params)
        sizes.append(-float(update))
    return np.array(sizes)


def test_a_player_of_several_turns_decays_by_the_round():
    experiment = built(objective="wgan_gp", decay="linear", decay_rounds=10)
    critic, generator = (experiment.game.players[name] for name in ("critic", "generator"))
    np.testing.assert_allclose(steps(critic, 11), [0.01] * 5 + [0.009] * 5 + [0.008], rtol=1e-4)
    np.testing.assert_allclose(steps(generator, 3), [0.01, 0.009, 0.008], rtol=1e-4)
    logged = [float(experiment.recipe["learning_rate"](t)) for t in (0, 5, 20)]
    np.testing.assert_allclose(logged, [0.01, 0.005, 0.0], atol=1e-9)


def test_a_warm_up_comes_before_a_constant_rate():
    generator = built(warmup=3).game.players["generator"]
    np.testing.assert_allclose(steps(generator, 5), [0.0025, 0.005, 0.0075, 0.01, 0.01], rtol=1e-4)


def test_a_constant_rate_is_a_number_and_is_logged_as_one():
    experiment = built()
    assert experiment.recipe["learning_rate"](7) == 0.01
    np.testing.assert_allclose(steps(experiment.game.players["critic"], 3), 0.01, rtol=1e-4)


def test_critics_may_learn_at_a_rate_of_their_own():
    """Adam's steps are the rate; both rates decay by the round, and both are logged."""
    experiment = built(objective="hinge", critic_learning_rate=0.04, decay="linear", decay_rounds=4)
    critic, generator = (experiment.game.players[name] for name in ("critic", "generator"))
    np.testing.assert_allclose(steps(critic, 3), [0.04, 0.03, 0.02], rtol=1e-4)
    np.testing.assert_allclose(steps(generator, 3), [0.01, 0.0075, 0.005], rtol=1e-4)
    logged = {name: float(rate(2)) for name, rate in experiment.recipe.items()}
    assert logged == pytest.approx({"learning_rate": 0.005, "critic_learning_rate": 0.02})
    assert set(built().recipe) == {"learning_rate"}


def test_a_moving_average_may_be_given_in_images():
    decay = built(ema_images=1000.0).game.players["generator"].ema
    assert float(decay(jnp.array(1000))) == pytest.approx(0.5 ** (100 / 1000))
    assert float(decay(jnp.array(100))) == pytest.approx(0.5 ** (100 / 500))  # 5 % of 10,000 images
    plain = built(ema_images=1000.0, ema_ramp=0.0).game.players["generator"].ema
    assert float(plain(jnp.array(0))) == pytest.approx(
        float(ema_half_life(1000.0, 100, ramp=None)(jnp.array(0)))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": "steps"}, "constant, linear, cosine, got 'steps'"),
        ({"decay": "cosine"}, "more than 0; got rounds=0"),
        ({"decay": "linear", "rounds": 5, "warmup": 5}, "more than 5"),
        ({"warmup": -1}, "warmup=-1"),
    ],
)
def test_schedules_that_are_none_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        learning_rate_schedule(1.0, **options)


def test_an_objective_with_its_own_schedules_takes_no_other():
    from experiments import images

    config = images.get_config()
    config.update(
        {"data": "digits", "objective": "r3gan", "network": "dcgan", "decay": "cosine", "decay_rounds": 9}
    )
    with pytest.raises(ExperimentError, match="its own schedules"):
        images.build(config)
