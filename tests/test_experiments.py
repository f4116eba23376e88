"""The experiments: every objective plays, options are applied or refused, and what is said of samples is so."""

import functools
import math
import shutil
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import digits, games, image_recipe, images, ring, translation
from experiments.batches import hold_out
from experiments.configuration import base_config
from experiments.games import RECIPES, Struct
from experiments.image_scores import asked_for, class_shares, extractor_of
from gan_jax.cli.building import build_seeds
from gan_jax.data import Dataset, load
from gan_jax.data.derive import split_off
from gan_jax.evaluation.batches import get_batch, iterate_host_batches
from gan_jax.evaluation.evaluate import evaluate, losses_and_scores
from gan_jax.evaluation.probing import probe
from gan_jax.evaluation.sampling import generators_of, sample, sample_shape
from gan_jax.metrics.classifier import classifier_for
from gan_jax.objectives import _catalogue
from gan_jax.objectives.wgan import CLIP
from gan_jax.pictures.grids import CAPTION
from gan_jax.runs import loop
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.drawing import Draw
from gan_jax.runs.part import Played
from gan_jax.runs.provenance import examples_fingerprint
from gan_jax.runs.workdir import Workdir
from gan_jax.schedule import alternating, fresh_turns, turn
from gan_jax.training.experiment import ExperimentError
from gan_jax.training.step import init_state, make_train_step
from tests.programs import UNOPTIMISED
from tests.tiers import full_except

TINY = {"data": "digits", "width": 4, "latent": 4, "batch_size": 16}
TINY_RING = {"latent": 4, "batch_size": 16}
TINY_PAIRS = {"data": "edges:digits", "width": 4, "batch_size": 16}
EXPERIMENTS = {
    "digits": (digits, TINY),
    "images": (images, {**TINY, "network": "resnet", "objective": "non_saturating"}),
    "ring": (ring, TINY_RING),
    "translation": (translation, TINY_PAIRS),
}
TRANSLATORS = {"pix2pix", "cycle_gan"}
MAKERS = sorted(set(_catalogue.OBJECTIVES) - TRANSLATORS)
CASES = [(name, objective) for name in ("ring", "digits", "images") for objective in MAKERS]
CASES += [("translation", objective) for objective in sorted(TRANSLATORS)]


PLAIN = {"bgan", "f_gan", "hinge", "least_squares", "non_saturating"}
"""Games that differ from `gan` in two formulas, and neither in players, heads, batches, turns nor state."""


def tier_of(name, objective):
    """Every structure is launched on the ring, and the one of two generators in translation; the rest is slow."""
    in_ci = (name == "ring" and objective not in PLAIN) or objective == "cycle_gan"
    return pytest.mark.full if in_ci else pytest.mark.slow


STRUCTURES = ["began", "info_gan", "mmd_gan", "semi_supervised", "vral"]
"""Objectives whose games differ in their players, heads, batches or turns."""


def config_of(module, **fields):
    config = module.get_config()
    config.update(fields)
    return config


def built(name, **fields):
    module, tiny = EXPERIMENTS[name]
    return module.build(config_of(module, **{**tiny, **fields}))


def batches_of(source, number, turns):
    """The batches of a round, stacked if it takes several."""
    batches = jax.vmap(functools.partial(source.get_batch, source.device_data))(
        source.host_batches(number * turns, turns)
    )
    return batches if turns > 1 else jax.tree.map(lambda x: x[0], batches)


def traced(experiment):
    """The state after one round, with its metrics."""
    game = experiment.game
    batches = batches_of(experiment.source, 0, fresh_turns(game.schedule))
    return make_train_step(game)(init_state(game, jax.random.key(0)), batches)


def played(experiment, rounds=2):
    """The initial state and that after some rounds, with the last round's metrics."""
    game, source = experiment.game, experiment.source
    turns = fresh_turns(game.schedule)
    state = initial = init_state(game, jax.random.key(0))
    step = jax.jit(make_train_step(game), compiler_options=UNOPTIMISED)
    for number in range(rounds):
        state, metrics = step(state, batches_of(source, number, turns))
    return initial, state, jax.device_get(metrics)


def samples_of(experiment, state, n=5):
    """Samples of every generator, by name, from its parameters rather than their average."""
    return {
        player: sample(
            experiment.game,
            state,
            jax.random.key(1),
            n,
            player=player,
            ema=False,
            condition_batch=experiment.condition_batch,
        )
        for player in generators_of(experiment.game)
    }


def refusal(name, **fields):
    """The one line with which an experiment is refused."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the tests match the message
        built(name, **fields)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def terms_of(experiment):
    return {(record.player, record.name) for record in experiment.game.objective.terms}


# ---------------------------------------------------------------------------------------------------------
# Every objective


def test_every_objective_of_the_library_has_a_recipe():
    assert set(_catalogue.OBJECTIVES) <= set(RECIPES)


@pytest.mark.parametrize("objective", MAKERS)
def test_every_objective_of_latents_has_a_game_on_the_ring(objective):
    """A round of it can be traced, and every player has a loss in it."""
    experiment = built("ring", objective=objective)
    state, metrics = jax.eval_shape(lambda: traced(experiment))
    assert {f"{player}/loss" for player in experiment.game.players} <= set(metrics)
    assert set(state.players) == set(experiment.game.players)


@pytest.mark.parametrize("objective", full_except([], STRUCTURES))
def test_games_of_every_structure_move_their_generator(objective):
    experiment = built("digits", objective=objective)
    initial, state, metrics = played(experiment)
    assert np.isfinite(jax.tree.leaves(metrics)).all()
    (before,), (after,) = (samples_of(experiment, at).values() for at in (initial, state))
    assert after.shape == (5, 8, 8, 1)
    assert np.isfinite(after).all()
    assert not np.array_equal(before, after)


@pytest.mark.parametrize(
    ("name", "objective"),
    [pytest.param(*case, marks=tier_of(*case), id="-".join(case)) for case in CASES],
)
def test_every_objective_is_launched_killed_resumed_and_sampled(name, objective, tmp_path):
    """To the same bits as without the kill; its samples are finite, and not those of the initial generators.

    A run that is killed before its second checkpoint is there leaves what a whole one does without it.
    """
    fields = {"log_every": 2, "checkpoint_every": 2, "sample_every": 0}
    whole = built(name, objective=objective, rounds=4, **fields)
    uninterrupted = loop.train(whole, Workdir(tmp_path / "whole"), log=lambda text: None)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", ignore=shutil.ignore_patterns("4"))
    with Checkpoints(Workdir(tmp_path / "cut").checkpoints) as checkpoints:
        assert checkpoints.steps() == [2]
    again = built(name, objective=objective, rounds=4, **fields)
    resumed = loop.train(again, Workdir(tmp_path / "cut"), log=lambda text: None)
    assert int(uninterrupted.step) == int(resumed.step) == 4
    chex.assert_trees_all_equal(
        jax.device_get((uninterrupted.players, uninterrupted.ema, uninterrupted.cursor)),
        jax.device_get((resumed.players, resumed.ema, resumed.cursor)),
    )
    with Checkpoints(Workdir(tmp_path / "cut").checkpoints) as checkpoints:
        assert checkpoints.steps()[-1] == 4
    before = samples_of(whole, init_state(whole.game, jax.random.key(whole.seed)))
    for player, drawn in samples_of(again, resumed).items():
        assert np.isfinite(drawn).all()
        assert not np.array_equal(drawn, before[player])


@pytest.mark.parametrize("objective", sorted(TRANSLATORS))
@pytest.mark.parametrize("name", ["digits", "images", "ring"])
def test_experiments_of_latents_send_translators_to_theirs(name, objective):
    assert refusal(name, objective=objective).startswith(
        f"objective={objective} translates images into images, as --config=experiments/translation.py does"
    )


def test_translation_sends_objectives_of_latents_to_theirs():
    message = refusal("translation", objective="hinge")
    assert "as --config=experiments/digits.py, images.py and ring.py do" in message
    assert message.endswith("choose cycle_gan or pix2pix.")


def test_vral_plays_its_meta_discriminators_before_its_critic_n_critic_times():
    game = built("ring", objective="vral", n_critic=3).game
    assert game.schedule == 3 * (turn("meta_real", "meta_fake"), turn("critic")) + (turn("generator"),)


def test_wasserstein_games_keep_their_papers_schedules_and_the_clipped_one_its_warm_up():
    wgan, wgan_gp = (built("ring", objective=name).game for name in ("wgan", "wgan_gp"))
    assert wgan.schedule == wgan_gp.schedule == alternating(5)
    assert [holds(0) for holds, _ in wgan.phases] == [True]
    assert wgan_gp.phases == ()
    ones = {"w": jnp.ones(3)}
    optimizer = wgan.players["critic"].optimizer
    updates, _ = optimizer.update(ones, optimizer.init(ones), ones)
    np.testing.assert_allclose(ones["w"] + updates["w"], CLIP, rtol=1e-6)


def test_semi_supervised_batches_have_as_many_labelled_examples_of_each_class_and_no_others():
    experiment = built("digits", objective="semi_supervised", labelled=100, batch_size=32)
    labelled = experiment.source.device_data["labelled"]
    assert np.bincount(labelled["y"]).tolist() == [10] * 10
    host_batch = jax.tree.map(lambda leaf: leaf[0], experiment.source.host_batches(0, 1))
    batch = experiment.source.get_batch(experiment.source.device_data, host_batch)
    assert set(batch) == {"x", "labelled"}
    assert batch["labelled"]["x"].shape == (32, 8, 8, 1)


@pytest.mark.full
def test_the_few_labelled_points_of_a_ring_lie_at_their_modes_and_fill_a_batch():
    experiment = built("ring", objective="cat_gan", labelled=8, modes=8, batch_size=20)
    labelled = experiment.source.device_data["labelled"]
    assert len({tuple(point) for point in labelled["x"].tolist()}) == 8
    angles = np.arctan2(labelled["x"][:, 1], labelled["x"][:, 0]) % (2 * np.pi)
    assert (np.round(angles / (np.pi / 4)).astype(int) % 8 == labelled["y"]).all()
    host_batch = jax.tree.map(lambda leaf: leaf[0], experiment.source.host_batches(3, 1))
    assert experiment.source.get_batch(experiment.source.device_data, host_batch)["labelled"]["y"].shape == (
        20,
    )


@pytest.mark.full
def test_an_autoencoder_codes_and_gives_back_what_its_parts_do():
    encoder = games.from_linen(
        games.MLPCritic(widths=(3,), heads={"code": 2}, score_from="code"), Struct((2, 4), jnp.float32)
    )
    decoder = ring.points(config_of(ring)).generator(Struct((2, 4), jnp.float32), Struct((2, 2), jnp.float32))
    network = games.autoencoder(encoder, decoder)
    params, state = network.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (5, 4))
    out, _ = network.apply(params, state, x, train=True, key=None)
    code = encoder.apply(params["encoder"], state["encoder"], x, train=True, key=None)[0]["code"]
    np.testing.assert_array_equal(out["code"], code)
    decoded, _ = decoder.apply(params["decoder"], state["decoder"], code, train=True, key=None)
    np.testing.assert_array_equal(out["out"], decoded)


# ---------------------------------------------------------------------------------------------------------
# Options


@pytest.mark.parametrize("module", [digits, images, ring, translation])
def test_every_configuration_has_the_common_fields(module):
    assert set(base_config()) <= set(module.get_config())


@pytest.mark.parametrize(
    ("objective", "critics"),
    [
        ("hinge", {"critic"}),
        ("relativistic", {"critic"}),
        ("f_gan_kl", {"critic"}),
        ("began", {"critic"}),
        ("vral", {"critic"}),
        ("semi_supervised", {"critic"}),
        ("wgan_gp", {"critic"}),
    ],
)
def test_r1_and_r2_are_of_every_critic_with_a_score(objective, critics):
    terms = terms_of(built("ring", objective=objective, r1=10.0, r2=0.5))
    assert {(critic, name) for critic in critics for name in ("r1", "r2")} <= terms


def test_r1_of_two_critics_is_on_both():
    experiment = built("translation", objective="cycle_gan", r1=0.1, norm="layer", data="edges:digits")
    assert terms_of(experiment) == {("critic_a", "r1"), ("critic_b", "r1")}


@pytest.mark.parametrize("objective", ["cat_gan", "cramer", "mmd_gan"])
def test_r1_is_refused_where_losses_are_of_features(objective):
    assert f"the losses of objective={objective} are of its features" in refusal(
        "ring", objective=objective, r1=10.0
    )
    built("ring", objective=objective, r1=0.0)


def test_digits_penalise_log_odds_by_default_and_nothing_that_has_a_penalty():
    def has_r1(objective, **fields):
        return ("critic", "r1") in terms_of(built("digits", objective=objective, **fields))

    assert has_r1("non_saturating")
    assert not has_r1("non_saturating", r1=0.0)
    assert not has_r1("dragan")
    assert not has_r1("hinge")
    assert not has_r1("wgan")


@pytest.mark.full
def test_zero_centred_takes_gamma_from_r1():
    def penalised(gamma):
        _, _, metrics = played(built("ring", objective="zero_centred", r1=gamma), rounds=1)
        return metrics["critic/loss"], metrics["critic/r1"]

    (total, penalty), (other, same) = penalised(3.0), penalised(1.0)
    assert penalty == pytest.approx(same, rel=1e-5)
    assert total - other == pytest.approx(2 * penalty, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("ring", {"r1": -2.0}, "r1 is 0 or more, or -1 for the default; got -2.0."),
        ("ring", {"learning_rate": math.nan}, "learning_rate is a finite number, got nan."),
        ("ring", {"learning_rate": math.inf}, "learning_rate is a finite number, got inf."),
        ("ring", {"rounds": 2**30}, "rounds=1073741824 are too many"),
        ("ring", {"unroll": -1}, "unroll is 0 or more, got -1."),
        ("ring", {"n_critic": -1}, "n_critic is 0 or more, got -1."),
        ("ring", {"objective": "wgann"}, "Unknown objective 'wgann' (did you mean 'wgan'?)"),
        (
            "ring",
            {"labelled": 80},
            "objective=non_saturating takes no labelled, which is for cat_gan and semi_",
        ),
        ("ring", {"categories": 4}, "takes no categories, which is for cat_gan and info_gan."),
        ("ring", {"objective": "semi_supervised", "labelled": 81}, "labelled=81 examples cannot be shared"),
        ("ring", {"objective": "cat_gan", "labelled": 80, "categories": 4}, "categories=4, but the labelled"),
        ("ring", {"approximate": True}, "approximate=true is about microbatches, and microbatches is 1"),
        ("ring", {"microbatches": 2, "objective": "vral_parzen"}, "is not a mean over independent examples"),
        ("ring", {"microbatches": 2, "objective": "began"}, "['critic'] keep objective state"),
        ("ring", {"microbatches": 3}, "microbatches divide a batch, and 3 does not divide batch_size=16"),
        ("ring", {"ema": 1.0}, "must lie in [0, 1), got ema=1.0."),
        ("ring", {"objective": "zero_centred", "r1": 0.0}, "zero_centred needs a penalty"),
        ("ring", {"diagnostics": "helth"}, "Unknown diagnostic 'helth' (did you mean 'health'?)"),
        ("ring", {"keep_best": "modes_covered"}, "set evaluate_every"),
        ("digits", {"microbatches": 2}, "['generator'] couple their batch"),
        (
            "images",
            {"adaptive": True},
            "adaptive=true is about how often images are augmented, and augment is",
        ),
        ("images", {"adaptive": True, "augment": "color", "objective": "hinge"}, "The term 'ada' needs an"),
        ("images", {"augment": "colour"}, "colour"),
        ("images", {"network": "dcgan", "attention": 8}, "attention=8 is for --config.network=resnet"),
        ("images", {"critic_norm": "batch", "objective": "wgan_gp"}, "couples its batch"),
        ("images", {"critic_norm": "batch", "r1": 1.0}, "couples its batch"),
        ("images", {"conditional": True, "objective": "semi_supervised"}, "the label that objective=semi_"),
        ("images", {"precision": "float16"}, "Unknown precision 'float16'"),
        ("images", {"objective": "r3gan", "r1": 0.0}, "r1=0 leaves them out"),
        ("images", {"objective": "r3gan", "ramp": 0}, "ramp is 1 or more, got 0."),
        ("images", {"batch_norm_groups": 3}, "batch_norm_groups=3 does not divide a batch of"),
        ("digits", {"batch_norm_groups": 0}, "batch_norm_groups is 1 or more, got 0."),
        ("images", {"objective": "r3gan", "adaptive": True, "augment": "bgc"}, "The term 'ada' needs an"),
        ("images", {"network": "r3gan", "critic_norm": "spectral"}, "critic_norm=spectral is for the other"),
        ("images", {"network": "r3gan", "minibatch": "stddev"}, "minibatch=stddev is for the other"),
        ("images", {"network": "stylegan2", "minibatch": "stddev"}, "minibatch=stddev is for the other"),
        ("images", {"network": "stylegan2", "critic_norm": "batch"}, "critic_norm=batch is for the other"),
        ("images", {"minibatch": "stddev", "r1": 1.0}, "couples its batch"),
        ("images", {"minibatch": "mean"}, "Unknown minibatch layer 'mean'"),
        ("images", {"minibatch": "stddev", "critic_features": "vgg16:x"}, "critics that see the images"),
        ("images", {"critic_learning_rate": -0.5}, "critic_learning_rate is 0 or more"),
        (
            "images",
            {"objective": "r3gan", "critic_learning_rate": 1e-4},
            "objective=r3gan has its own schedules",
        ),
        ("images", {"network": "r3gan", "attention": 8}, "attention=8 is for the other networks"),
        ("images", {"held_out": 1.0}, "held_out is a share of the images in [0, 1), got 1.0."),
        ("images", {"held_out": 1e-6}, "held_out=1e-06 of 1797 images leaves nothing on a side."),
        ("images", {"critic_features": "pixels"}, "The features 'pixels' have no maps of an image"),
        ("images", {"critic_features": "klassifier:digits"}, "Unknown extractor 'klassifier'"),
        (
            "images",
            {"critic_features": "classifier:digits", "objective": "ac_gan"},
            "is for critics with a score alone, and the critic of objective=ac_gan has heads",
        ),
        (
            "images",
            {"critic_features": "classifier:digits", "objective": "ebgan"},
            "critics with a score alone",
        ),
        ("images", {"probability": 0.5}, "probability=0.5 is about how often images are augmented"),
        ("images", {"probability": 0.5, "adaptive": True, "augment": "bgc"}, "set one of them"),
        ("translation", {"cycle": 5.0}, "objective=pix2pix takes no cycle, which is for cycle_gan."),
        ("translation", {"objective": "cycle_gan", "l1": 5.0}, "takes no l1, which is for pix2pix."),
        ("translation", {"r1": 1.0}, "couples its batch"),
    ],
)
def test_an_option_that_changes_nothing_or_does_not_go_is_refused_in_one_line(name, fields, message):
    assert message in refusal(name, **fields)


@pytest.mark.parametrize("name", ["images", "digits", "translation"])
@pytest.mark.full
def test_batch_normalisations_are_by_groups_on_request(name):
    """Groups are statistics of their own: the first losses differ from those of a single group."""
    batch = EXPERIMENTS[name][1].get("batch_size", 64)
    losses = [
        first_losses(name, batch_norm_groups=groups, objective=o)
        for groups in (1, batch // 2)
        for o in ["pix2pix" if name == "translation" else "non_saturating"]
    ]
    assert losses[0].keys() == losses[1].keys()
    assert losses[0]["generator/loss"] != losses[1]["generator/loss"]


def first_losses(name, **fields):
    """The losses of the initial players on the first batch."""
    experiment = built(name, **fields)
    return losses_and_scores(experiment, init_state(experiment.game, jax.random.key(0)))


@pytest.mark.parametrize("objective", ["vral", "wgan", "info_gan"])
@pytest.mark.full
def test_a_generator_looks_ahead_through_turns_of_its_critic(objective):
    """Looking one turn ahead changes its loss at the start, not the critic's."""
    plain, ahead = (first_losses("ring", objective=objective, unroll=unroll) for unroll in (0, 1))
    assert ahead["critic/loss"] == pytest.approx(plain["critic/loss"], rel=1e-5)
    assert ahead["generator/loss"] != pytest.approx(plain["generator/loss"], rel=1e-6)


@pytest.mark.full
def test_the_turns_that_are_looked_ahead_have_the_critics_penalty():
    free, held = (first_losses("ring", unroll=2, r1=gamma)["generator/loss"] for gamma in (0.0, 1000.0))
    assert free != pytest.approx(held, rel=1e-6)


@pytest.mark.full
def test_the_weight_of_l1_reaches_the_generators_loss():
    """Of the same initial players on the same batch, once with half of the paper's weight."""

    half, whole = (first_losses("translation", l1=l1) for l1 in (50.0, -1.0))
    distance = half["generator/reconstruction"]
    assert whole["generator/loss"] - half["generator/loss"] == pytest.approx(50 * distance, rel=1e-4)


def test_penalised_critics_of_images_are_not_normalised_by_their_batch_unless_asked():
    norms = {
        objective: images.norm_of_critic(
            config, images.image_objective(config, games.data_of("d", load("digits")))
        )
        for objective in ("gan", "hinge", "wgan_gp", "mmd_gan")
        for config in [images.resolve(config_of(images, **TINY, objective=objective))]
    }
    assert norms == {"gan": "batch", "hinge": "spectral", "wgan_gp": "none", "mmd_gan": "none"}


def test_experiments_agree_with_the_loop_about_what_may_change():
    assert set(loop.MAY_CHANGE) <= set(images.get_config())


# ---------------------------------------------------------------------------------------------------------
# R3GAN's recipe

R3GAN = {"network": "r3gan", "objective": "r3gan", "blocks": 1, "width": 4, "widest": 8}


def test_r3gans_gamma_is_by_the_images_size_and_the_run_says_so():
    """8 pixels are taken for 32: 2 x 75^(log2(32 / 64) / 2) = 2 / sqrt(75) = .231, a tenth of it after the ramp."""
    experiment = built("images", **R3GAN, ramp=1600)
    recipe, chosen, ramps = experiment.notes
    assert recipe.startswith(
        "Recipe: network=r3gan with width=4, critic_norm=none, objective=r3gan, batch_size=16"
    )
    assert "gamma 0.231, falling to 0.0231, by the images' size, 8 pixels" in chosen
    assert "ramps of 1,600 images where the paper has 20,000,000" in ramps
    assert "half-life that grows to 40 images" in ramps
    short = built("images", **R3GAN, ramp=1600, rounds=50)
    assert "ends after 800 images, before its ramps do: --config.ramp=800 fits them" in short.notes[3]


@pytest.mark.slow
def test_r3gans_recipe_ramps_gamma_the_rate_and_the_average():
    experiment = built("images", **R3GAN, ramp=32, r1=0.5, augment="bgcc", conditional=True)
    _, state, metrics = played(experiment, rounds=2)
    critic = state.players["critic"]
    # Two rounds of 16: before the second, half of a cosine over 32 images is gone.
    np.testing.assert_allclose(critic.opt_state.hyperparams["learning_rate"], (2e-4 + 5e-5) / 2, rtol=1e-5)
    np.testing.assert_allclose(critic.opt_state.hyperparams["b2"], 0.945, rtol=1e-5)
    pairs = metrics["critic/loss"] - (0.5 + 0.05) / 2 * (metrics["critic/r1"] + metrics["critic/r2"])
    assert abs(pairs - np.log(2)) < 0.2
    assert "as --config.r1 says" in experiment.notes[1]
    (drawn,) = samples_of(experiment, state, 12).values()
    assert drawn.shape == (12, 8, 8, 1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((24, 32), "square images, got 24 x 32 pixels"), ((50, 50), r"times a power of two .*, got 50\.")],
)
def test_images_that_r3gan_does_not_take_are_refused_with_a_network_that_does(tmp_path, shape, message):
    np.save(
        tmp_path / "images.npy", np.random.default_rng(0).integers(256, size=(32, *shape, 3), dtype=np.uint8)
    )
    with pytest.raises(ExperimentError, match=rf"{message}.*--config.network=dcgan takes such images"):
        built("images", data=str(tmp_path / "images.npy"), **R3GAN)


@pytest.mark.parametrize(
    ("network", "norm"),
    [("dcgan", "batch"), ("biggan", "spectral"), ("r3gan", "none"), ("stylegan2", "none")],
)
def test_the_run_says_the_norm_that_its_critic_has(network, norm):
    config = config_of(images, network=network)
    assert f", critic_norm={norm}, " in image_recipe.notes_of(config, "batch", 8, None)[0]


def test_the_run_says_the_rate_of_a_critic_that_has_one_of_its_own():
    own = {"network": "dcgan", "objective": "hinge", "width": 4}
    assert built("images", **own, critic_learning_rate=4e-4).notes[-1] == (
        "Recipe: network=dcgan with width=4, critic_norm=spectral, objective=hinge, critic_learning_rate=0.0004, "
        "batch_size=16, precision=float32."
    )
    assert "learning_rate" not in built("images", **own).notes[-1]


def test_other_networks_and_objectives_keep_their_own():
    """The network without the objective has no schedules; the objective without the network has them."""
    plain = built("images", network="r3gan", width=4, blocks=1)
    assert len(plain.notes) == 1
    # 10,000 images are 625 batches of 16; at first .05 of the 320 images so far are 1 batch.
    average = plain.game.players["generator"].ema
    np.testing.assert_allclose([average(10**6), average(20)], [0.5 ** (1 / 625), 0.5], rtol=1e-4)
    assert built("images", ema=0.0).game.players["generator"].ema is None
    on_resnet = built("images", objective="r3gan", ema=0.9)
    assert len(on_resnet.notes) > 1
    assert on_resnet.game.players["generator"].ema == 0.9
    assert built("ring", objective="r3gan", r1=3.0).game.objective.terms


def test_a_decay_by_rounds_takes_as_long_for_a_critic_that_is_warmed_up():
    """WGAN's critic has 100 turns in each of its first 25 rounds: by turns a decay of 60 ended in the third."""
    game = built("ring", objective="wgan", decay="linear", decay_rounds=60).game
    assert game.phases[0][0](24)
    optimizer = game.players["critic"].optimizer
    params = {"w": jnp.zeros(3)}  # within the bound of clipping

    def step(state, _):
        updates, state = optimizer.update({"w": jnp.full(3, 1e-3)}, state, params)
        return state, jnp.abs(updates["w"]).max() > 0

    _, moved = jax.jit(lambda state: jax.lax.scan(step, state, length=25 * 100 + 30 * 5))(
        optimizer.init(params)
    )
    assert bool(moved.all())


@pytest.mark.parametrize(
    ("cpu", "fields", "expected"),
    [
        (True, {}, "dcgan hinge float32 32 0 8 100000 0.0004"),
        (True, {"batch_size": 6, "width": 16}, "dcgan hinge float32 16 0 6 100000 0.0004"),
        (True, {"learning_rate": 1e-4}, "dcgan hinge float32 32 0 8 100000 0.0"),
        (True, {"critic_learning_rate": 1e-4}, "dcgan hinge float32 32 0 8 100000 0.0001"),
        (True, {"critic_learning_rate": 0.0}, "dcgan hinge float32 32 0 8 100000 0.0"),
        (True, {"network": "dcgan"}, "dcgan hinge float32 32 0 8 100000 0.0"),
        (True, {"objective": "hinge"}, "dcgan hinge float32 32 0 8 100000 0.0"),
        (False, {}, "r3gan r3gan bfloat16 768 768 256 8000 0.0 bgc"),
        (True, {"network": "r3gan"}, "r3gan r3gan float32 16 64 64 8000 0.0"),
        (
            False,
            {"network": "r3gan", "width": 24, "augment": ""},
            "r3gan r3gan bfloat16 24 0 256 8000 0.0",
        ),
        (True, {"objective": "r3gan", "batch_size": 8}, "r3gan r3gan float32 16 64 8 8000 0.0"),
        (True, {"objective": "stylegan2"}, "stylegan2 stylegan2 float32 32 0 64 8000 0.0"),
        (
            True,
            {"network": "stylegan2", "objective": "hinge"},
            "stylegan2 hinge float32 32 0 64 8000 0.0",
        ),
        (
            False,
            {"objective": "wgan_gp", "precision": "float32"},
            "dcgan wgan_gp float32 32 0 64 8000 0.0",
        ),
        (False, {"critic_norm": "batch"}, "dcgan hinge bfloat16 32 0 64 8000 0.0"),
        (True, {"critic_norm": "batch"}, "dcgan hinge float32 32 0 8 100000 0.0"),
        (True, {"network": "resnet", "rounds": 5}, "resnet hinge float32 32 0 64 5 0.0"),
    ],
)
def test_the_recipe_follows_the_device_and_what_is_chosen(cpu, fields, expected, monkeypatch):
    monkeypatch.setattr(image_recipe, "on_cpu", lambda: cpu)
    config = images.resolve(config_of(images, **fields))
    names = ("network", "objective", "precision", "width", "widest", "batch_size", "rounds")
    names += ("critic_learning_rate", "augment")
    assert " ".join(str(config[name]) for name in names).strip() == expected
    monkeypatch.setattr(image_recipe, "on_cpu", lambda: not cpu)
    assert images.resolve(config) == config, "what was chosen is not chosen again on another device"


# ---------------------------------------------------------------------------------------------------------
# Images that are held out


def test_images_are_held_out_by_class_and_scored_against():
    """A tenth of every class (rounded to whole images), no image on both sides, and the comparison is with them."""
    x, y = (load("digits")[name] for name in ("x", "y"))
    experiment = built("images", held_out=0.1)
    held, training = experiment.held_out, experiment.source.device_data["all"]["x"]
    assert (len(held), len(training)) == (180, 1617)
    label_of = {image.tobytes(): label for image, label in zip(x, y, strict=True)}
    labels = [label_of[image.tobytes()] for image in held]
    np.testing.assert_allclose(np.bincount(labels), np.bincount(y) / 10, atol=1)
    assert not {image.tobytes() for image in held} & {image.tobytes() for image in np.asarray(training)}
    assert "180 images are held out" in experiment.notes[0]
    scores = experiment.evaluations["scores"](held)
    assert scores.values["frechet"] < 1e-3  # the held-out images against themselves
    assert scores.fingerprint.split == "digits, held out"


def several_seeds(name, seeds, **fields):
    config = config_of(EXPERIMENTS[name][0], seeds=seeds, **{**EXPERIMENTS[name][1], **fields})
    return build_seeds(types.SimpleNamespace(experiment=f"experiments/{name}.py", prepare=False), config)


def test_of_several_seeds_each_is_scored_against_what_it_held_out_itself():
    """All were scored against the first one's, most of which the others are trained on."""
    beside = several_seeds("images", 2, held_out=0.1)
    for place in range(2):
        experiment, alone = beside.for_seed(place), built("images", held_out=0.1, seed=place)
        held, training = alone.held_out, alone.source.device_data["all"]["x"]
        np.testing.assert_array_equal(experiment.held_out, held)
        np.testing.assert_array_equal(experiment.source.device_data["all"]["x"], training)
        assert not {image.tobytes() for image in experiment.held_out} & {
            image.tobytes() for image in training
        }
        scores = experiment.evaluations["scores"](held)
        assert scores.values["frechet"] < 1e-3  # its held-out images against themselves
        assert scores == alone.evaluations["scores"](held)
        assert (experiment.seed, experiment.seeds) == (place, 1)


def test_of_several_seeds_each_has_its_own_probes(tmp_path):
    """A probe of what is held out was the first seed's for all."""
    (tmp_path / "own.py").write_text(
        "import dataclasses\n"
        "from experiments import ring\n"
        "get_config = ring.get_config\n"
        "def build(config):\n"
        "    seed = float(config.seed)\n"
        "    probe = lambda context: {'seed': seed + 0 * context.step}\n"
        "    return dataclasses.replace(ring.build(config), probes=[probe])\n"
    )
    config = config_of(ring, seed=5, seeds=3, **TINY_RING)
    request = types.SimpleNamespace(experiment=str(tmp_path / "own.py"), prepare=False)
    experiment = build_seeds(request, config)
    for place in range(3):
        single = experiment.for_seed(place)
        state = init_state(single.game, jax.random.key(0))
        batch = get_batch(single.source, state, next(iterate_host_batches(single.source)))
        assert probe(single, state, batch)["seed"] == 5 + place


def test_seeds_that_hold_out_nothing_share_the_features_of_their_data():
    beside = several_seeds("digits", 2)
    first, second = (beside.for_seed(place).evaluations["scores"] for place in range(2))
    assert second._real is first._real
    x = load("digits")["x"][:200]
    assert second(x) == built("digits", seed=1).evaluations["scores"](x)
    assert first(x).fingerprint.seed == 0


def test_holding_out_leaves_every_class_to_train_on():
    y = np.r_[np.zeros(6000, int), np.arange(1, 501), np.repeat(501, 50)]  # 500 classes of one image
    x = np.arange(len(y), dtype=np.uint16).view(np.uint8).reshape(-1, 1, 2, 1)
    training, held = hold_out(config_of(images), Dataset(arrays={"x": x, "y": y}))
    assert np.array_equal(np.unique(training.arrays["y"]), np.arange(502))
    assert (len(held), len(training.arrays["x"])) == (655, len(y) - 655)
    of_class = np.bincount(y[held.reshape(-1, 2).copy().view(np.uint16)[:, 0]], minlength=502)
    assert (of_class[1:501].sum(), of_class[501]) == (0, 5)  # a tenth of 50
    with pytest.raises(ExperimentError, match="7,000 classes, more than the 6,300 images"):
        hold_out(config_of(images), Dataset(arrays={"x": np.zeros((7000, 1, 1, 1)), "y": np.arange(7000)}))


def test_what_was_done_to_images_is_said_of_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))
    for number in range(40):
        Image.fromarray(np.full((16, 16), 5 * number, np.uint8)).save(tmp_path / f"{number}.png")
    experiment = built("images", data=str(tmp_path), size=8, held_out=0.25, batch_size=16)
    assert experiment.notes[:2] == (
        "Of 40 images 40 were shrunk.",
        "10 images are held out: samples are scored against them, and trained on the other 30 (--config.held_out).",
    )


@pytest.mark.parametrize(("size", "held"), [(4_999, 0), (5_000, 500), (40_000, 4_000), (70_000, 5_000)])
def test_by_default_a_tenth_is_held_out_of_many_images(size, held):
    found = Dataset(arrays={"x": np.arange(size, dtype=np.int32)[:, None, None, None]})
    training, others = hold_out(config_of(images), found)
    assert (0 if others is None else len(others)) == held
    assert len(training.arrays["x"]) == size - held


# ---------------------------------------------------------------------------------------------------------
# BigGAN's networks, and critics that are given features


@pytest.mark.full
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_biggan_against_a_projected_critic_plays_and_marks_its_scores(precision):
    experiment = built(
        "images",
        network="biggan",
        width=4,
        critic_features="classifier:digits",
        conditional=True,
        objective="hinge",
        augment="translation",
        precision=precision,
    )
    state, after, metrics = played(experiment, rounds=2)
    assert np.isfinite(metrics["critic/loss"])
    norms = state.players["generator"].params
    assert norms["embedding"]["kernel"].shape == (10, 128)
    frozen = [s.players["critic"].model_state["projections"] for s in (state, after)]
    jax.tree.map(np.testing.assert_array_equal, *frozen)
    (drawn,) = samples_of(experiment, after, 64).values()
    scores = experiment.evaluations["scores"](drawn)
    assert scores.fingerprint.extractor == "classifier of digits, given to the critic"
    plain = built("images", network="biggan", width=4).game.players["critic"].network
    assert plain.frozen_features == ()
    assert jax.tree.leaves(jax.eval_shape(plain.init, jax.random.key(0))[1]["spectral"])


# ---------------------------------------------------------------------------------------------------------
# Labels and images


@pytest.mark.full
def test_a_conditional_game_is_drawn_for_the_labels_in_turn_and_judged_by_them():
    experiment = built("images", conditional=True, augment="translation", adaptive=True, critic_norm="none")
    assert experiment.condition_batch(12)["y"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    _, state, metrics = played(experiment)
    assert np.isfinite(metrics["critic/loss"])
    assert "critic/ada/probability" in metrics
    (drawn,) = samples_of(experiment, state, 12).values()
    assert drawn.shape == (12, 8, 8, 1)
    assert experiment.picture(drawn).dtype == np.uint8
    assert set(experiment.evaluations) == {"asked", "classes", "scores"}


@pytest.mark.full
def test_ac_gan_is_given_labels_without_being_asked():
    experiment = built("digits", objective="ac_gan")
    host_batch = jax.tree.map(lambda leaf: leaf[0], experiment.source.host_batches(0, 1))
    assert set(experiment.source.get_batch(experiment.source.device_data, host_batch)) == {"x", "y"}
    assert "asked" in experiment.evaluations


def test_real_images_are_of_the_class_that_they_are_labelled_with():
    arrays = load("digits")
    asked = asked_for("digits", arrays, lambda n: arrays["y"][:n])
    assert asked(arrays["x"][:300])["class_accuracy"] > 0.97
    wrong = asked_for("digits", arrays, lambda n: (arrays["y"][:n] + 1) % 10)
    assert wrong(arrays["x"][:300])["class_accuracy"] < 0.03


@pytest.mark.full
def test_a_data_set_without_a_classifier_is_judged_by_a_support_vector_machine(tmp_path):
    arrays = load("digits")
    np.savez(tmp_path / "own.npz", **arrays)
    spec = str(tmp_path / "own.npz")
    assert extractor_of(spec, (8, 8, 1)) == ""
    found = class_shares(spec, arrays)(arrays["x"][:500])
    assert found["modes_covered"] == 10
    only = class_shares(spec, arrays)(arrays["x"][arrays["y"] == 3][:100])
    assert only["modes_covered"] <= 2


def four_classes(names):
    """Forty images of each class, sorted by it, each class of one brightness and some noise."""
    noise = np.random.default_rng(0).integers(0, 20, size=(160, 4, 4, 1))
    return {"x": (np.repeat([0, 70, 140, 210], 40)[:, None, None, None] + noise).astype(np.uint8)} | {
        "y": np.repeat(names, 40)
    }


@pytest.mark.parametrize("names", [[0, 1, 2, 3], [0, 5, 6, 9], [1, 2, 3, 10], ["ant", "bee", "cow", "dog"]])
def test_the_judge_learns_every_class_of_sorted_data_whatever_its_labels(names, monkeypatch):
    monkeypatch.setattr("experiments.image_scores.MOST_FITTED", 20)
    arrays = four_classes(names)
    found = class_shares("own", arrays)(arrays["x"])
    assert (found["modes_covered"], found["modes"]) == (4, 4)
    assert found["reverse_kl"] == pytest.approx(0, abs=1e-6)
    asked = asked_for("own", arrays, lambda n: arrays["y"][:n])
    assert asked(arrays["x"])["class_accuracy"] == 1.0


def test_the_spread_over_classes_is_compared_with_the_shares_of_the_data():
    """By hand: of 90 and 30 images, 1 : 1 has the KL log(1 / 2) - (log(3 / 4) + log(1 / 4)) / 2."""
    arrays = four_classes([0, 0, 0, 1])
    rows = np.r_[0:90, 130:160]
    arrays = {name: array[rows] for name, array in arrays.items()}
    measure = class_shares("own", arrays)
    assert measure(arrays["x"])["reverse_kl"] == pytest.approx(0, abs=1e-6)
    halves = measure(arrays["x"][60:])
    assert halves["reverse_kl"] == pytest.approx(np.log(0.5) - np.log(3 / 16) / 2)
    assert halves["entropy"] == pytest.approx(np.log(2))


def test_a_part_of_a_known_data_sets_classes_is_judged_among_all_of_them():
    digits = load("digits")
    kept = np.isin(digits["y"], (0, 5))
    part = {name: array[kept] for name, array in digits.items()}
    found = class_shares("digits", part)(part["x"])
    assert found["modes"] == 10
    assert 2 <= found["modes_covered"] <= 4
    # The eight classes that the data lack count as one image each.
    assert found["reverse_kl"] == pytest.approx(np.log(1 + 8 / len(part["y"])), abs=1e-3)


def test_a_classifier_whose_features_a_critic_is_given_is_no_judge():
    """Another one is trained on the data, and knows their classes only."""
    digits = load("digits")
    kept = np.isin(digits["y"], (0, 5))
    part = {name: array[kept] for name, array in digits.items()}
    given = [classifier_for("digits").weights]
    assert class_shares("digits", part, given)(part["x"])["modes"] == 2
    assert asked_for("digits", part, lambda n: part["y"], given)(part["x"])["class_accuracy"] > 0.99


@pytest.mark.parametrize("name", ["digits", "own"])
def test_samples_beyond_black_and_white_are_judged_as_in_a_file(name):
    """Networks that end without a tanh, as R3GAN's, make such samples."""
    digits = load("digits")
    beyond = np.float32(1.5) * (digits["x"][:200] / np.float32(127.5) - 1)
    found = class_shares(name, digits)(beyond)
    assert found == class_shares(name, digits)(np.clip(beyond, -1, 1))
    asked = asked_for(name, digits, lambda n: digits["y"][:n])(beyond)
    assert asked == asked_for(name, digits, lambda n: digits["y"][:n])(np.clip(beyond, -1, 1))
    assert asked["class_accuracy"] > 0.9


def test_labels_that_nothing_can_be_judged_by_are_refused_and_one_class_is_no_error():
    arrays = four_classes([3, 3, 3, 3])
    assert class_shares("own", arrays)(arrays["x"])["modes_covered"] == 1
    with pytest.raises(ExperimentError, match=r"one number or name an image: y is int64 \(160, 2\)"):
        class_shares("own", arrays | {"y": np.zeros((160, 2), int)})


@pytest.mark.parametrize(
    ("spec", "shape", "name"),
    [
        ("digits", (8, 8, 1), "classifier:digits"),
        ("tfds:fashion_mnist@test", (28, 28, 1), "classifier:fashion_mnist"),
        ("edges:tfds:fashion_mnist", (28, 28, 1), "classifier:fashion_mnist"),
        ("tfds:fashion_mnist", (32, 32, 1), ""),
        ("tfds:fashion_mnist", (28, 28, 3), ""),
        ("fashion_mnist", (28, 28, 1), ""),
        ("tfds:cifar10", (32, 32, 3), ""),
        ("stacked:mnist5k", (28, 28, 3), ""),
    ],
)
def test_scores_use_the_classifier_of_the_data_set(spec, shape, name):
    """And of no folder that is called like it, nor for images of another size."""
    assert extractor_of(spec, shape) == name


def test_a_folder_called_like_a_data_set_is_judged_by_its_own_classes(tmp_path, monkeypatch):
    """Its classes are numbered in alphabetical order, and those of the stored classifier are not."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, level in (("Ankle boot", 30), ("Bag", 120), ("T-shirt", 220)):
        folder = tmp_path / "fashion_mnist" / name
        folder.mkdir(parents=True)
        for place in range(12):
            image = (level + rng.integers(0, 20, (28, 28))).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{place}.png")
    experiment = built("images", data="fashion_mnist", size=28, conditional=True)
    assert experiment.classes == ("Ankle boot", "Bag", "T-shirt")
    asked = experiment.evaluation_batch(9)["y"]
    perfect = (np.array([40, 130, 230])[asked] / 127.5 - 1)[:, None, None, None] * np.ones((1, 28, 28, 1))
    assert experiment.evaluations["asked"](perfect)["class_accuracy"] == 1
    assert experiment.evaluations["classes"](perfect)["modes"] == 3
    assert experiment.extractor == ""


@pytest.fixture
def bare(tmp_path):
    """Digits without labels."""
    np.savez(tmp_path / "bare.npz", x=load("digits")["x"])
    return str(tmp_path / "bare.npz")


def test_pairs_and_labels_that_are_not_there_are_asked_for(bare):
    assert "has no pairs: put edges: or masks: before it" in refusal("translation", data="digits")
    assert refusal("images", data=bare, conditional=True).startswith("conditional=true needs labels")
    for objective in ("ac_gan", "semi_supervised"):
        said = refusal("digits", data=bare, objective=objective)
        assert said.startswith(f"objective={objective} needs labels")
    assert refusal("digits", data=bare, objective="info_gan").endswith("set --config.categories.")
    named = built("digits", data=bare, objective="info_gan", categories=7).game
    assert named.objective.prior(jax.random.key(0), 2).shape == (2, 7 + games.CODE_NUMBERS + TINY["latent"])


@pytest.mark.parametrize(
    ("labels", "message", "found"),
    [
        (np.arange(20) % 3 - 1, "'y' has labels from -1 on; labels are 0 or more", "0"),
        (np.arange(20)[:, None] % 3, "Labels are integers [N] from 0 on", "int32 (20, 1)"),
        (np.arange(20) / 3, "Labels are integers [N] from 0 on", "float32"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, labels, message, found):
    np.savez(tmp_path / "some.npz", x=load("digits")["x"][:20], y=labels)
    said = refusal("images", data=str(tmp_path / "some.npz"), conditional=True)
    assert said.startswith(message)
    assert found in said


def test_labels_with_wide_gaps_are_refused_before_a_network_has_a_class_for_each(tmp_path):
    np.savez(tmp_path / "some.npz", x=load("digits")["x"][:20], y=np.where(np.arange(20) % 2, 1_000_000, 0))
    said = refusal("images", data=str(tmp_path / "some.npz"), conditional=True)
    assert "go up to 1000000 and there are 20 of them" in said


def test_data_of_another_shape_are_refused(tmp_path):
    np.savez(tmp_path / "vectors.npz", x=np.zeros((20, 5), np.float32))
    said = refusal("images", data=str(tmp_path / "vectors.npz"))
    assert "images [N, H, W, C]" in said
    assert said.endswith("has examples (5,).")
    x = load("digits")["x"][:20]
    np.savez(tmp_path / "pairs.npz", x=x, condition=x.repeat(2, 1).repeat(2, 2))
    assert "(8, 8) for x and (16, 16) for the condition" in refusal(
        "translation", data=str(tmp_path / "pairs.npz")
    )


@pytest.mark.full
def test_images_of_any_shape_are_trained_on(tmp_path):
    """Rectangles with five channels, by their networks; the names of their classes are the experiment's."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 8, 16, 5), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2, classes=["boot", "dress"])
    fields = {"data": str(tmp_path / "a.npz"), "channels": 5, "conditional": True, "objective": "hinge"}
    for network in ("dcgan", "resnet"):
        experiment = built("images", **{**fields, "network": network})
        assert experiment.classes == ("boot", "dress")
        # Two columns of 50 images, scaled to 56 pixels a side at least, under their names.
        shown = experiment.picture(np.zeros((100, 8, 16, 5)))
        assert shown.shape == (CAPTION + 50 * (8 * 7 + 2) - 2, 2 * (16 * 7 + 2) - 2, 3)
        assert sample_shape(experiment, jax.eval_shape(lambda e=experiment: traced(e))[0]) == (8, 16, 5)
    assert "set --config.size" in refusal("images", **{**fields, "height": 8})
    assert "8 x 16 x 5 where 16 x 8 is asked for" in refusal("images", **{**fields, "height": 16, "size": 8})


def test_attention_follows_the_blocks_of_its_size_in_whichever_player():
    """For 8 x 8 images the generator's only block makes 8 x 8, the critic's halving block 4 x 4."""
    for size, where in ((8, "generator"), (4, "critic")):
        game = built("images", objective="hinge", attention=size).game
        shapes = jax.eval_shape(lambda key, game=game: init_state(game, key), jax.random.key(0))
        paths = {
            player: str(jax.tree_util.tree_leaves_with_path(shapes.players[player].params))
            for player in ("critic", "generator")
        }
        assert {player for player, text in paths.items() if "SelfAttention" in text} == {where}
    assert "(8,) pixels wide in the generator, (4,) in" in refusal("images", objective="hinge", attention=16)


# ---------------------------------------------------------------------------------------------------------
# Translation


@pytest.mark.full
def test_translation_shows_what_was_given_made_and_true_and_measures_l1_on_held_out_pairs():
    experiment = built("translation", data="masks:digits")
    _, state, metrics = played(experiment)
    assert np.isfinite(metrics["generator/loss"])
    assert experiment.condition_batch(7)["condition"].shape == (7, 8, 8, 1)
    assert evaluate(experiment, state)["samples"]["raw"]["l1"] > 0.05
    _, held = split_off(load("masks:digits"), experiment.evaluation_samples, seed=0)
    truth, given = experiment.evaluations["held_out"], experiment.condition_batch(len(held["x"]))
    for side in ("x", "condition"):
        assert sorted(map(bytes, np.round((given[side] + 1) * 127.5).astype(np.uint8))) == sorted(
            map(bytes, held[side])
        )
    assert truth(given["x"])["l1"] == 0
    assert truth(-np.ones(held["x"].shape))["l1"] == pytest.approx(held["x"].mean() / 127.5, rel=1e-5)


def test_pairs_that_are_held_back_are_in_the_record_of_the_data(tmp_path):
    """The same pairs to train on, and one other of those that scores compare with: a resume says so."""
    pairs = load("edges:digits")
    _, held = split_off(pairs, min(translation.HELD_OUT, len(pairs["x"]) // 5), seed=0)
    place = next(i for i, image in enumerate(pairs["x"]) if (image == held["x"][0]).all())

    def record(data):
        np.savez(tmp_path / "pairs.npz", **data)
        return examples_fingerprint(built("translation", data=str(tmp_path / "pairs.npz")))

    before = record({name: pairs[name] for name in ("x", "condition")})
    assert before["held out: x"].startswith("uint8[359, 8, 8, 1] sha256:")
    other = {name: pairs[name].copy() for name in ("x", "condition")}
    other["condition"][place] = 255
    changed = {name for name, mark in record(other).items() if mark != before[name]}
    assert changed == {"held out: condition"}


class Recorded:
    """A writer that notes the names of the pictures."""

    def __init__(self):
        self.names = []

    def picture(self, step, name, picture):
        self.names.append(f"{name}_{step}")


@pytest.mark.full
def test_cycle_gan_is_pictured_and_evaluated_in_both_directions():
    experiment = built("translation", objective="cycle_gan")
    assert experiment.game.schedule == (
        turn("critic_a", "critic_b"),
        turn("generator_ab", "generator_ba"),
    )
    state = init_state(experiment.game, jax.random.key(0))
    writer = Recorded()
    Draw(experiment, Workdir("unused"), writer).run(Played((experiment,), state, 0, 3, 0, {}, dict, None))
    assert writer.names == ["samples_generator_ab_3", "samples_generator_ba_3"]
    evaluation = evaluate(experiment, state)
    assert {f"{player}/loss" for player in experiment.game.players} <= set(evaluation["players"])
    for player in ("generator_ab", "generator_ba"):
        assert evaluation["samples"]["raw"][f"{player}/l1"] > 0
        assert evaluation["samples"]["raw"][f"{player}/frechet"] > 0


@pytest.mark.full
def test_each_direction_is_compared_with_the_other_side_of_the_pairs_held_back():
    experiment = built("translation", objective="cycle_gan")
    given = experiment.condition_batch(9)
    for player, target in (("generator_ab", "x"), ("generator_ba", "condition")):
        other = translation.source_side(target)
        judge = experiment.evaluations[f"{player}/held_out"]
        assert judge(given[target])["l1"] == 0
        assert judge(given[other])["l1"] > 0.1
        shown = experiment.picture_of(player)(np.zeros_like(given[target]))
        np.testing.assert_array_equal(
            shown, translation.threes(given[other], np.zeros_like(given[target]), given[target])
        )


def test_class_sorted_pairs_are_translated_and_compared_in_fair_draws(tmp_path, monkeypatch):
    """The first pairs held back, and the first conditions, were those of the first class."""
    black_then_white = np.repeat(np.uint8([0, 255]), 300)[:, None, None, None] * np.ones(
        (1, 8, 8, 1), np.uint8
    )
    np.savez(tmp_path / "pairs.npz", x=black_then_white, condition=black_then_white)
    monkeypatch.setattr(translation, "MOST_REAL", 100)
    experiment = built("translation", objective="cycle_gan", data=str(tmp_path / "pairs.npz"))
    some = experiment.condition_batch(40)
    np.testing.assert_array_equal(some["x"], some["condition"])
    assert abs(some["x"].mean()) < 0.6
    real, _ = experiment.evaluations["generator_ba/scores"].examples
    assert len(real) == 100
    assert 40 < (real.mean(axis=(1, 2, 3)) > 127).sum() < 60


@pytest.mark.full
def test_the_two_domains_of_cycle_gan_are_shuffled_apart_and_pairs_are_not():
    for objective, paired in (("pix2pix", True), ("cycle_gan", False)):
        data = built("translation", objective=objective).source.device_data["all"]
        edges = load("edges:digits")
        training, _ = split_off(edges, 359, seed=0)
        np.testing.assert_array_equal(data["x"], training["x"])
        assert np.array_equal(data["condition"], training["condition"]) == paired
        assert data["condition"].sum() == training["condition"].sum()


def test_both_generators_keep_an_average_and_no_critic_does():
    game = built("translation", objective="cycle_gan", ema=0.9).game
    averages = {name: player.ema for name, player in game.players.items()}
    assert averages == {"critic_a": None, "critic_b": None, "generator_ab": 0.9, "generator_ba": 0.9}
