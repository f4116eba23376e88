"""The small classifiers: accuracy on images they have not seen, storage, and stacked digits."""

import numpy as np
import pytest

from gan_jax import data, metrics
from gan_jax.metrics.classifier import WEIGHTS
from gan_jax.metrics.fit import main
from tests.tiers import full


@pytest.mark.parametrize(("name", "least"), [("digits", 0.98), full("mnist5k", 0.97)])
def test_the_stored_classifiers_read_their_held_out_images(name, least):
    """The split is that of `train_classifier` with seed 0: a fifth was never trained on."""
    stored = metrics.classifier_for(name)
    arrays = data.load(name)
    order = np.random.default_rng(0).permutation(len(arrays["x"]))
    held_out = order[: round(0.2 * len(order))]
    classes = metrics.classify(stored, arrays["x"][held_out])
    accuracy = (classes == arrays["y"][held_out]).mean()
    assert accuracy > least
    assert accuracy == pytest.approx(stored.details["held_out_accuracy"], abs=1e-3)
    assert (WEIGHTS / f"{name}.npz").stat().st_size < 1_000_000


@pytest.mark.full
def test_training_storing_and_loading(tmp_path):
    arrays = data.load("digits")
    made = metrics.train_classifier(arrays["x"][:400], arrays["y"][:400], name="quick", steps=60)
    assert made.details["held_out_accuracy"] > 0.5  # chance is 0.1
    file = metrics.save_classifier(made, tmp_path / "quick")
    loaded = metrics.load_classifier(file)
    assert (loaded.name, loaded.weights, loaded.details) == (made.name, made.weights, made.details)
    images = arrays["x"][:10]
    np.testing.assert_array_equal(
        metrics.extract(loaded, images).features, metrics.extract(made, images).features
    )


@pytest.mark.full
def test_stacked_digits_count_the_classifiers_combinations():
    arrays = data.load("mnist5k")
    rng = np.random.default_rng(0)
    rows = rng.integers(5000, size=(200, 3))
    stacked = np.concatenate([arrays["x"][rows[:, c]] for c in range(3)], axis=3)
    labels = arrays["y"][rows]
    truth = metrics.class_statistics(labels @ [100, 10, 1], 1000)
    found = metrics.stacked_digit_statistics(stacked, metrics.classifier_for("mnist5k"))
    assert found["modes"] == 1000
    assert found["samples"] == 200
    assert abs(found["modes_covered"] - truth["modes_covered"]) <= 6
    assert found["reverse_kl"] == pytest.approx(truth["reverse_kl"], abs=0.05)
    single = metrics.stacked_digit_statistics(
        np.repeat(stacked[:1], 4, axis=0), metrics.classifier_for("mnist5k")
    )
    assert single["modes_covered"] == 1
    assert single["reverse_kl"] == pytest.approx(np.log(1000))


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="Labels must be integers"):
        metrics.train_classifier(np.zeros((300, 8, 8, 1), np.uint8), np.zeros(299, int), name="x")
    with pytest.raises(ValueError, match="at least 128 images"):
        metrics.train_classifier(np.zeros((100, 8, 8, 1), np.uint8), np.zeros(100, int), name="x")
    with pytest.raises(ValueError, match="There is no file"):
        metrics.load_classifier(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="holds no classifier"):
        metrics.load_classifier(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="not a classifier"):
        metrics.save_classifier(metrics.pixels(), tmp_path / "pixels")


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    assert main(["digits", f"--out={tmp_path / 'd.npz'}", "--steps=50"]) == 0
    assert "held-out accuracy" in capsys.readouterr().out
    assert main(["digit", f"--out={tmp_path / 'd.npz'}"]) == 1
    assert "There is no data set 'digit'" in capsys.readouterr().err
