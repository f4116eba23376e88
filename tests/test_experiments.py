"""The experiments: they build, they play, and what they say of samples is so."""

import jax
import numpy as np
import pytest

from experiments import images, ring, translation
from experiments.image_scores import asked_for, class_shares, extractor_of
from gan_jax.data import load
from gan_jax.data.derive import split_off
from gan_jax.evaluation.evaluate import evaluate
from gan_jax.evaluation.sampling import sample
from gan_jax.runs import loop
from gan_jax.runs.notebook import rollout
from gan_jax.training.experiment import ExperimentError
from gan_jax.training.step import init_state


def config_of(module, **fields):
    config = module.get_config()
    config.update(fields)
    return config


def played(experiment, rounds=2):
    state = init_state(experiment.game, jax.random.key(0))
    return rollout(experiment.game, experiment.source, state, rounds)


TINY = {"data": "digits", "width": 4, "latent": 4, "batch_size": 16}


def test_the_fields_that_the_launcher_reads_are_in_every_experiment():
    common = set(ring.get_config()) & {"seed", "seeds", "rounds", "log_every", "parallelism", "diagnostics"}
    assert len(common) == 6
    for module in (images, translation):
        assert common <= set(module.get_config())


def test_a_conditional_game_is_drawn_for_the_labels_in_turn_and_judged_by_them():
    experiment = images.build(
        config_of(
            images, **TINY, conditional=True, critic_norm="none", augment="translation", adaptive=True, r1=1.0
        )
    )
    (labels,) = experiment.conditions(12)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    state, history = played(experiment)
    assert np.isfinite(history["critic/loss"]).all()
    assert "critic/ada/probability" in history
    drawn = sample(experiment.game, state, jax.random.key(1), 12, conditions=experiment.conditions)
    assert drawn.shape == (12, 8, 8, 1)
    assert experiment.picture(drawn).dtype == np.uint8


def test_real_images_are_of_the_class_that_they_are_labelled_with():
    digits = load("digits")
    asked = asked_for("digits", digits, lambda n: digits["y"][:n])
    assert asked(digits["x"][:300])["class_accuracy"] > 0.97
    wrong = asked_for("digits", digits, lambda n: (digits["y"][:n] + 1) % 10)
    assert wrong(digits["x"][:300])["class_accuracy"] < 0.03


def test_a_data_set_without_a_classifier_is_judged_by_a_support_vector_machine(tmp_path):
    digits = load("digits")
    np.savez(tmp_path / "own.npz", **digits)
    spec = str(tmp_path / "own.npz")
    assert extractor_of(spec) == ""
    found = class_shares(spec, digits)(digits["x"][:500])
    assert found["modes_covered"] == 10
    only = class_shares(spec, digits)(digits["x"][digits["y"] == 3][:100])
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


def test_a_part_of_a_known_data_sets_classes_is_judged_among_all_of_them():
    digits = load("digits")
    kept = np.isin(digits["y"], (0, 5))
    part = {name: array[kept] for name, array in digits.items()}
    found = class_shares("digits", part)(part["x"])
    assert found["modes"] == 10
    assert 2 <= found["modes_covered"] <= 4


def test_labels_that_nothing_can_be_judged_by_are_refused_and_one_class_is_no_error():
    arrays = four_classes([3, 3, 3, 3])
    assert class_shares("own", arrays)(arrays["x"])["modes_covered"] == 1
    with pytest.raises(ExperimentError, match=r"one number or name an image: y is int64 \(160, 2\)"):
        class_shares("own", arrays | {"y": np.zeros((160, 2), int)})


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("digits", "classifier:digits"),
        ("tfds:fashion_mnist@test", "classifier:fashion_mnist"),
        ("edges:tfds:fashion_mnist", "classifier:fashion_mnist"),
        ("tfds:cifar10", ""),
        ("stacked:mnist5k", ""),
    ],
)
def test_scores_use_the_classifier_of_the_data_set(spec, name):
    assert extractor_of(spec) == name


def test_translation_shows_what_was_given_made_and_true_and_measures_l1_on_held_out_pairs(tmp_path):
    experiment = translation.build(config_of(translation, data="masks:digits", width=4, batch_size=16))
    state, history = played(experiment)
    assert np.isfinite(history["generator/loss"]).all()
    (given,) = experiment.conditions(7)
    assert given.shape == (7, 8, 8, 1)
    truth = translation.build(config_of(translation, data="masks:digits")).evaluations["held_out"]
    assert evaluate(experiment, state)["samples"]["raw"]["l1"] > 0.05
    _, held = split_off(load("masks:digits"), experiment.evaluation_samples, seed=0)
    assert truth(held["x"] / 127.5 - 1)["l1"] == pytest.approx(0, abs=1e-6)
    assert truth(-np.ones(held["x"].shape))["l1"] == pytest.approx(held["x"].mean() / 127.5, rel=1e-5)


def test_pairs_and_labels_that_are_not_there_are_asked_for(tmp_path):
    with pytest.raises(ExperimentError, match="has no pairs: put edges: or masks: before it"):
        translation.build(config_of(translation, data="digits"))
    np.savez(tmp_path / "bare.npz", x=load("digits")["x"])
    with pytest.raises(ExperimentError, match="conditional=true needs labels"):
        images.build(config_of(images, **{**TINY, "data": str(tmp_path / "bare.npz")}, conditional=True))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(20) % 3 - 1, r"int32 \(20,\), -1 to 1"),
        (np.arange(20)[:, None] % 3, r"int32 \(20, 1\)"),
        (np.arange(20) / 3, "float32"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, labels, message):
    np.savez(tmp_path / "some.npz", x=load("digits")["x"][:20], y=labels)
    with pytest.raises(ExperimentError, match=rf"integers \[N\] from 0 on; .*{message}"):
        images.build(config_of(images, **{**TINY, "data": str(tmp_path / "some.npz")}, conditional=True))


def test_data_of_another_shape_are_refused(tmp_path):
    np.savez(tmp_path / "vectors.npz", x=np.zeros((20, 5), np.float32))
    with pytest.raises(ExperimentError, match=r"square images \[N, H, H, C\]; .* has examples \(5,\)"):
        images.build(config_of(images, **{**TINY, "data": str(tmp_path / "vectors.npz")}))
    x = load("digits")["x"][:20]
    np.savez(tmp_path / "pairs.npz", x=x, condition=x.repeat(2, 1).repeat(2, 2))
    with pytest.raises(ExperimentError, match=r"\(8, 8\) for x and \(16, 16\) for the condition"):
        translation.build(config_of(translation, data=str(tmp_path / "pairs.npz")))


def test_attention_follows_the_blocks_of_its_size_in_whichever_player():
    """For 8 x 8 images the generator's only block makes 8 x 8, the critic's halving block 4 x 4."""
    fields = {**TINY, "network": "resnet", "objective": "hinge"}
    for size, where in ((8, "generator"), (4, "critic")):
        game = images.build(config_of(images, **fields, attention=size)).game
        shapes = jax.eval_shape(lambda key, game=game: init_state(game, key), jax.random.key(0))
        paths = {
            player: str(jax.tree_util.tree_leaves_with_path(shapes.players[player].params))
            for player in ("critic", "generator")
        }
        assert {player for player, text in paths.items() if "SelfAttention" in text} == {where}
    with pytest.raises(
        ExperimentError, match=r"attention=16, .* \(8,\) pixels wide in the generator, \(4,\) in"
    ):
        images.build(config_of(images, **fields, attention=16))


def test_experiments_agree_with_the_loop_about_what_may_change():
    assert set(loop.LOOKS) <= set(images.get_config())
