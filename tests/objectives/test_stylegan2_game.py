"""StyleGAN2's game: its losses and steps, and a small one played with ADA, on many devices, in bf16 and resumed."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import games, images
from experiments.games import schedule_of
from gan_jax.data import from_arrays
from gan_jax.distributed import jit
from gan_jax.distributed.layout import make_layout
from gan_jax.functional.ada import ada
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.networks import StyleGAN2Critic, StyleGAN2Generator, from_linen
from gan_jax.objectives import (
    adaptive_augmentation,
    add_terms,
    label_condition,
    path_length,
    r1,
    with_transforms,
)
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.stylegan2 import INTERVALS, gamma_for, schedule, stylegan2
from gan_jax.optim import lazy_adam
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.schedule import regularization_turn, turn
from gan_jax.training.rollout import stack_rounds
from gan_jax.training.step import init_state
from tests import helpers, programs
from tests.helpers import PRIOR

LATENT, BATCH = 4, 16
DATA = {
    "x": np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8),
    "y": np.arange(64, dtype=np.int32) % 3,
}


def test_the_losses_are_those_of_the_log_game_and_the_terms_have_steps_of_their_own():
    game = helpers.game(stylegan2(PRIOR), schedule=schedule(stylegan2(PRIOR)))
    plain = helpers.game(non_saturating(PRIOR))
    for player in ("critic", "generator"):
        assert helpers.loss(player, game)[0] == helpers.loss(player, plain)[0]
    assert game.schedule == (
        turn("critic"),
        regularization_turn("critic", "r1", every=16),
        turn("generator"),
        regularization_turn("generator", "path_length", every=4),
    )
    assert schedule_of(game.objective, 1, INTERVALS) == game.schedule


def test_a_weight_of_0_leaves_a_term_and_its_step_out():
    assert schedule(stylegan2(PRIOR, gamma=0.0, path=0.0)) == (turn("critic"), turn("generator"))


def test_the_terms_own_losses_are_the_formulas():
    """gamma / 2 E ||grad D||^2, and the path length with its weight of 2."""
    objective = stylegan2(PRIOR, gamma=3.0)
    joined = add_terms(non_saturating(PRIOR), r1(3.0), path_length(2.0))
    game, reference = helpers.game(objective, schedule=schedule(objective)), helpers.game(joined)
    for player, term, weight in (("critic", "r1", 3.0), ("generator", "path_length", 2.0)):
        stepped = objective.players[player].step_terms[term](helpers.context(game))
        _, expected = helpers.loss(player, reference)
        np.testing.assert_allclose(stepped.value, weight * expected.metrics[term], rtol=1e-5)


def test_the_weight_of_r1_by_the_number_of_pixels():
    assert gamma_for((28, 32, 1), 64) == pytest.approx(0.0002 * 28 * 32 / 64)


def small_game(dtype=None, style=8):
    """8 x 8 images, conditional, with ADA's controller, small moving averages and Adam."""
    options = {"width": 4, "most": 8, "layers": 2, "num_classes": 3, "dtype": dtype}
    x, y, z = jnp.zeros((4, 8, 8, 1)), jnp.zeros(4, jnp.int32), jnp.zeros((4, LATENT))
    generator = StyleGAN2Generator(size=8, channels=1, style=style, **options)
    objective = stylegan2(gaussian(LATENT), condition=label_condition)
    objective = with_transforms(add_terms(objective, adaptive_augmentation(images=200.0)), ada("bc"))
    return Game(
        players={
            "critic": Player(from_linen(StyleGAN2Critic(**options), x, y), lazy_adam(1e-3, every=16)),
            "generator": Player(from_linen(generator, z, y), lazy_adam(1e-3, every=4), ema=0.9),
        },
        objective=objective,
        schedule=schedule(objective),
    )


@functools.cache
def layout_and_run(parallelism, devices, **options):
    game = small_game(**options)
    source = from_arrays(DATA, batch_size=BATCH, seed=0)
    layout = make_layout(parallelism, jax.devices()[:devices])
    return game, source, layout, layout.compile(game, source)


@pytest.fixture(autouse=True)
def _compiled_fast(monkeypatch):
    monkeypatch.setattr(jit, "compiler_options", lambda *_: programs.UNOPTIMISED)


def play(parallelism, devices, rounds, state=None, **options):
    game, source, layout, run = layout_and_run(parallelism, devices, **options)
    if state is None:
        state = layout.begin(lambda key: init_state(game, key), jax.random.key(0))
    host_batches = stack_rounds(source, int(state.cursor), 2, rounds, 8)
    return run(state, layout.place(source.device_data), host_batches, rounds)


@pytest.mark.full
def test_it_is_resumed_bit_for_bit_with_its_averages_and_the_controller(tmp_path):
    """Six rounds at once, and five saved, restored and continued by one, between two steps of the controller."""
    straight, _ = play("jit", 1, 6)
    state, _ = play("jit", 1, 5)
    chex.assert_tree_all_finite((straight.players, straight.ema))
    controller = state.players["critic"].objective_state["ada"]
    assert controller["turns"] == 1
    assert state.players["generator"].objective_state["path_length"] > 0
    average = state.players["generator"].model_state["w_average"]["w"]
    np.testing.assert_array_equal(average, state.ema["generator"][1]["w_average"]["w"])
    assert np.abs(average).max() > 0
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state, blocking=True)
        game, _, layout, _ = layout_and_run("jit", 1)
        target = jax.eval_shape(lambda key: init_state(game, key), jax.random.key(0))
        restored = checkpoints.restore(target, shardings=layout.shardings(target)).state
    continued, _ = play("jit", 1, 1, restored)
    chex.assert_trees_all_equal(
        jax.device_get((continued.players, continued.ema)), jax.device_get((straight.players, straight.ema))
    )


@pytest.mark.slow
def test_eight_devices_play_as_one_does():
    single, single_metrics = play("jit", 1, 2)
    eight, metrics = play("jit", 8, 2)
    chex.assert_trees_all_close(
        jax.device_get([p.params for p in eight.players.values()]),
        jax.device_get([p.params for p in single.players.values()]),
        atol=2e-4,
    )
    chex.assert_trees_all_close(jax.device_get(metrics), jax.device_get(single_metrics), rtol=2e-2, atol=2e-3)


@pytest.mark.slow
def test_sharded_parameters_play_as_replicated_ones():
    single, _ = play("jit", 1, 2, style=128)
    sharded, _ = play("data:2,fsdp:4", 8, 2, style=128)
    large = [x for x in jax.tree.leaves(sharded.players) if x.size == 128 * 128]
    assert large
    assert {shard.data.size for x in large for shard in x.addressable_shards} == {128 * 128 // 4}
    chex.assert_trees_all_close(
        jax.device_get([p.params for p in sharded.players.values()]),
        jax.device_get([p.params for p in single.players.values()]),
        atol=5e-4,
    )


@pytest.mark.slow
def test_in_bfloat16_a_round_is_finite_and_parameters_stay_float32():
    state, metrics = play("jit", 1, 2, dtype=jnp.bfloat16)
    chex.assert_tree_all_finite((state.players, metrics))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.players["critic"].params)} == {jnp.dtype("float32")}


def test_the_experiment_takes_the_papers_optimisers_and_gamma():
    config = images.get_config()
    config.update({"data": "digits", "objective": "stylegan2", "network": "stylegan2", "width": 4})
    config.update({"latent": 4, "batch_size": 16, "augment": "bgc", "adaptive": True})
    experiment = images.build(config)
    game = experiment.game
    assert [played.every for played in game.schedule] == [1, 16, 1, 4]
    assert [transform.name for transform in game.objective.transforms] == ["ada"]
    assert game.players["critic"].network.couples_batch
    for player, every in (("critic", 16), ("generator", 4)):
        c = every / (every + 1)
        params = jnp.ones(())
        optimizer = game.players[player].optimizer
        updates, _ = optimizer.update(jnp.array(2.0), optimizer.init(params), params)
        np.testing.assert_allclose(updates, -0.002 * c, rtol=1e-4)
    recipe = games.RECIPES["stylegan2"]
    assert recipe.weights["gamma"]((8, 8, 1), 16) == pytest.approx(0.0002 * 64 / 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": 8}, "attention=8"),
        ({"critic_norm": "batch"}, "critic_norm=batch"),
        ({"augment": "gb"}, "initials of its categories in order"),
    ],
)
def test_options_that_the_networks_do_not_have_are_refused(options, message):
    config = images.get_config()
    config.update({"data": "digits", "network": "stylegan2", "width": 4, "latent": 4, **options})
    with pytest.raises(ValueError, match=message):
        images.build(config)
