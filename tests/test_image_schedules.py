"""Schedules by images seen: R3GAN's numbers, and an optimiser and an average that follow them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.functional.augment import diff_augment
from gan_jax.image_schedules import SCHEDULES, ImageSchedules, cosine_ramp
from gan_jax.networks.r3gan import PRESETS
from gan_jax.objectives.r3gan import r3gan
from gan_jax.training.step import ema_decay, init_state, make_train_step
from tests import helpers
from tests.helpers import PRIOR

# gamma, half-life in millions, augmentation and batch of the paper's data sets, after the ramp.
PAPER = {
    "cifar10": (0.005, 5, 0.55, 512),
    "ffhq64": (0.2, 0.5, 0.3, 256),
    "ffhq256": (15, 0.5, 0.3, 256),
    "imagenet32": (0.05, 50, 0.5, 4096),
    "imagenet64": (0.1, 50, 0.4, 4096),
}
SHORT = ImageSchedules(batch_size=8, images=80, gamma=(2.0, 0.2), half_life=16, augment=0.5)


def test_the_papers_numbers_after_the_ramp():
    assert set(SCHEDULES) == set(PRESETS) == set(PAPER)
    for name, (gamma, millions, augment, batch) in PAPER.items():
        schedules = SCHEDULES[name]
        assert schedules.batch_size == batch
        end = (200e6 if "imagenet" in name else 20e6) / batch
        now = {at: jnp.array(round(at * end), jnp.int32) for at in (0, 0.5, 1, 3)}
        for after in (now[1], now[3]):
            np.testing.assert_allclose(schedules.weight()(after), gamma, rtol=1e-4)
            np.testing.assert_allclose(schedules.probability()(after), augment, rtol=1e-4)
            np.testing.assert_allclose(
                1 - schedules.average()(after), np.log(2) * batch / millions / 1e6, rtol=2e-3
            )
        np.testing.assert_allclose(schedules.weight()(now[0]), 10 * gamma, rtol=1e-6)
        np.testing.assert_allclose(schedules.weight()(now[0.5]), 5.5 * gamma, rtol=1e-3)
        assert (schedules.probability()(now[0]), schedules.average()(now[0])) == (0, 0)
        assert (schedules.learning_rate, schedules.b2) == ((2e-4, 5e-5), (0.9, 0.99))


def test_a_shorter_run_keeps_every_share():
    short = SCHEDULES["cifar10"].over(100_000)
    assert (short.images, short.half_life, short.gamma) == (100_000, 25_000, (0.05, 0.005))


def test_a_half_life_by_round_halves_the_average_in_its_images():
    decay = SHORT.average()
    np.testing.assert_allclose(decay(jnp.array(10)), 0.5 ** (8 / 16), rtol=1e-6)
    np.testing.assert_allclose(decay(jnp.array(5)), 0.5 ** (8 / 8), rtol=1e-6)


@pytest.mark.parametrize("turns", [1, 2])
def test_adam_follows_the_ramp(turns):
    """The n-th turn by hand: v' = b2 v + (1 - b2) g^2, corrected by 1 - b2^n, at the round's rate and beta2."""
    schedules = ImageSchedules(
        batch_size=1, images=4, gamma=(1, 1), half_life=1, learning_rate=(0.1, 0.02), b2=(0.5, 0.9)
    )
    optimizer = schedules.optimizer(turns)
    params, state, v = jnp.zeros(()), optimizer.init(jnp.zeros(())), 0.0
    for n, gradient in enumerate([1.0, 3.0, -2.0, 0.5, 1.5, -1.0], start=1):
        progress = min(((n - 1) // turns) / 4, 1)
        ramp = (1 - np.cos(np.pi * progress)) / 2
        rate, b2 = 0.1 - 0.08 * ramp, 0.5 + 0.4 * ramp
        v = b2 * v + (1 - b2) * gradient**2
        update, state = optimizer.update(jnp.array(gradient), state, params)
        np.testing.assert_allclose(update, -rate * gradient / np.sqrt(v / (1 - b2**n)), rtol=1e-5)
        params = optax.apply_updates(params, update)


@pytest.mark.full
def test_augmentation_follows_its_probability():
    """Half of the images are made brighter or darker at the ramp's end, none at first."""
    augment = diff_augment("color", SHORT.probability())

    def share(step):
        (x,) = augment.apply((jnp.zeros((4000, 1, 1, 1)),), jax.random.key(0), jnp.array(step), {})
        return float(jnp.mean(x != 0))

    assert share(0) == 0
    assert share(10) == pytest.approx(0.5, abs=0.03)


@pytest.mark.full
def test_a_game_averages_by_its_half_life():
    """With a half-life of 0 the average is the parameters; a scheduled optimiser's state goes through the step."""
    game = helpers.game(
        r3gan(PRIOR, gamma=SHORT.weight()),
        optimizer=lambda lr: SHORT.optimizer(),
        ema={"generator": SHORT.average()},
    )
    state, metrics = jax.jit(make_train_step(game))(
        init_state(game, jax.random.key(0)), helpers.batch(shape=(2,))
    )
    assert np.isfinite(metrics["critic/loss"])
    moved = state.players["generator"].params
    jax.tree.map(np.testing.assert_array_equal, state.ema["generator"][0], moved)
    assert float(ema_decay(game.players["generator"], jnp.array(100))) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cosine_ramp(1.0, 0.0, images=0, batch_size=1), r"cosine_ramp\(images=0\)"),
        (lambda: cosine_ramp(float("nan"), 0.0, images=1, batch_size=1), r"cosine_ramp\(start=nan\)"),
        (lambda: SHORT.over(-1), r"over\(images=-1\)"),
        (lambda: SHORT.optimizer(turns=0), "turns is a whole number"),
        (functools.partial(ImageSchedules, batch_size=0, gamma=(1, 1), half_life=1), "batch_size"),
        (functools.partial(ImageSchedules, batch_size=1, gamma=(1, -1), half_life=1), "gamma=-1"),
        (functools.partial(ImageSchedules, batch_size=1, gamma=(1, 1), half_life=1, b2=(0.9, 1.0)), "b2=1.0"),
        (
            functools.partial(ImageSchedules, batch_size=1, gamma=(1, 1), half_life=1, augment=1.5),
            "augment=1.5",
        ),
    ],
)
def test_what_makes_no_sense_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
