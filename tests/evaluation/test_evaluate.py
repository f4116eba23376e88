"""Evaluation: the same on one device and on eight, nothing lost by looking, and the best kept."""

import functools
import json
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from gan_jax import diagnostics
from gan_jax.data import encode, from_arrays, from_toy, stream, toy
from gan_jax.data.augment import augmented
from gan_jax.data.errors import DataError
from gan_jax.data.images import Dataset
from gan_jax.data.timeout import within
from gan_jax.distributed.layout import make_layout
from gan_jax.evaluation import batches, describe, evaluate, sampling, score_tables, scoring
from gan_jax.network import Network
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.wgan import wgan
from gan_jax.objectives.zero_centred import zero_centred
from gan_jax.runs import loop
from gan_jax.runs.checkpoint import Best, Checkpoints
from gan_jax.runs.finite import NonFiniteError
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.workdir import Workdir
from gan_jax.schedule import Turn, alternating
from gan_jax.training.experiment import Experiment, ExperimentError, best_by
from gan_jax.training.rollout import stack_rounds
from gan_jax.training.step import init_state
from tests import helpers
from tests.helpers import PRIOR


def make_game(objective=None, **options):
    return helpers.game(objective or non_saturating(PRIOR), lr=0.05, **options)


GAME = make_game(ema={"generator": 0.9})


def experiment(**changes):
    given = {
        "game": GAME,
        "source": from_toy(toy.ring(), 8),
        "seed": 3,
        "rounds": 12,
        "log_every": 4,
        "checkpoint_every": 0,
        "sample_every": 0,
        "evaluation_samples": 13,
        "picture": lambda samples: np.zeros((4, 4, 1), np.uint8),
        "rounds_per_dispatch": 4,
    }
    return Experiment(**(given | changes))


def quiet(text):
    pass


def state_of(made, devices=1):
    layout = make_layout("jit", jax.devices()[:devices])
    state = init_state(made.game, jax.random.key(made.seed))
    moved = jax.tree.map(lambda x: x + 0.5, state.players["generator"].params)
    if "generator" in state.ema:
        state = state._replace(ema={"generator": (moved, state.ema["generator"][1])})
    return layout.place(state)


# ---------------------------------------------------------------------------------------------------------
# Several devices


def test_samples_are_the_same_bits_on_eight_devices(monkeypatch):
    """13 samples in blocks of 3; on the way to 256 levels an error in the last bit becomes a level."""
    monkeypatch.setattr(sampling, "CHUNK", 5)
    monkeypatch.setattr(sampling, "BLOCK", 3)
    made = experiment()
    single, eight = (
        sampling.sample(made.game, state_of(made, devices), jax.random.key(1), 13) for devices in (1, 8)
    )
    assert single.shape == (13, 2)
    assert len(np.unique(single, axis=0)) == 13
    np.testing.assert_array_equal(single, eight)


@pytest.mark.parametrize("rows", [(0, 4), (4, 13), (7, 8)])
def test_a_part_of_the_samples_is_drawn_without_the_others(monkeypatch, rows):
    monkeypatch.setattr(sampling, "CHUNK", 5)
    monkeypatch.setattr(sampling, "BLOCK", 3)
    made = experiment()
    state, key = state_of(made), jax.random.key(1)
    start, stop = rows
    blocks = list(sampling.sample_blocks(made.game, state, key, 13, start=start, stop=stop))
    assert max(map(len, blocks)) <= 3
    whole = sampling.sample(made.game, state, key, 13)
    np.testing.assert_array_equal(np.concatenate(blocks), whole[start:stop])


@pytest.mark.full
def test_noise_in_evaluation_differs_between_blocks_and_not_between_devices(monkeypatch):
    """A generator that draws when it is evaluated too, as pix2pix's dropout may."""
    monkeypatch.setattr(sampling, "BLOCK", 3)

    def apply(params, model_state, z, train, key):
        return params * jax.random.normal(key, (z.shape[0], 1)), model_state

    generator = Network(init=lambda key: (jnp.ones(()), ()), apply=apply)
    made = experiment(game=make_game(networks_={"critic": helpers.critic(1), "generator": generator}))
    single, eight = (
        sampling.sample(made.game, state_of(made, devices), jax.random.key(1), 10) for devices in (1, 8)
    )
    assert len(np.unique(single)) == 10
    np.testing.assert_array_equal(single, eight)


def test_the_same_key_draws_the_same_latents_whatever_the_number_in_the_last_chunk(monkeypatch):
    made = experiment()
    state = state_of(made)
    complete = sampling.sample(made.game, state, jax.random.key(1), 6)
    monkeypatch.setattr(sampling, "CHUNK", 6)
    longer = sampling.sample(made.game, state, jax.random.key(1), 9)
    np.testing.assert_allclose(complete, longer[:6], atol=1e-6)


@pytest.mark.full
def test_an_evaluation_is_the_same_on_eight_devices():
    """Samples, every kind of score of images, losses and scores: to 1e-5."""
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), np.uint8)
    networks = {"critic": helpers.critic(16), "generator": image_generator()}
    game = make_game(networks_=networks, ema={"generator": 0.9})
    found = []
    for devices in (1, 8):
        chosen = jax.devices()[:devices]
        scores = scoring.against(images, extractor="pixels", split="noise", devices=chosen)
        made = experiment(
            game=game,
            source=from_arrays({"x": images}, 8),
            evaluations={"scores": scores},
            evaluation_samples=50,
        )
        found.append(evaluate.evaluate(made, state_of(made, devices)))
    single, eight = found
    assert single["fingerprints"] == eight["fingerprints"]
    assert {"frechet", "kernel", "precision", "sliced_wasserstein"} <= set(single["samples"]["ema"])
    for part in ("samples", "players"):
        chex.assert_trees_all_close(single[part], eight[part], rtol=1e-5, atol=1e-6)


def image_generator():
    flat = helpers.generator(outputs=16)

    def apply(params, model_state, z, train, key):
        out, model_state = flat.apply(params, model_state, z, train=train, key=key)
        return jnp.tanh(out).reshape(-1, 4, 4, 1), model_state

    return Network(init=flat.init, apply=apply)


@pytest.mark.full
def test_a_batch_whose_size_the_devices_do_not_divide_is_replicated():
    made = experiment(source=from_toy(toy.ring(), 6))
    single, eight = (evaluate.losses_and_scores(made, state_of(made, devices)) for devices in (1, 8))
    chex.assert_trees_all_close(single, eight, rtol=1e-5, atol=1e-6)


def test_a_lazy_penalty_is_evaluated_as_what_it_is_in_any_round():
    """Computed in its rounds only, it would be 0 in an evaluation, or its interval times as large."""
    found = {}
    for every in (1, 4):
        made = experiment(game=make_game(zero_centred(PRIOR, gamma_real=2.0, every=every)))
        start = init_state(made.game, jax.random.key(1))
        for step in (7, 8):
            state = start._replace(step=jnp.int32(step))
            found[every, step] = evaluate.losses_and_scores(made, state)
    for step in (7, 8):
        assert found[1, step]["critic/r1"] > 0
        assert found[4, step] == pytest.approx(found[1, step])


# ---------------------------------------------------------------------------------------------------------
# What an evaluation says


@pytest.mark.full
def test_raw_and_averaged_weights_stand_side_by_side():
    made = experiment(evaluations={"mean": lambda x: {"mean": float(x.mean()), "n": len(x)}})
    state = state_of(made)
    found = evaluate.evaluate(made, state)["samples"]
    assert found["ema"]["n"] == found["raw"]["n"] == 13
    key = jax.random.fold_in(jax.random.key(3), 0)  # any other draw would do: only the weights matter here
    raw, ema = (sampling.sample(made.game, state, key, 4, ema=kind).mean() for kind in (False, True))
    assert (found["raw"]["mean"] < found["ema"]["mean"]) == (raw < ema)
    assert found["raw"]["mean"] != found["ema"]["mean"]
    without = experiment(game=make_game())
    assert list(evaluate.evaluate(without, state_of(without))["samples"]) == ["raw"]


@pytest.mark.full
def test_scores_keep_their_fingerprint_to_the_log_and_the_table():
    real = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    made = experiment(
        evaluations={
            "own": lambda x: {"center": float(x.mean())},
            "scores": scoring.against(real, split="a Gaussian", which=("frechet", "wasserstein"), seed=3),
        }
    )
    found = json.loads(json.dumps(evaluate.evaluate(made, state_of(made))))
    mark = found["fingerprints"]["scores"]
    assert (mark["extractor"], mark["real"], mark["fake"], mark["seed"]) == ("coordinates", 30, 13, 3)
    assert mark["metrics"] == ["frechet", "wasserstein_1"]
    log = evaluate.log_of(found)
    assert log["evaluation/samples/ema/frechet"] == found["samples"]["ema"]["frechet"]
    assert "split a Gaussian" in log["evaluation/fingerprint/scores"]
    other = {**found, "fingerprints": {"scores": {**mark, "fake": 99}}, "step": 7}
    table = score_tables.tables([found, other])
    assert "round 0, ema" in table
    assert "round 7, raw [1]" in table
    assert "fake: 13 against 99" in table
    first_table = table.split("\n\n")[0]
    assert first_table.splitlines()[1].startswith("center")
    assert "frechet" not in first_table


def test_a_shift_has_its_length_as_distance():
    """A shift by (3, 4) of the very same points: W1 is 5, and the Frechet distance 25."""
    points = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    compare = scoring.against(points, split="points", which=("frechet", "wasserstein"))
    scores = compare(points + np.array([3.0, 4.0]))
    np.testing.assert_allclose(scores.values["wasserstein_1"], 5.0, rtol=1e-6)
    np.testing.assert_allclose(scores.values["frechet"], 25.0, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------
# Data to compare with


def test_own_data_are_every_example_once():
    x = np.arange(11, dtype=np.float32)[:, None]
    found = batches.source_examples(from_arrays({"x": x}, 4, seed=1), 50_000)
    np.testing.assert_array_equal(np.sort(found[:, 0]), x[:, 0])
    assert len(batches.source_examples(from_toy(toy.ring(), 8), 30)) == 30


@pytest.mark.full
@pytest.mark.parametrize("batch_size", [16, 300])
@pytest.mark.parametrize("augment", [(), ("flip",)])
@pytest.mark.parametrize("make", ["arrays", "stream"])
def test_own_data_that_are_drawn_with_replacement_are_every_example_once_too(make, augment, batch_size):
    x = np.repeat(np.arange(200, dtype=np.uint8), 4).reshape(200, 2, 2, 1)  # the same when it is flipped
    if make == "arrays":
        source = from_arrays({"x": x}, batch_size, seed=1, replace=True)
    else:
        source = stream.from_reader(stream.array_reader({"x": x}), 200, batch_size, 1, replace=True)
    source = within(augmented(source, *augment) if augment else source, 60)
    found = batches.source_examples(source, 50_000, batches.iterate_host_batches(source))
    np.testing.assert_array_equal(np.sort(encode(found)[:, 0, 0, 0]), np.arange(200))
    assert len(batches.source_examples(source, 30)) == 30
    source.close()


@pytest.mark.parametrize("augmentations", [("flip",), ("flip", "translation")])
@pytest.mark.parametrize("replace", [False, True])
def test_own_data_are_the_images_and_not_what_an_augmentation_made_of_them(augmentations, replace):
    """Half of the images were mirrored: real digits had a Frechet distance of 38 from their own data."""
    x = np.random.default_rng(0).integers(0, 256, (40, 3, 5, 1), np.uint8)
    source = from_arrays({"x": x}, 8, seed=1, replace=replace, value_range="standard")
    for name in augmentations:  # one by one, as an experiment may
        source = augmented(source, name)
    source = within(source, 60)
    real, _ = scoring.reference("own", (3, 5, 1), source, 40, batches.iterate_host_batches(source))
    assert sorted(map(bytes, encode(real))) == sorted(map(bytes, x))
    changed = batches.get_batch(
        source, state_of(experiment()), jax.tree.map(lambda n: n[0], source.host_batches(0, 1))
    )
    assert not set(map(bytes, encode(np.asarray(changed["x"])))) <= set(map(bytes, x)), (
        "training sees the changes"
    )


def test_data_to_compare_with_show_every_class_of_a_sorted_set(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "MOST_REAL", 60)
    labels = np.repeat(np.arange(6), 40)
    x = (labels * 40)[:, None, None, None].astype(np.uint8) * np.ones((1, 2, 2, 1), np.uint8)
    np.savez(tmp_path / "sorted.npz", x=x, y=labels)
    spec = str(tmp_path / "sorted.npz")
    real, _ = scoring.reference(spec, (2, 2, 1), from_toy(toy.ring(), 8), 3)
    assert np.unique(real[:, 0, 0, 0], return_counts=True)[1].tolist() == [10] * 6
    again, _ = scoring.reference(spec, (2, 2, 1), from_toy(toy.ring(), 8), 3)
    np.testing.assert_array_equal(real, again)


def test_transport_draws_from_all_of_the_points(monkeypatch):
    """Half of the points lie 10 away: of the sorted ones, the first half are all at 0."""
    monkeypatch.setattr(scoring, "_TRANSPORTED", 20)
    points = np.repeat([[0.0], [10.0]], 100, axis=0)
    fake = np.tile([[0.0], [10.0]], (100, 1))
    distance = scoring.against(points, split="sorted", which=("wasserstein",))(fake).values["wasserstein_1"]
    assert distance < 5  # of the first twenty: 5


def test_a_metric_that_was_left_out_is_named_in_the_evaluation_and_its_table():
    points = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    compare = scoring.against(points, split="points", which=("frechet", "neighbors"))
    made = experiment(evaluations={"scores": compare}, evaluation_samples=4)
    found = evaluate.evaluate(made, state_of(made))
    reason = "fake: needs at least 6 samples, got 4 (shape (4, 2))."
    assert found["fingerprints"]["scores"]["left_out"] == {"neighbors": reason}
    assert f"left out: neighbors: {reason}" in score_tables.tables([found])
    assert "left_out" in evaluate.log_of(found)["evaluation/fingerprint/scores"]


def test_reference_data_are_the_runs_data_a_folder_or_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), np.uint8)
    source = from_arrays({"x": images}, 3)
    (tmp_path / "folder").mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / "folder" / f"{k}.png")
    np.savez(tmp_path / "file.npz", x=images[:5])
    for data, number in (("own", 9), (str(tmp_path / "folder"), 9), (str(tmp_path / "file.npz"), 5)):
        real, description = scoring.reference(data, (4, 4, 1), source, 3)
        same = scoring.against(real, split=description, which=("frechet",))(images[:number])
        # The same images, whether they came as bytes or as floats.
        np.testing.assert_allclose(same.values["frechet"], 0.0, atol=1e-5)
        assert same.fingerprint.value_range == "uint8 [0, 255]"
    with pytest.raises(DataError, match=r"file\.npz' has examples of 4 x 4 x 1 where 8 x 8 is asked for"):
        scoring.reference(str(tmp_path / "file.npz"), (8, 8, 1), source, 3)
    with pytest.raises(DataError, match="nowhere"):
        scoring.reference(str(tmp_path / "nowhere.npz"), (8, 8, 1), source, 3)


def test_a_file_of_arrays_is_read_in_the_runs_own_range(tmp_path):
    """Of values from 0 to 1000 nothing tells what is white."""
    path = str(tmp_path / "film.npz")
    x = np.linspace(0.0, 1000.0, 32, dtype=np.float32).reshape(2, 4, 4, 1)
    np.savez(path, x=x)
    real, _ = scoring.reference(path, (4, 4, 1), from_toy(toy.ring(), 8), 2, value_range=(0.0, 1000.0))
    np.testing.assert_allclose(real, x / 500 - 1, atol=1e-6)


def test_real_images_of_another_range_are_refused_or_named_before_training():
    """An own experiment's floats in [0, 1] were compared as bright ones, and int64 as white, without a word."""
    x = np.random.default_rng(0).random((40, 4, 4, 1))

    def distance(real):
        return scoring.against(real, split="held out", which=("frechet",))(x * 2 - 1).values["frechet"]

    assert distance(2 * x - 1) == pytest.approx(0, abs=1e-3)
    with pytest.warns(
        UserWarning, match=r"no value below 0, which is mid-grey: if 0 is black, give 2 \* x - 1"
    ):
        assert distance(x) > 1
    with pytest.warns(UserWarning, match="no value below 0, which is mid-grey"):
        assert distance(x - x.min() - 3e-8) > 1
    with pytest.warns(UserWarning, match="booleans are taken as black and white"):
        assert distance(x > 0.5) == pytest.approx(distance(255 * (x > 0.5).astype(np.uint8)))
    for other in ((255 * x).astype(np.int64), 255 * x, 3 * x - 1):
        with pytest.raises(ExperimentError, match=r"uint8 in \[0, 255\] or floats in \[-1, 1\], these are"):
            scoring.against(other, split="held out")


@pytest.mark.filterwarnings("error")
def test_data_of_other_shares_than_samples_are_drawn_for_are_named(tmp_path):
    """A perfect generator of 90:10 data is far from a balanced set."""
    path, source = str(tmp_path / "test.npz"), from_toy(toy.ring(), 8)
    x = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 1), np.uint8)
    asked = np.repeat([0, 1], [9000, 1000])
    np.savez(path, x=x, y=np.repeat([0, 1], 200))
    with pytest.warns(
        UserWarning, match=r"has others \(class 0: 0.5 there, 0.9 of the samples\): a distance to it"
    ):
        scoring.reference(path, (4, 4, 1), source, 3, asked=asked)
    scoring.reference(path, (4, 4, 1), source, 3)
    np.savez(path, x=x, y=np.repeat([0, 1], [345, 55]))  # of its own draw
    scoring.reference(path, (4, 4, 1), source, 3, asked=asked)
    np.savez(
        path, x=x, y=np.repeat([0, 2**31 - 1], 200)
    )  # numbers of something, which are no places of an array
    with pytest.warns(UserWarning, match=r"others \(class 2147483647: 0.5 there, 0 of the samples\)"):
        scoring.reference(path, (4, 4, 1), source, 3, asked=np.repeat([0, 1], [6000, 4000]))
    np.savez(path, x=x)
    scoring.reference(path, (4, 4, 1), source, 3, asked=asked)


@pytest.mark.filterwarnings("error")
def test_shares_of_classes_are_those_of_their_names(tmp_path):
    """A folder that lacks a class numbers the others anew."""
    source, asked = from_toy(toy.ring(), 8), np.repeat([0, 1, 2], [0, 50, 50])
    for name in ("dog", "fox"):
        (tmp_path / name).mkdir()
        for place in range(40):
            Image.new("L", (4, 4), place).save(tmp_path / name / f"{place}.png")
    scoring.reference(str(tmp_path), (4, 4, 1), source, 3, asked=asked, classes=("cat", "dog", "fox"))
    with pytest.warns(UserWarning, match=r"others \(class ant: 0 there, 0.5 of the samples\)"):
        scoring.reference(str(tmp_path), (4, 4, 1), source, 3, asked=asked, classes=("cat", "ant", "dog"))


def test_a_split_of_tfds_is_asked_for_in_the_samples_size(monkeypatch):
    asked = {}

    def load(spec, **options):
        asked[spec] = options
        return Dataset(arrays={"x": np.zeros((5, 4, 4, 3), np.uint8)})

    monkeypatch.setattr(scoring, "load_dataset", load)
    real, description = scoring.reference("tfds:flowers@test", (4, 4, 3), from_toy(toy.ring(), 8), 3)
    assert asked == {"tfds:flowers@test": {"size": (4, 4), "channels": 3}}
    assert (len(real), description) == (5, "tfds:flowers@test")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("pixls", (4, 4, 1), r"did you mean 'pixels'"),
        ("classifier", (4, 4, 1), "not understood"),
        ("pixels:3", (4, 4, 1), "not understood"),
        ("pixels", (2,), r"needs images, but the samples have shape \(2,\)"),
        ("inception:none.npz", (4, 4, 1), "none.npz"),
    ],
)
def test_an_extractor_that_cannot_be_had_is_one_line(name, shape, message):
    with pytest.raises(ExperimentError, match=message):
        scoring.extractor_named(name, shape)


def test_too_few_samples_and_bad_ones_are_named():
    images = np.zeros((9, 4, 4, 1), np.uint8)
    compare = scoring.against(images, split="zeros", which=("neighbors",))
    with pytest.raises(ExperimentError, match="at least 6 samples, got 3"):
        compare(np.zeros((3, 4, 4, 1), np.float32))
    with pytest.raises(ExperimentError, match="NaN or infinity"):
        compare(np.full((9, 4, 4, 1), np.nan, np.float32))
    with pytest.raises(ExperimentError, match=r"did you mean 'frechet'"):
        scoring.against(images, split="zeros", which=("freshet",))


# ---------------------------------------------------------------------------------------------------------
# In the loop


class Counted:
    """An iterator of batches that can be resumed, and counts what was drawn."""

    def __init__(self):
        self.place = self.drawn = 0

    def __next__(self):
        self.drawn += 1
        rng = np.random.default_rng(self.place)
        self.place += 1
        return {"x": rng.normal(size=(8, 2)).astype(np.float32)}

    def get_state(self):
        return {"place": self.place}

    def set_state(self, state):
        self.place = state["place"]


class Endless:
    """An iterator that cannot go back."""

    def __init__(self):
        self.counted = Counted()

    def __next__(self):
        return next(self.counted)


@pytest.mark.parametrize("iterator", [Counted, Endless])
@pytest.mark.full
def test_looking_takes_nothing_from_a_stream(tmp_path, iterator):
    """Evaluations, probes and logs every other round: the same batches are drawn, once, for the same run."""
    states, drawn = [], []
    for often in (0, 2):
        examples = iterator()
        made = experiment(
            source=stream.from_iterator(examples, 8),
            evaluate_every=often,
            log_every=often or 12,
            probes=[diagnostics.distances] if often else [],
        )
        states.append(jax.device_get(loop.train(made, Workdir(tmp_path / str(often)), log=quiet)))
        drawn.append(getattr(examples, "counted", examples).drawn)
    assert drawn == [24, 24]
    chex.assert_trees_all_equal(states[0].players, states[1].players)


def scripted(*values):
    """An evaluation that gives these numbers, one a round of evaluation (two calls: averaged, raw)."""
    calls = iter(np.repeat(values, 2))
    return lambda samples: {"distance": float(next(calls))}


@pytest.mark.full
def test_the_best_checkpoint_is_kept_and_the_newest_never_lost(tmp_path):
    made = experiment(
        evaluations={"scripted": scripted(5.0, 1.0, 3.0, 2.0, 4.0, 6.0)},
        evaluate_every=2,
        keep=1,
        best=best_by("min:distance"),
    )
    said = []
    loop.train(made, Workdir(tmp_path), log=said.append)
    with Checkpoints(tmp_path / "checkpoints", keep=1, best=made.best) as checkpoints:
        assert checkpoints.steps() == [4, 12]
        assert checkpoints.best() == 4
        assert checkpoints.manifest(4)["metrics"]["samples/raw/distance"] == 1.0
        assert checkpoints.latest_valid() == 12
    assert any("Best by distance: round 4 (--checkpoint=4)" in line for line in said)
    logged = {
        line["step"]: line["evaluation/samples/ema/distance"]
        for line in read_metrics(Workdir(tmp_path))
        if "evaluation/samples/ema/distance" in line
    }
    assert logged == {2: 5.0, 4: 1.0, 6: 3.0, 8: 2.0, 10: 4.0, 12: 6.0}


@pytest.mark.full
def test_a_resumed_run_knows_the_best_of_the_first_launch(tmp_path):
    def launch(rounds, *values):
        made = experiment(
            rounds=rounds,
            evaluations={"scripted": scripted(*values)},
            evaluate_every=2,
            keep=1,
            best=Best("distance"),
        )
        loop.train(made, Workdir(tmp_path), log=quiet)

    launch(4, 1.0, 5.0)
    launch(8, 3.0, 4.0)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [2, 8]


@pytest.mark.full
def test_a_best_that_no_evaluation_gives_is_named(tmp_path):
    made = experiment(evaluations={"a": scripted(1.0)}, evaluate_every=2, best=Best("distanse"))
    with pytest.raises(ExperimentError, match=r"names distanse \(did you mean 'distance'\?\)"):
        loop.train(made, Workdir(tmp_path), log=quiet)
    with pytest.raises(ExperimentError, match="set evaluate_every"):
        experiment(best=Best("distance"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frechet", Best("frechet", mode="min")),
        ("recall", Best("recall", mode="max")),
        ("samples/raw/kid", Best("samples/raw/kid", mode="min")),
        ("players/critic/loss", Best("players/critic/loss", mode="min")),
        ("max:frechet", Best("frechet", mode="max")),
        ("", None),
    ],
)
def test_the_direction_of_best_is_known_or_given(text, expected):
    assert best_by(text) == expected
    with pytest.raises(ExperimentError, match=r"needs a direction, min:mystery or max:mystery"):
        best_by("mystery")
    with pytest.raises(ExperimentError, match="min:METRIC or max:METRIC"):
        best_by("least:frechet")


# ---------------------------------------------------------------------------------------------------------
# Alarms and probes in the loop


def deaf(objective):
    """The objective with a generator that learns nothing after round 5."""

    def change(context, output):
        return output._replace(value=output.value * (context.step < 5))

    return helpers.changed_loss(objective, "generator", change)


def logging_fields(rounds=12, **changes):
    given = {
        "game": make_game(deaf(non_saturating(PRIOR)), ema={"generator": 0.9}),
        "rounds": rounds,
        "log_every": 2,
        "diagnostics": [diagnostics.histograms],
        "probes": [
            diagnostics.health_of_state,
            diagnostics.distances,
            diagnostics.opposition,
            diagnostics.spectral_norms,
        ],
    }
    return experiment(**(given | changes))


@pytest.mark.full
def test_an_alarm_is_in_the_terminal_once_and_in_every_line_while_it_holds(tmp_path, capsys):
    loop.train(logging_fields(), Workdir(tmp_path), log=quiet)
    lines = read_metrics(Workdir(tmp_path))
    alarmed = [line["step"] for line in lines if "alarm/vanishing_gradient" in line]
    assert alarmed == [6, 8, 10, 12]
    assert "gradient norm of the generator is 0" in lines[-1]["alarm/vanishing_gradient"]
    err = capsys.readouterr().err
    assert err.count("Alarm at round") == 1
    assert "Alarm at round 6: vanishing_gradient. The gradient norm of the generator is 0." in err
    assert "What usually helps: the -log D generator loss" in err


@pytest.mark.full
def test_probes_and_histograms_are_in_the_log_and_the_same_after_a_resume(tmp_path, capsys):
    loop.train(logging_fields(), Workdir(tmp_path / "whole"), log=quiet)
    loop.train(logging_fields(rounds=9), Workdir(tmp_path / "cut"), log=quiet)
    capsys.readouterr()
    loop.train(logging_fields(), Workdir(tmp_path / "cut"), log=quiet)
    assert "Alarm" not in capsys.readouterr().err, "the first launch showed it"
    complete, cut = (
        [{k: v for k, v in line.items() if k != "time"} for line in read_metrics(Workdir(tmp_path / name))]
        for name in ("whole", "cut")
    )
    assert complete == cut
    last = complete[-1]
    assert len(last["critic/score_real_histogram"][1]) == 65
    assert last["generator/distance_to_start"] > complete[0]["generator/distance_to_start"] > 0
    assert {
        "generator/distance_to_average",
        "critic/spectral_norm/score",
        "generator/cosine_to_critic",
    } <= set(last)


@pytest.mark.full
def test_what_is_not_finite_is_in_the_log_too(tmp_path):
    base = non_saturating(PRIOR)

    def broken(context, output):
        return helpers.valued(output, jnp.where(context.step >= 3, jnp.inf, output.value))

    objective = helpers.changed_loss(base, "critic", broken)
    with pytest.raises(NonFiniteError, match=r"What usually helps: smaller learning rates"):
        loop.train(experiment(game=make_game(objective)), Workdir(tmp_path), log=quiet)
    last = read_metrics(Workdir(tmp_path))[-1]
    assert last["step"] == 3
    assert last["alarm/non_finite"].startswith("The critic's loss was inf at round 3.")


@pytest.mark.full
def test_diagnostics_are_the_same_on_eight_devices(tmp_path):
    """Batch statistics of what they read are global: a histogram is of the whole batch."""
    lines = []
    for devices in (1, 8):
        made = logging_fields(diagnostics=list(diagnostics.DIAGNOSTICS.values()))
        layout = make_layout("jit", jax.devices()[:devices])
        critics = (Turn(("critic",)),)
        run = layout.compile(made.game, made.source, schedule=critics, diagnostics=made.diagnostics)
        state = layout.begin(functools.partial(init_state, made.game), jax.random.key(0))
        host_batches = stack_rounds(made.source, 0, 1, 2, 2)
        _, metrics = run(state, layout.place(made.source.device_data), host_batches, 2)
        lines.append(jax.device_get(metrics))
    chex.assert_trees_all_close(*lines, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------
# Describing


@pytest.mark.full
def test_a_rounds_operations_are_those_of_its_turns():
    """Linear networks: the critic's turn multiplies z W once and takes four products with w, each 2 B n m."""
    b, z, d = 32, 48, 512

    def dense(inputs, outputs):
        def apply(params, model_state, x, train, key):
            return (x @ params)[:, 0] if outputs is None else x @ params, model_state

        return Network(init=lambda key: (jnp.ones((inputs, outputs or 1)), ()), apply=apply)

    from gan_jax.functional.priors import gaussian

    game = helpers.game(
        wgan(gaussian(z)),
        networks_={"critic": dense(d, None), "generator": dense(z, d)},
        optimizer=optax.sgd,
        schedule=alternating(3),
    )
    source = from_arrays({"x": np.zeros((40, d), np.float32)}, b)
    generator_forward = 2 * b * z * d
    # The draws and element-wise work are small change beside the generator's product.
    critic = describe.turn_flops(game, source, Turn(("critic",)))
    assert generator_forward < critic < 1.3 * generator_forward
    generator = describe.turn_flops(game, source, Turn(("generator",)))
    assert 2 * generator_forward < generator < 2.3 * generator_forward, "forward, and back to the weights"
    text = describe.describe_run(experiment(game=game, source=source))
    assert "3 x critic, generator" in text
    assert f"parameters  {d + z * d:,} of 2 players" in text
    assert re.search(
        rf"^a round +{re.escape(describe.quantity(3 * critic + generator))}FLOP$", text, re.MULTILINE
    )
