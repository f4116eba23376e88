"""What makes no sense is an error that names the function, the option and its range, before anything compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional.priors import gaussian
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import (
    adaptive_augmentation,
    add_terms,
    classification,
    consistency,
    dragan_penalty,
    feature_matching,
    gradient_penalty,
    historical_averaging,
    label_condition,
    label_smoothing,
    latent_consistency,
    latent_diversity,
    lecam,
    max_penalty,
    mixture_penalty,
    r1,
    r2,
    reconstruction,
    term,
    top_k,
)
from gan_jax.objectives._catalogue import factory
from gan_jax.objectives.gan import gan
from gan_jax.objectives.pix2pix import pix2pix
from gan_jax.objectives.wgan_gp import wgan_gp
from tests import helpers
from tests.helpers import PRIOR

NAN, INF = float("nan"), float("inf")
FACTORIES = [
    ("wgan_gp", "penalty", (-1.0, NAN, INF, "much")),
    ("wgan_gp", "target", (-1.0, NAN)),
    ("dragan", "penalty", (-1.0,)),
    ("dragan", "target", (NAN,)),
    ("dragan", "scale", (-0.5,)),
    ("mmd_gan", "penalty", (-1.0, NAN)),
    ("cramer", "penalty", (-1.0,)),
    ("zero_centred", "gamma_real", (-1.0, NAN)),
    ("zero_centred", "gamma_fake", (INF,)),
    ("began", "gamma", (-0.5,)),
    ("began", "rate", (NAN,)),
    ("ebgan", "margin", (0.0, NAN)),
    ("ebgan", "pull_away", (-0.1,)),
    ("cat_gan", "weight", (-1.0,)),
    ("ac_gan", "weight", (-1.0, NAN)),
    ("semi_supervised", "weight", (-1.0,)),
    ("semi_supervised", "smoothing", (1.0, -0.1)),
    ("least_squares", "b", (NAN, INF)),
]
TERMS = [
    (gradient_penalty, "weight", (-1.0, NAN)),
    (gradient_penalty, "target", (-1.0,)),
    (mixture_penalty, "t", (1.5, NAN)),
    (dragan_penalty, "scale", (-1.0,)),
    (max_penalty, "weight", (-1.0,)),
    (r1, "gamma", (-1.0, NAN)),
    (r2, "gamma", (-1.0,)),
    (label_smoothing, "epsilon", (1.0, -0.1)),
    (feature_matching, "weight", (-1.0,)),
    (reconstruction, "weight", (-1.0,)),
    (classification, "weight", (NAN,)),
    (latent_consistency, "sigma", (0.0,)),
    (latent_diversity, "weight", (-1.0,)),
    (lecam, "decay", (1.0, -0.1)),
    (historical_averaging, "weight", (-1.0,)),
    (top_k, "fraction", (0.0, 1.5, NAN)),
    (adaptive_augmentation, "target", (1.0, -1.0)),
    (adaptive_augmentation, "images", (0.0, INF)),
]
NUMBERS = [(factory(name), name, option, values, (PRIOR,)) for name, option, values in FACTORIES]
NUMBERS += [(make, make.__name__, option, values, ()) for make, option, values in TERMS]


@pytest.mark.parametrize(
    ("make", "function", "option", "values", "arguments"),
    NUMBERS,
    ids=[f"{function}-{option}" for _, function, option, _, _ in NUMBERS],
)
def test_a_number_that_makes_no_sense_is_named(make, function, option, values, arguments):
    for value in values:
        with pytest.raises(
            ValueError, match=rf"^{function}\({option}={value!r}\): {option} is a finite number"
        ):
            make(*arguments, **{option: value})


@pytest.mark.parametrize("make", [factory("cycle_gan"), factory("pix2pix")])
def test_weights_of_translations_are_named(make):
    option = "cycle" if make.__name__ == "cycle_gan" else "l1"
    with pytest.raises(ValueError, match=rf"{make.__name__}\({option}=-1.0\)"):
        make(**{option: -1.0})


def test_weights_may_be_schedules_and_traced_numbers():
    gradient_penalty(lambda step: -1.0)
    jax.eval_shape(lambda weight: gradient_penalty(weight) and weight, jnp.ones(()))
    assert consistency(lambda key, x: x, np.float32(2.0)).weight == 2.0


@pytest.mark.parametrize("every", [0, -3, 1.5, True])
def test_rounds_between_two_penalties_are_a_whole_number(every):
    with pytest.raises(ValueError, match=r"r1\(every=.*\): every is a whole number, 1 or more"):
        r1(every=every)


def test_the_interval_of_a_step_of_its_own_is_that_of_its_turn():
    """Both together would multiply the term by the interval twice."""
    with pytest.raises(
        ValueError, match=r"r1\(own_step=True, every=16\).*regularization_turn\('critic', 'r1', every=16\)"
    ):
        r1(every=16, own_step=True)
    assert r1(own_step=True).every == 1


def test_a_terms_weight_is_finite():
    """It may be negative: a term can be a reward."""
    assert term("reward", player="critic", weight=-1.0)(lambda c: 0.0).weight == -1.0
    with pytest.raises(ValueError, match=r"reward\(weight=nan\): weight is a finite number\."):
        term("reward", player="critic", weight=NAN)(lambda c: 0.0)


@pytest.mark.parametrize(
    ("objective", "batch", "message"),
    [
        (gan(PRIOR), {"y": jnp.zeros(4)}, r"real examples under 'x'; this batch has \['y'\]"),
        (gan(PRIOR), {"x": jnp.zeros((0, 2))}, r"one example or more.*'x' have shape \(0, 2\)"),
        (gan(PRIOR), jnp.zeros((4, 2)), r"A batch is a mapping, \{'x'.*got"),
        (
            gan(PRIOR, condition=label_condition),
            {"x": jnp.zeros((4, 2))},
            r"labels under 'y'; this batch has \['x'\]",
        ),
        (pix2pix(), {"x": jnp.zeros((4, 2))}, r"images to translate under 'condition'"),
        (add_terms(gan(PRIOR), reconstruction(target="clean")), {"x": jnp.zeros((4, 2))}, r"entry 'clean'"),
    ],
)
def test_a_batch_that_is_no_batch_is_named(objective, batch, message):
    game = helpers.game(objective)
    with pytest.raises(ValueError, match=message):
        helpers.loss("generator", game, batch_=batch)


def test_a_latent_of_another_size_is_named_when_a_round_is_traced():
    with pytest.raises(
        ValueError, match=r"draws a latent z \[B, 5\], but 'generator' was made for \[B, 3\]: give the prior"
    ):
        helpers.loss("critic", helpers.game(wgan_gp(gaussian(5))))


def test_data_of_another_shape_than_the_critics_are_named():
    with pytest.raises(
        ValueError, match=r"'critic' was made for \[B, 2\] and is given real examples \[B, 3\]"
    ):
        helpers.loss("critic", helpers.game(gan(PRIOR)), batch_={"x": jnp.zeros((4, 3))})


@pytest.mark.parametrize("objective", [gan, wgan_gp])
@pytest.mark.parametrize("player", ["critic", "generator"])
def test_data_of_another_shape_than_the_samples_are_named(objective, player):
    """Images with their channels in front have as many numbers, and a critic that flattens them judges both."""
    networks = {
        "critic": from_linen(MLPCritic(widths=(4,)), jnp.zeros((1, 2, 5, 3))),
        "generator": from_linen(MLPGenerator(output_shape=(2, 5, 3), widths=(4,)), jnp.zeros((1, 3))),
    }
    game = helpers.game(objective(PRIOR), networks_=networks)
    helpers.loss(player, game, batch_={"x": jnp.zeros((4, 2, 5, 3))})
    with pytest.raises(
        ValueError, match=r"examples are \[B, 3, 2, 5\] and the generator's samples \[B, 2, 5, 3\]"
    ):
        helpers.loss(player, game, batch_={"x": jnp.zeros((4, 3, 2, 5))})
