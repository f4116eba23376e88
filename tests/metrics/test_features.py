"""Extractors, fingerprints and image scores: what they refuse, what they say, and that devices change nothing."""

import dataclasses
import functools
import json
import tracemalloc

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from gan_jax import data, metrics
from gan_jax.metrics.features import _compiled, check_images, names_of, tree_digest


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_three_lines_on_two_arrays_of_images(digits):
    real, fake = digits["x"][:300], digits["x"][300:600]
    scores = metrics.image_scores(real, fake, metrics.classifier_for("digits"), split="digits")
    assert {"frechet", "kernel", "classifier_score", "precision", "sliced_wasserstein"} <= set(scores.values)
    assert not {"fid", "kid", "inception_score"} & set(scores.values)  # no Inception, no FID
    noise = np.random.default_rng(0).integers(256, size=fake.shape, dtype=np.uint8)
    worse = metrics.image_scores(real, noise, metrics.classifier_for("digits"), split="digits")
    assert worse.values["frechet"] > 5 * scores.values["frechet"]
    assert worse.values["precision"] < scores.values["precision"] / 2
    assert "digits" in str(scores)


def test_uint8_and_floats_of_the_same_pictures_have_the_same_features(digits):
    images = digits["x"][:20]
    pixels = metrics.pixels()
    as_bytes = metrics.extract(pixels, images)
    as_floats = metrics.extract(pixels, images / np.float32(127.5) - 1)
    np.testing.assert_allclose(as_bytes.features, as_floats.features, atol=1e-6)
    np.testing.assert_allclose(as_bytes.features, images.reshape(20, -1) / 127.5 - 1, atol=1e-6)
    assert (as_bytes.value_range, as_floats.value_range) == ("uint8 [0, 255]", "float [-1, 1]")


def test_batches_and_devices_change_nothing(digits):
    images = digits["x"][:50]
    extractor = metrics.classifier_for("digits")
    whole = metrics.extract(extractor, images)
    parts = metrics.extract(extractor, images, batch_size=16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spread = metrics.extract(extractor, images, batch_size=16, mesh=mesh)
    for other in (parts, spread):
        np.testing.assert_allclose(other.features, whole.features, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(other.logits, whole.logits, rtol=1e-5, atol=1e-5)


def test_features_extracted_once_give_the_same_scores(digits):
    real, fake = digits["x"][:100], digits["x"][100:200]
    extractor = metrics.classifier_for("digits")
    kept = metrics.extract(extractor, real)
    assert (
        metrics.image_scores(kept, fake, extractor).values
        == metrics.image_scores(real, fake, extractor).values
    )
    with pytest.raises(ValueError, match="features are those of 'classifier of digits'"):
        metrics.image_scores(kept, fake, metrics.pixels())


def fingerprint(**changes):
    given = {"extractor": "e", "weights": "w", "resize": "none", "value_range": "float [-1, 1]"}
    return metrics.Fingerprint(**{**given, "real": 10, "fake": 10, "split": "test", "seed": 0, **changes})


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(metrics.Fingerprint)])
def test_every_field_changes_the_key_and_marks_the_table(field):
    base = fingerprint()
    other = fingerprint(**{field: 11 if field in ("real", "fake", "seed") else "another"})
    assert base.key == fingerprint().key != other.key
    table = metrics.score_table(
        {"a": metrics.Scores({"m": 1.0}, base), "b": metrics.Scores({"m": 2.0}, other)}
    )
    assert "b [1]" in table
    assert f"[1] {field}:" in table
    same = metrics.score_table({"a": metrics.Scores({"m": 1.0}, base), "b": metrics.Scores({"n": 2.0}, base)})
    assert "[" not in same
    assert " - " in same or same.rstrip().endswith("2")  # a number that one row has not is a dash


def test_scores_survive_json():
    scores = metrics.Scores({"frechet": 1.25, "kernel": -0.5}, fingerprint(settings="k=5"))
    stored = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    assert metrics.Scores.from_dict(stored) == scores
    assert stored["key"] == scores.fingerprint.key


def test_a_digest_depends_on_every_number_name_and_dtype():
    tree = {"a": {"w": np.arange(4, dtype=np.float32)}, "b": np.ones(2)}
    digests = {
        tree_digest(tree),
        tree_digest({"a": {"w": np.arange(4, dtype=np.float32)}, "c": np.ones(2)}),
        tree_digest({"a": {"w": np.array([0, 1, 2, 4], np.float32)}, "b": np.ones(2)}),
        tree_digest({"a": {"w": np.arange(4, dtype=np.float64)}, "b": np.ones(2)}),
        tree_digest({"a": {"w": np.arange(4, dtype=np.float32).reshape(2, 2)}, "b": np.ones(2)}),
    }
    assert len(digests) == 5
    assert tree_digest(jax.tree.map(jax.numpy.asarray, tree["a"])) == tree_digest(tree["a"])


def test_only_the_standard_inception_gives_an_fid():
    custom = metrics.from_callable("mine", lambda x: x.mean(axis=(1, 2)))
    assert names_of(custom)["frechet"] == "frechet"
    assert names_of(dataclasses.replace(custom, inception=True)) == {
        "frechet": "fid",
        "spatial": "sfid",
        "kernel": "kid",
        "monge": "mind",
        "score": "inception_score",
    }


FLOATS = np.linspace(-1, 1, 5 * 16).reshape(5, 4, 4, 1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((5, 16)), r"\[N, H, W, C\], C = 1 to 4, N, H and W > 0; got shape \(5, 16\)\."),
        (np.zeros((5, 0, 4, 1), np.uint8), r"N, H and W > 0; got shape \(5, 0, 4, 1\)\."),
        (np.zeros((5, 3, 16, 16)), r"may be \[N, C, H, W\]: take np\.moveaxis\(images, 1, 3\)"),
        (np.zeros((5, 16, 16)), r"may be grey images \[N, H, W\]: take images\[\.\.\., None\]"),
        (np.zeros((16, 16, 3)), r"may be one image \[H, W, C\]: take images\[None\]"),
        (FLOATS * 1.0011, r"must lie in \[-1, 1\], but these lie in \[-1\.0011, 1\.0011\]"),
        (FLOATS * 1e39, "images: numbers of magnitude up to 1e\\+39, beyond the range of float32"),
        (np.zeros((5, 4, 4, 5)), "C = 1 to 4"),
        (np.zeros((5, 4, 4, 1), np.int32), "got dtype int32"),
        (FLOATS * 127.5 + 127.5, r"float images must lie in \[-1, 1\], but these lie in \[0, 255\]"),
        (np.where(FLOATS > 0.9, np.nan, FLOATS), "NaN"),
        (np.zeros((0, 4, 4, 1)), "N, H and W > 0"),
    ],
)
def test_bad_images_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        check_images(images, "images")


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        ((FLOATS + 1) / 2, FLOATS, {}, r"real images have no value below 0.*2 x - 1"),
        (FLOATS, FLOATS, {"which": ["fid"]}, r"Unknown metrics \['fid'\]"),
        (FLOATS, FLOATS[:1], {"which": ["frechet"]}, "fake: needs at least 2 samples, got 1"),
        (FLOATS, np.full((5, 8, 8, 1), -1.0), {"which": ["frechet"]}, "differ in a sample's shape"),
    ],
)
def test_bad_pairs_are_named(real, fake, options, message):
    with pytest.raises(ValueError, match=message):
        metrics.image_scores(real, fake, **options)


def test_bytes_and_floats_of_one_range_are_compared_as_they_are(digits):
    """The images of a data set against a generator's: what every user has."""
    images = digits["x"][:60]
    floats = images / np.float32(127.5) - 1
    found = metrics.image_scores(images, floats, which=("frechet", "sliced"))
    assert found.values["frechet"] == pytest.approx(0, abs=1e-6)
    assert found.values["sliced_wasserstein"] == pytest.approx(0, abs=1e-6)
    assert found.fingerprint.value_range == "uint8 [0, 255] and float [-1, 1]"
    shifted = metrics.image_scores(images, np.clip(floats, -1, 0), which=("frechet",))
    back = metrics.image_scores(floats, np.clip(floats, -1, 0), which=("frechet",))
    assert shifted.values["frechet"] == pytest.approx(back.values["frechet"], rel=1e-5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((FLOATS > 0).astype(np.uint8), r"images: uint8 images in \[0, 1\] .* multiply by 255"),
        (FLOATS > 0, "images: boolean images are converted to 0 \\(black\\) and 255"),
        ((FLOATS + 1) / 2, r"images: float images in \[0, 1\] have no value below 0.*2 x - 1"),
        (((FLOATS + 1) / 4 + 0.1).astype(np.float16), r"images: float images in \[0\.1, 0\.6\]"),
    ],
)
def test_a_probable_other_range_is_a_one_line_warning(images, message):
    with pytest.warns(UserWarning, match=message) as said:
        check_images(images, "images")
    assert len(said) == 1
    assert "\n" not in str(said[0].message)


def test_ranges_that_are_what_they_are_give_no_warning():
    for images in (
        FLOATS,
        np.zeros_like(FLOATS),
        np.zeros(FLOATS.shape, np.uint8),
        np.full(FLOATS.shape, 0.5),
    ):
        check_images(images, "images")
    black_and_white = check_images((FLOATS > 0) * np.uint8(255), "images")
    with pytest.warns(UserWarning, match="boolean"):
        np.testing.assert_array_equal(check_images(FLOATS > 0, "images"), black_and_white)


def test_a_metric_that_cannot_be_computed_is_left_out_by_itself_with_its_reason():
    rng = np.random.default_rng(0)
    real, fake = rng.uniform(-1, 1, size=(200, 4, 4, 1)), rng.uniform(-1, 1, size=(30, 4, 4, 1))
    found = metrics.image_scores(real, fake, block_size=10)
    assert list(found.left_out) == ["kernel"]
    assert "leave a block with fewer than two" in found.left_out["kernel"]
    assert {"frechet", "precision", "sliced_wasserstein"} <= set(found.values)
    assert "left out: kernel: 200 real and 30 fake samples" in str(found)
    assert metrics.Scores.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    single = metrics.image_scores(real[:64], fake, which=("kernel",))
    assert "kernel" in single.values
    assert single.left_out == {"kernel_error": "the samples make one block, which has no spread"}
    few = metrics.image_scores(real[:4], fake[:4])
    assert "neighbors" in few.left_out
    assert "frechet" in few.values
    with pytest.raises(ValueError, match="neighbors: real: needs at least 6 samples, got 4"):
        metrics.image_scores(real[:4], fake[:4], which=("neighbors",))


def test_coverage_stands_beside_what_real_images_reach_and_k_in_the_fingerprint():
    rng = np.random.default_rng(0)
    real, fake = rng.uniform(-1, 1, size=(60, 2, 2, 1)), rng.uniform(-1, 1, size=(20, 2, 2, 1))
    found = metrics.image_scores(real, fake, which=("neighbors",), neighbors=2)
    assert found.values["coverage_ceiling"] == pytest.approx(1 - 59 * 58 / (79 * 78))
    other = metrics.image_scores(real, fake, which=("neighbors",), neighbors=3)
    assert found.fingerprint.differences(other.fingerprint) == [
        "settings: neighbors=2 block_size=1000 covariance=N-1 against neighbors=3 block_size=1000 covariance=N-1"
    ]
    fewer = metrics.image_scores(real, fake[:10], which=("neighbors",), neighbors=2)
    assert found.fingerprint.differences(fewer.fingerprint) == ["fake: 20 against 10"]


def test_features_that_are_not_finite_or_not_a_matrix_are_named():
    with pytest.raises(ValueError, match="features of images by 'log'"):
        metrics.extract(metrics.from_callable("log", lambda x: jax.numpy.log(x.mean((1, 2)) - 5)), FLOATS)
    with pytest.raises(ValueError, match=r"must return features \[B, D\], got \(8, 4, 4, 1\)"):
        metrics.extract(metrics.from_callable("same", lambda x: x), FLOATS)
    with pytest.raises(ValueError, match="returns no logits"):
        metrics.classify(metrics.pixels(), FLOATS)


def test_what_a_function_carries_is_its_weights():
    """Two functions of one name with other numbers inside never share a fingerprint, however they hold them."""
    first, second = np.eye(16, 3), 2 * np.eye(16, 3)

    def closure(matrix):
        return lambda x: x.reshape(x.shape[0], -1) @ matrix

    class Owner:
        def __init__(self, matrix):
            self.matrix = matrix

        def features(self, x):
            return x.reshape(x.shape[0], -1) @ self.matrix

    def given(matrix, x):
        return x.reshape(x.shape[0], -1) @ matrix

    for make in (closure, lambda m: Owner(m).features, lambda m: functools.partial(given, m)):
        base, same, other = (metrics.from_callable("mine", make(m)) for m in (first, first.copy(), second))
        assert base.weights == same.weights != other.weights
        assert "none" not in (base.weights, other.weights)
    assert metrics.from_callable("mine", lambda x: x.mean((1, 2))).weights == "none"


def test_two_sets_with_the_same_name_differ_and_a_set_in_another_order_does_not():
    real, fake = np.random.default_rng(0).uniform(-1, 1, size=(2, 20, 4, 4, 1))
    found = {
        name: metrics.image_scores(images, fake, which=("sliced",), split="test")
        for name, images in (("a", real), ("b", real[::-1]), ("c", np.abs(real) - 1))
    }
    assert found["a"].fingerprint == found["b"].fingerprint
    table = metrics.score_table(found)
    assert "c [1]" in table
    assert "[1] data: " in table


def test_the_fingerprint_names_the_platform_the_precision_and_the_covariance(digits):
    scores = metrics.image_scores(digits["x"][:30], digits["x"][30:60], which=("frechet",), ddof=0)
    found = scores.fingerprint
    device = jax.devices()[0]
    assert (found.platform, found.device, found.precision) == (device.platform, device.device_kind, "highest")
    assert "covariance=N-0" in found.settings
    other = metrics.image_scores(digits["x"][:30], digits["x"][30:60], which=("frechet",))
    assert any("covariance=N-0 against" in text for text in found.differences(other.fingerprint))


def test_extractors_compute_at_highest_precision():
    """Whatever the default is: the traced program's products ask for it."""
    square = metrics.from_callable("square", lambda x: x.reshape(len(x), -1) @ jax.numpy.ones((4, 4)))
    text = str(_compiled(square)[1].trace((), np.zeros((1, 2, 2, 1), np.float32)).jaxpr)
    assert "HIGHEST" in text


def test_features_of_another_protocol_are_refused(digits):
    made = metrics.extract(dataclasses.replace(metrics.pixels(), protocol="tf"), digits["x"][:9])
    other = dataclasses.replace(metrics.pixels(), protocol="clean")
    with pytest.raises(ValueError, match=r"tf.* are to use .*clean"):
        metrics.image_scores(made, digits["x"][:9], other)


def test_a_bar_is_shown_from_the_start_while_a_network_is_run(capsys):
    shown = metrics.Extractor(
        name="scaled", apply=lambda w, x: {"features": w * x[:, 0, 0]}, params=np.ones(1)
    )
    images = np.random.default_rng(0).integers(256, size=(6, 4, 4, 3), dtype=np.uint8)
    metrics.image_scores(images, images, shown, which=("frechet",), progress=False)
    metrics.image_scores(images, images, which=("frechet",))  # pixels take no time
    assert not capsys.readouterr().err
    metrics.image_scores(images, images, shown, which=("frechet",))
    said = capsys.readouterr().err
    assert "real:   0%" in said
    assert "fake: 100%" in said
    assert "6/6" in said


def test_a_frechet_distance_of_too_many_dimensions_is_left_out(monkeypatch):
    monkeypatch.setattr(metrics.images, "MOST_DIMENSIONS", 5)
    images = np.random.default_rng(0).integers(256, size=(6, 4, 4, 3), dtype=np.uint8)
    scores = metrics.image_scores(images, images, which=("frechet", "kernel"))
    assert "in 6 dimensions it takes hours" in scores.left_out["frechet"]
    fewer = metrics.image_scores(images[:5], images[:5], which=("frechet",))
    assert fewer.values["frechet"] == pytest.approx(0, abs=1e-6)


@pytest.mark.full
def test_few_images_of_many_pixels_take_little_memory():
    """500 + 500 images of 64 x 64: the 12,288-dimensional covariances alone would take 2.4 GB."""
    real = np.random.default_rng(0).integers(256, size=(500, 64, 64, 3), dtype=np.uint8)
    fake = np.random.default_rng(1).uniform(-1, 1, size=real.shape).astype(np.float32)
    tracemalloc.start()
    try:
        scores = metrics.image_scores(real, fake, which=("frechet", "kernel", "neighbors", "sliced"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {"frechet", "kernel", "precision", "sliced_wasserstein"} <= set(scores.values)
    assert peak < 500e6
