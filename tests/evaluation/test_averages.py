"""Moving averages beside the weights themselves: in pictures, in evaluations, and said where they are young."""

import functools
import re
import zlib

import jax
import numpy as np
import pytest

from gan_jax.evaluation import evaluate, sampling
from gan_jax.evaluation.averages import young_average
from gan_jax.objectives.wgan import wgan
from gan_jax.optim import ema_half_life
from gan_jax.pictures.grids import side_by_side
from tests import helpers
from tests.evaluation.test_evaluate import experiment, make_game, state_of
from tests.helpers import PRIOR


def game(ema):
    return helpers.game(wgan(PRIOR), ema={"generator": ema})


@pytest.mark.parametrize(
    ("ema", "step", "said"),
    [
        (
            0.999,
            90,
            r"'generator' is young: its decay at round 90 is 0\.9091 of 0\.999, .* last 11 rounds\. --w",
        ),
        # (1 + t) / (10 + t) is .9 from t = 80 on.
        (0.9, 80, r"its decay at round 80 is 0\.8989 of 0\.9"),
        (0.9, 82, ""),
        (0.999, 1, r"at round 1 is 0\.1 of 0\.999, so it averages the last round\. 10 %"),
        # The product of (1 + t) / (10 + t) over t = 0, 1 is .1 * .1818.
        (0.5, 2, r"2 % of it are still the initial weights"),
        # Without a warm-up: .99^100 is .366.
        (lambda step: 0.99, 100, r"37 % of it are still the initial weights"),
        (lambda step: 0.99, 500, ""),
        (ema_half_life(1000.0, 10), 1000, r"is young"),
        (ema_half_life(1000.0, 10), 2002, ""),
        (None, 5, ""),
        (0.9, 0, ""),
    ],
)
def test_an_average_is_young_while_it_is_warmed_up_or_holds_the_initial_weights(ema, step, said):
    found = young_average(game(ema), step)
    assert not found if not said else re.search(said, found), found


def picture_of(made, state):
    return side_by_side([made.picture(part) for part in sampling.picture_samples(made, state, "generator")])


def test_raw_and_averaged_samples_are_both_in_the_picture_while_they_differ():
    """A picture of 4 x 4 pixels, whose brightness is the samples' mean; the gap between the two is white."""
    draw = lambda x: np.full((4, 4, 1), np.clip(100 + 50 * x.mean(), 0, 254), np.uint8)  # noqa: E731
    made = experiment(picture=draw, picture_samples=5)
    state = state_of(made)
    picture = picture_of(made, state)
    assert picture.shape == (4, 16, 1)
    key = jax.random.fold_in(jax.random.key(made.seed), np.uint32(zlib.crc32(b"picture")))
    shown = functools.partial(sampling.sample, made.game, state, key, 5)
    np.testing.assert_array_equal(picture[:, :4], draw(shown(ema=True)))
    np.testing.assert_array_equal(picture[:, 12:], draw(shown(ema=False)))
    assert picture[0, 0] != picture[0, 12]
    assert np.all(picture[:, 4:12] == 255)
    player = state.players["generator"]
    equal = state._replace(ema={"generator": (player.params, player.model_state)})
    assert picture_of(made, equal).shape == (4, 4, 1)
    without = experiment(game=make_game(), picture=draw)
    assert picture_of(without, state_of(without)).shape == (4, 4, 1)


@pytest.mark.full
@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_only_the_weights_that_are_asked_for_are_evaluated(weights):
    made = experiment(evaluations={"mean": lambda x: {"mean": float(x.mean())}})
    state = state_of(made)
    (both, single) = (evaluate.evaluate(made, state, weights=kind)["samples"] for kind in (None, weights))
    assert single == {weights: both[weights]}
    assert both["ema"] != both["raw"]
