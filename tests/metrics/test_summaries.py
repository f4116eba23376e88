"""Features of sets that stream: the moments of all images, a part of the features, and the cache."""

import dataclasses
import errno

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from PIL import Image

from gan_jax import metrics
from gan_jax.data.image_sets import from_array, open_images
from gan_jax.metrics import summaries
from gan_jax.metrics.summaries import summarize


@pytest.fixture(autouse=True)
def small_batches(monkeypatch, tmp_path):
    monkeypatch.setattr(summaries, "BATCH", 16)
    monkeypatch.setattr(summaries, "ROWS", 40)
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))


def drawn(number=100):
    return np.random.default_rng(0).integers(256, size=(number, 3, 3, 1), dtype=np.uint8)


def test_all_features_of_a_small_set_are_those_of_extract():
    summary = summarize(metrics.pixels(), from_array(drawn(), "set"))
    whole = metrics.extract(metrics.pixels(), drawn())
    np.testing.assert_array_equal(summary.features.features, whole.features)
    assert (summary.number, summary.complete) == (100, True)
    assert summary.features.data == whole.data


def test_moments_are_of_all_images_where_a_part_is_kept():
    summary = summarize(metrics.pixels(), from_array(drawn(), "set"), kept=30)
    whole = metrics.extract(metrics.pixels(), drawn()).features
    assert summary.features.features.shape == (30, 9)
    assert {row.tobytes() for row in summary.features.features} <= {row.tobytes() for row in whole}
    np.testing.assert_allclose(summary.moments.mean, whole.mean(0), atol=1e-7)
    np.testing.assert_allclose(summary.moments.covariance, np.cov(whole, rowvar=False), atol=1e-7)
    assert not summary.complete


def test_what_is_kept_is_bounded_in_bytes_and_wide_moments_are_left_out(monkeypatch):
    monkeypatch.setattr(summaries, "KEPT_BYTES", 20 * 9 * 4)
    assert len(summarize(metrics.pixels(), from_array(drawn(), "set")).features.features) == 20
    monkeypatch.setattr(summaries, "MOST_DIMENSIONS", 8)
    assert summarize(metrics.pixels(), from_array(drawn(), "set")).moments is None


def test_features_of_the_same_content_are_read_from_the_cache():
    calls = []

    def counted(number):
        calls.append(number)

    stable = dataclasses.replace(metrics.pixels(), stable=True)
    first = summarize(stable, from_array(drawn(), "one"), progress=counted)
    assert sum(calls) == 100
    again = summarize(stable, from_array(drawn(), "the same by another name"), progress=counted)
    assert sum(calls) == 100
    np.testing.assert_array_equal(again.features.features, first.features.features)
    for changed in (
        lambda: summarize(stable, from_array(drawn(99), "other images"), progress=counted),
        lambda: summarize(
            dataclasses.replace(stable, protocol="tf"), from_array(drawn(), "x"), progress=counted
        ),
        lambda: summarize(metrics.pixels(), from_array(drawn(), "not stable"), progress=counted),
    ):
        before = sum(calls)
        changed()
        assert sum(calls) > before


@pytest.mark.full
def test_devices_change_nothing():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    classifier = metrics.classifier_for("digits")
    images = np.random.default_rng(1).integers(256, size=(150, 8, 8, 1), dtype=np.uint8)
    single = summarize(classifier, from_array(images, "set"), use_cache=False)
    spread = summarize(classifier, from_array(images, "set"), mesh=mesh, use_cache=False)
    np.testing.assert_allclose(spread.features.features, single.features.features, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(spread.features.logits, single.features.logits, rtol=1e-5, atol=1e-5)


def test_features_without_an_image_that_a_server_did_not_give_are_not_kept(tmp_path, monkeypatch):
    """Those of the five others were served until somebody deleted the cache."""
    folder, opened = tmp_path / "images", Image.open
    folder.mkdir()
    for place, image in enumerate(drawn(6)):
        Image.fromarray(image[..., 0]).save(folder / f"{place}.png")
    (folder / "6.png").write_bytes(b"no image")

    def refusing(file, *args, **kwargs):
        if str(file).endswith("4.png"):
            raise OSError(errno.EIO, "Input/output error")
        return opened(file, *args, **kwargs)

    stable = dataclasses.replace(metrics.pixels(), stable=True)
    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", refusing)
        found = summarize(stable, open_images(folder, damaged="skip"))
        assert (found.number, len(found.features.features)) == (5, 5)
        assert found.skipped == {"4.png": "damaged: [Errno 5] Input/output error", "6.png": "not an image"}
    assert list((tmp_path / "cache").iterdir()) == []
    found = summarize(stable, open_images(folder, damaged="skip"))
    assert (found.number, found.skipped) == (6, {"6.png": "not an image"})
    assert len(list((tmp_path / "cache").iterdir())) == 1
