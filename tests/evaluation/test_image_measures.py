"""Measures of labels, held-out images and the images themselves, in comparisons."""

import functools

import jax
import numpy as np
import pytest
from PIL import Image

import gan_jax as gj
from gan_jax import metrics
from gan_jax.data.errors import DataError
from gan_jax.metrics import classification_accuracy, summaries
from gan_jax.training.experiment import ExperimentError


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(summaries, "BATCH", 16)
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))


def drawn(number, seed=0, level=128):
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(level, 40, (number, 4, 4, 1)), 0, 255).astype(np.uint8)


def compare(real, fake, metric, **options):
    return gj.compare(real, fake, metrics=[metric], devices=jax.devices()[:1], progress=False, **options)


def labelled(path, images, labels, name="y"):
    np.savez(path, arr_0=images, **{name: labels})
    return path


def test_distances_of_classes_are_those_of_their_images_whatever_the_classes_are_called(tmp_path):
    real, fake = drawn(60), drawn(40, 1)
    classes, others = np.arange(60) % 2, np.arange(40) % 2
    named = folder_of(tmp_path / "real", real, [("cat", "dog")[label] for label in classes])
    found = compare(named, labelled(tmp_path / "b.npz", fake, others, "arr_1"), "per_class")
    assert any("numbered in their order, 0 cat to 1 dog" in note for note in found.notes)
    (column,) = found.fakes.values()
    x, y = (metrics.extract(metrics.pixels(), side).features for side in (real, fake))
    expected = metrics.class_frechet_distances(x, classes, y, others)
    assert column.bounds["frechet per class (mean of 2)"][0] == pytest.approx(float(expected))
    assert column.bounds["frechet of class 1"][0] == pytest.approx(expected.distances[1])
    value, low, high = column.bounds["frechet per class (mean of 2)"]
    assert low < high < value + (high - low)  # of few images the value is biased upwards


def folder_of(path, images, owners):
    for place, (image, owner) in enumerate(zip(images, owners, strict=True)):
        (path / owner).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path / owner / f"{place:02d}.png")
    return path


@pytest.mark.parametrize(
    ("owners", "names"),
    [
        ([str(k) for k in range(12)], None),  # in the order of their names 10 comes before 2
        (["ant", "owl"], ["ant", "cow", "owl"]),  # as `--mode=sample` writes them, of a run that has one more
    ],
)
def test_classes_are_matched_by_what_they_are_called_and_not_by_their_order(tmp_path, owners, names):
    """Each class has a brightness of its own, so that the distances of other pairs of classes are others."""
    levels = {owner: 20 + 18 * place for place, owner in enumerate(owners)}
    made = [owner for owner in owners for _ in range(20)]
    real, fake = (
        np.stack([drawn(1, 99 * side + place, levels[owner])[0] for place, owner in enumerate(made)])
        for side in (0, 1)
    )
    kept = {} if names is None else {"classes": np.array(names)}
    numbers = [int(owner) if names is None else names.index(owner) for owner in made]
    np.savez(tmp_path / "fake.npz", x=fake, y=numbers, **kept)
    found = compare(folder_of(tmp_path / "real", real, made), tmp_path / "fake.npz", "per_class")
    (column,) = found.fakes.values()
    x, y = (metrics.extract(metrics.pixels(), side).features for side in (real, fake))
    rows = [[place for place, other in enumerate(made) if other == owner] for owner in owners]
    expected = np.mean([metrics.frechet_distance(x[of_class], y[of_class]) for of_class in rows])
    measured = column.bounds[f"frechet per class (mean of {len(owners)})"][0]
    assert measured == pytest.approx(expected, rel=1e-6)


def test_numbers_beyond_the_names_of_another_set_are_refused(tmp_path):
    real = folder_of(tmp_path / "real", drawn(40), ["ant", "owl"] * 20)
    fake = labelled(tmp_path / "fake.npz", drawn(40, 1), np.arange(40) % 3)
    with pytest.raises(
        ExperimentError, match=r"has 2 classes \(ant, owl, ...\), and another set numbers them up to 2"
    ):
        compare(real, fake, "per_class")


@pytest.mark.parametrize("metric", ["per_class", "classification_accuracy"])
def test_images_without_a_class_are_not_counted_as_the_last_one(tmp_path, metric):
    """-1 marks hidden labels, and is the last place of a list of names."""
    labels = np.arange(60) % 3
    real, fake = tmp_path / "real.npz", tmp_path / "fake.npz"
    names = np.array(["ant", "cow", "owl"])
    np.savez(real, x=drawn(60), y=labels, classes=names)
    np.savez(fake, x=drawn(60, 1), y=np.where(labels == 0, -1, labels), classes=names)
    with pytest.raises(ExperimentError, match="has labels from -1 to 2, and names the classes 0 to 2"):
        compare(real, fake, metric)


def test_names_that_are_numbers_in_another_order_are_said_where_another_set_has_numbers(tmp_path):
    real = folder_of(tmp_path / "real", drawn(60), ["0", "1", "10"] * 20)
    fake = labelled(tmp_path / "fake.npz", drawn(60, 1), np.arange(60) % 3)
    found = compare(real, fake, "per_class")
    assert any("the numbers that they are called by, 0, 1, 10, since" in note for note in found.notes)
    assert any("class 2 is left out" in note for note in found.notes)


def test_a_class_that_is_lost_has_a_supported_difference_and_one_without_images_is_named(tmp_path):
    labels = np.arange(80) % 4
    lost = np.where((labels == 3)[:, None, None, None], drawn(80, 1, level=230), drawn(80, 2))
    sets = {
        "good": labelled(tmp_path / "good.npz", drawn(80, 3), labels),
        "lost": labelled(tmp_path / "lost.npz", lost, labels),
    }
    real = labelled(tmp_path / "real.npz", drawn(81), np.append(labels, 9))
    found = compare(real, sets, "per_class")
    supported = {each.metric: each.supported for each in found.differences}
    assert supported["frechet of class 3"]
    assert supported["frechet per class (mean of 4)"]
    assert not supported["frechet of class 0"]
    assert any("class 9 is left out" in note for note in found.notes)


def test_copies_are_counted_with_their_interval_and_shown(tmp_path):
    real, held_out = drawn(100), drawn(200, 1)
    copies = np.concatenate([drawn(60, 2), real[:40]])
    sets = {"fresh": drawn(100, 3), "copies": copies}
    found = compare(real, sets, "memorization", held_out=held_out, duplicates=tmp_path / "pairs.png")
    value, low, high = found.fakes["copies"].bounds["memorized (pixels)"]
    assert low < value < high
    assert value == pytest.approx(0.4, abs=0.03)
    (difference,) = found.differences
    assert difference.supported
    assert difference.low < difference.value < difference.high
    with Image.open(tmp_path / "pairs.png") as picture:
        grid = np.asarray(picture)
    # Eight columns: the last four rows are of the copies, each beside its original.
    first, other = (grid[20:24, left : left + 4] for left in (0, 5))
    assert (first == other).all()
    assert (grid[20:24, 10:14] != first).any()


@pytest.mark.full
def test_a_classifier_of_fakes_is_tested_on_real_images(tmp_path, monkeypatch):
    short = functools.partial(metrics.train_classifier, steps=60, features=8)
    monkeypatch.setattr(classification_accuracy, "train_classifier", short)
    labels = np.arange(200) % 2
    real, fake = (
        np.where((labels == 1)[:, None, None, None], drawn(200, seed, 200), drawn(200, seed + 1, 60))
        for seed in (0, 2)
    )
    real_path = labelled(tmp_path / "real.npz", real, labels)
    swapped = {
        "right": labelled(tmp_path / "right.npz", fake, labels),
        "swapped": labelled(tmp_path / "swapped.npz", fake, 1 - labels),
    }
    found = compare(real_path, swapped, "classification_accuracy")
    values = {name: next(iter(column.bounds.values()))[0] for name, column in found.fakes.items()}
    assert values["right"] > 0.95
    assert values["swapped"] < 0.05
    assert any("without an interval of the difference" in note for note in found.notes)


@pytest.mark.parametrize(
    ("metric", "options", "error", "message"),
    [
        ("memorization", {}, ExperimentError, "give held_out"),
        ("frechet", {"held_out": drawn(9)}, ExperimentError, "are for the metric memorization"),
        ("memorization", {"held_out": drawn(50)}, ExperimentError, "needs 100 held-out data or more"),
        ("memorization", {"held_out": drawn(1)}, DataError, "'held out' has a single image"),
        ("per_class", {}, ExperimentError, "'real' has no labels: expected sub-folders"),
        ("classification_accuracy", {}, ExperimentError, "'real' has no labels"),
    ],
)
def test_what_a_measure_lacks_is_said(metric, options, error, message):
    with pytest.raises(error, match=message):
        compare(drawn(9), drawn(9, 1), metric, **options)
