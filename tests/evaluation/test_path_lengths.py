"""Path lengths of a state's generators."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gj
from gan_jax.cli import evaluating
from gan_jax.cli.errors import UsageError
from gan_jax.evaluation.path_lengths import path_length
from gan_jax.functional.priors import gaussian
from gan_jax.metrics import perceptual_path_length
from gan_jax.models.model import Model
from gan_jax.models.programs import programs_of, weight_names
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


def test_points_have_no_path_length_by_features_of_images():
    asked = types.SimpleNamespace(metrics="path_length", lpips=None, extractor=None, protocol=None)
    with pytest.raises(UsageError, match=r"of images \[H, W, C\]; these samples are \[2\]"):
        evaluating._distance(asked, "pixels", [(8, 8, 1), (2,)])
    distance = evaluating._distance(asked, "pixels", [(8, 8, 1)])
    assert distance(jnp.zeros((2, 8, 8, 1)), jnp.ones((2, 8, 8, 1))).tolist() == [1, 1]


def test_scores_are_kept_where_a_path_length_is_refused(capsys):
    """They have been computed before; asked for by itself it is an error."""
    narrow = Network(
        init=lambda key: (jnp.bfloat16(SCALE), ()),
        apply=lambda params, model_state, z, train, key: (
            (params * z.astype("bfloat16")[:, :, None, None]).astype("float32"),
            model_state,
        ),
    )
    narrowed, state = made(narrow)
    scored = {"samples": {"raw": {"frechet": 1.0}}}
    evaluating._add_path_lengths(scored, ["generator"], narrowed, state, squared, intervals=False)
    assert scored == {"samples": {"raw": {"frechet": 1.0}}}
    assert "Without a path length: path_length: " in capsys.readouterr().err
    with pytest.raises(ExperimentError, match="bfloat16 rounds away"):
        evaluating._add_path_lengths(
            {"samples": {"raw": {}}}, ["generator"], narrowed, state, squared, intervals=False
        )


def of_label(**fields):
    """Images `SCALE (y + 1) z`."""

    def apply(params, model_state, z, y, train, key):
        return params * (y[:, None, None, None] + 1.0) * z[:, :, None, None], model_state

    return Network(init=lambda key: (jnp.float32(SCALE), ()), apply=apply, **fields)


CONDITIONAL = non_saturating(PRIOR, condition=label_condition)


@pytest.mark.parametrize("evaluated", [False, True])
def test_both_ends_of_a_path_have_the_label_that_an_evaluation_asks_for(evaluated):
    """Twice the scale for the label 1: four times the length on the same path; 50 paths, not whole batches."""

    def ones(n):
        return {"y": np.arange(n, dtype=np.int32) % 2}

    def zeros(n):
        return {"y": np.zeros(n, np.int32)}

    plain = path_length(*made(of_label(), CONDITIONAL, condition_batch=zeros), squared, samples=50)
    fields = {"condition_batch": zeros, "evaluation_batch": ones} if evaluated else {"condition_batch": ones}
    found = path_length(*made(of_label(), CONDITIONAL, **fields), squared, samples=50)
    np.testing.assert_allclose(found.lengths[::2], plain.lengths[::2], rtol=1e-3)
    np.testing.assert_allclose(found.lengths[1::2], 4 * plain.lengths[1::2], rtol=0.05)


def of_run(given, **options):
    """The path length of the run's programs, which is what an export has."""
    made_, state = given
    player = state.players["generator"]
    variables = (player.params, player.model_state)
    weights = dict(zip(weight_names(variables), map(np.asarray, jax.tree.leaves(variables)), strict=True))
    model = Model(
        programs_of(made_), {"generator": weights}, player="generator", round=0, kind="raw", config={}, seed=3
    )
    return gj.path_length(model, squared, samples=40, **options)


@pytest.mark.full
def test_a_model_has_the_path_length_of_its_run():
    labels = {"condition_batch": lambda n: {"y": np.arange(n, dtype=np.int32) % 2}}
    halves = (
        lambda params, model_state, z, y, **_: (2 * (y[:, None] + 1.0) * z, model_state),
        lambda params, model_state, w, train, key: (params * w[:, :, None, None], model_state),
    )
    for network in (of_label(), of_label(halves=halves)):
        given = made(network, CONDITIONAL, **labels)
        of_state = path_length(*given, squared, samples=40)
        np.testing.assert_allclose(of_run(given).lengths, of_state.lengths, rtol=0.02)
    single = of_run(given, labels=1).lengths
    np.testing.assert_allclose(single[1::2], of_run(given).lengths[1::2], rtol=0.02)
    np.testing.assert_allclose(single[::2], 4 * of_run(given).lengths[::2], rtol=0.05)


def test_what_has_no_path_is_refused():
    translator = non_saturating(None, condition=label_condition)
    given = made(of_label(), translator, condition_batch=lambda n: {"y": np.zeros(n, np.int32)})
    with pytest.raises(ExperimentError, match="is of generators of a latent, and generator has none"):
        path_length(*given, squared)
    with pytest.raises(ValueError, match="Conditions have a row for each of 4 paths, got 3"):
        perceptual_path_length(
            lambda z, y: z, None, PRIOR, squared, key=jax.random.key(0), conditions=[np.zeros(3)], samples=4
        )
    with pytest.raises(ValueError, match="path_length takes a Model"):
        gj.path_length("runs/ring", squared)
