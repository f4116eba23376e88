"""Conditional generators are evaluated for the labels that the data have, and drawn for all of them in turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import digits
from experiments.batches import labels_by_share, labels_in_turn
from experiments.games import data_of, objective_of
from experiments.image_scores import conditional_fields
from gan_jax.data import from_arrays
from gan_jax.evaluation import sampling
from gan_jax.evaluation.evaluate import evaluate
from gan_jax.functional.priors import gaussian
from gan_jax.network import Network
from gan_jax.objectives import label_condition
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state
from tests import helpers
from tests.helpers import PRIOR


def experiment(**fields):
    """G(z, y) = (y, y): samples are the labels that they are asked for."""

    def apply(params, model_state, z, y, train, key):
        return jnp.stack([y, y], axis=1) * params, model_state

    generator = Network(init=lambda key: (jnp.ones(()), ()), apply=apply)
    critic = helpers.critic(helpers.X_DIM + helpers.CLASSES)
    game = helpers.game(
        non_saturating(PRIOR, condition=label_condition),
        networks_={"critic": critic, "generator": generator},
    )
    data = {"x": np.zeros((10, 2), np.float32), "y": np.arange(10) % 3}
    return Experiment(
        game=game,
        source=from_arrays(data, 4),
        seed=0,
        rounds=1,
        log_every=1,
        checkpoint_every=0,
        sample_every=0,
        picture=lambda samples: samples,
        picture_samples=6,
        evaluations={"mean": lambda samples: {"label": float(samples.mean())}},
        evaluation_samples=20,
        condition_batch=lambda n: {"y": labels_in_turn(3, n)},
        **fields,
    )


@pytest.mark.full
def test_evaluations_have_a_batch_of_their_own_and_pictures_theirs():
    made = experiment(evaluation_batch=lambda n: {"y": np.full(n, 2, np.int32)})
    state = init_state(made.game, jax.random.key(0))
    assert evaluate(made, state)["samples"]["raw"]["label"] == 2.0
    assert sampling.picture_samples(made, state, "generator")[0][:, 0].tolist() == [0, 1, 2, 0, 1, 2]


def test_without_one_evaluations_are_of_the_batch_of_pictures():
    made = experiment()
    # Of 20 labels 0, 1, 2, 0, ... seven are 0, seven 1 and six 2.
    found = evaluate(made, init_state(made.game, jax.random.key(0)))["samples"]["raw"]["label"]
    assert found == pytest.approx((7 + 12) / 20)


@pytest.mark.parametrize("n", [1, 7, 500, 5000])
def test_labels_have_the_shares_of_the_data(n):
    data = np.repeat([0, 1, 5], [900, 90, 10])
    drawn = labels_by_share(data, n)
    assert drawn.shape == (n,)
    times = np.array([np.sum(drawn == label) for label in (0, 1, 5)])
    assert np.all(np.abs(times - n * np.array([0.9, 0.09, 0.01])) < 1)
    np.testing.assert_array_equal(drawn, labels_by_share(data, n))
    if n > 100:
        assert not np.array_equal(drawn, labels_by_share(data, n, seed=1))
        assert not np.array_equal(drawn, np.sort(drawn))


@pytest.mark.parametrize("n", [50, 150])
def test_the_order_of_classes_decides_nothing_where_they_do_not_divide_the_samples(n):
    """100 classes of one size: the same ones, those of the lowest numbers, were asked for at every seed."""
    data = np.repeat(np.arange(100), 10)
    times = np.array([np.bincount(labels_by_share(data, n, seed=s), minlength=100) for s in range(200)])
    assert np.all(times.sum(axis=1) == n)
    assert set(times.ravel().tolist()) == {n // 100, n // 100 + 1}
    # A class is asked for once more in half of the draws: a standard deviation of .035 in 200.
    assert np.abs(times.mean(axis=0) - n / 100).max() < 5 * 0.035
    assert abs(times[:, :50].sum(axis=1).mean() - n / 2) < 1.25


def test_rare_classes_are_asked_for_in_a_small_draw():
    """By the largest remainders ten large classes, of .3 each, took all eight places from 500 of .01 each."""
    data = np.concatenate([np.repeat(np.arange(10), 230), np.arange(10, 510)])
    rare = [np.sum(labels_by_share(data, 28, seed=s) >= 10) for s in range(200)]
    assert np.mean(rare) == pytest.approx(28 * 500 / len(data), abs=0.4)


def test_a_perfect_generator_of_data_sorted_by_class_is_at_their_distance_from_themselves():
    """900 dark and 100 bright images; samples are real images of the class that is asked for."""
    draw = np.random.default_rng(0)
    y = np.repeat([0, 1], [900, 100]).astype(np.int32)
    levels = np.where(y, 180, 60)[:, None, None, None]
    x = np.clip(levels + draw.normal(0, 8, (1000, 4, 4, 1)), 0, 255).astype(np.uint8)
    arrays = {"x": x, "y": y}
    config = digits.get_config()
    config.update({"data": "own", "objective": "ac_gan", "latent": 4})
    data = data_of("own", arrays)
    fields = conditional_fields(config, arrays, data, objective_of(config, data, gaussian(4)))

    def perfect(labels):
        return np.stack([x[draw.choice(np.flatnonzero(y == label))] for label in labels])

    judge = fields["evaluations"]["scores"]
    labels = fields["evaluation_batch"](1000)["y"]
    assert np.bincount(labels).tolist() == [900, 100]
    by_share = judge(perfect(labels)).values["frechet"]
    in_turn = judge(perfect(fields["condition_batch"](1000)["y"])).values["frechet"]
    assert by_share < 0.02 * in_turn
    # And the samples are judged by the labels that they were drawn for.
    assert fields["evaluations"]["asked"](perfect(labels))["class_accuracy"] > 0.99


def test_the_labels_of_samples_are_those_that_the_generator_is_asked_for():
    made = experiment()
    labels = sampling.sample_labels(made.game, "generator", 7, made.condition_batch)
    state = init_state(made.game, jax.random.key(0))
    drawn = sampling.sample(made.game, state, jax.random.key(1), 7, condition_batch=made.condition_batch)
    np.testing.assert_array_equal(drawn[:, 0], labels)
    assert len(set(labels.tolist())) > 1
    unconditional = helpers.game(non_saturating(PRIOR))
    assert sampling.sample_labels(unconditional, "generator", 7, made.condition_batch) is None
    assert (
        sampling.sample_labels(made.game, "generator", 7, lambda n: {"y": np.zeros((n, 2), np.float32)})
        is None
    )
