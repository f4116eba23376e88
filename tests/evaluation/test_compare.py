"""Comparisons without a run: what is read, measured, marked and refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

import gan_jax as gj
from gan_jax import metrics
from gan_jax.data.errors import DataError
from gan_jax.data.image_sets import open_images
from gan_jax.evaluation.comparison import Column, outside_lines
from gan_jax.metrics import Fingerprint, summaries
from gan_jax.metrics.features import marked_as_given
from gan_jax.training.experiment import ExperimentError


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(summaries, "BATCH", 16)
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))


def drawn(number, seed=0, shape=(4, 4, 1), level=128):
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(level, 40, (number, *shape)), 0, 255).astype(np.uint8)


def compare(real, fake, **options):
    options = {"metrics": ["frechet"], "devices": jax.devices()[:1], "progress": False} | options
    return gj.compare(real, fake, **options)


def test_values_are_those_of_the_metrics():
    real, fake = drawn(90), drawn(70, 1)
    found = compare(real, fake, metrics=["frechet", "kernel_subsets", "neighbors"], neighbors=3)
    (column,) = found.fakes.values()
    x, y = (metrics.extract(metrics.pixels(), side).features for side in (real, fake))
    value, low, high = column.bounds["frechet"]
    assert value == pytest.approx(metrics.frechet_distance(x, y))
    assert low <= high
    subsets = column.bounds["kernel (100 subsets)"][0]
    assert subsets == pytest.approx(metrics.kernel_subsets(x, y).mean)
    expected = metrics.precision_recall_density_coverage(x, y, neighbors=3)
    for name, fraction in expected.items():
        assert column.bounds[f"{name} (k=3, pixels)"][0] == pytest.approx(fraction)
    assert column.fingerprint.precision == "highest"
    assert "covariance=N-1" in column.fingerprint.settings


def test_covariances_divide_by_n_where_it_is_asked_for():
    real, fake = drawn(40), drawn(30, 1)
    (column,) = compare(real, fake, covariance="N").fakes.values()
    x, y = (metrics.extract(metrics.pixels(), side).features for side in (real, fake))
    assert column.bounds["frechet"][0] == pytest.approx(metrics.frechet_distance(x, y, ddof=0))
    with pytest.raises(ExperimentError, match="covariance 'N-2'"):
        compare(real, fake, covariance="N-2")


def test_the_floor_is_of_two_disjoint_real_draws_and_a_real_set_meets_it():
    found = compare(drawn(300), {"same": drawn(150, 1), "dark": drawn(150, 2, level=90)})
    (floor,) = found.floors.values()
    assert (floor.fingerprint.real, floor.fingerprint.fake) == (150, 150)
    assert floor.bounds["frechet"][0] == pytest.approx(found.fakes["same"].bounds["frechet"][0], rel=0.5)
    assert found.fakes["dark"].bounds["frechet"][0] > 5 * floor.bounds["frechet"][0]
    text = str(found)
    assert "real against real [1]" in text
    assert "[1] real: 300 against 150" in text


def test_differences_are_supported_where_they_are_and_nowhere_else():
    sets = {"a": drawn(150, 1), "b": drawn(150, 2), "dark": drawn(150, 3, level=110)}
    found = compare(drawn(200), sets, metrics=["frechet", "kernel"])
    supported = {(each.metric, each.first, each.second): each.supported for each in found.differences}
    for metric in ("frechet", "kernel"):
        assert not supported[metric, "a", "b"]
        assert supported[metric, "a", "dark"]
        assert supported[metric, "b", "dark"]
    assert json.loads(json.dumps(found.as_dict()))["differences"]
    assert len(found.figure().axes) == 2


def test_columns_with_other_fingerprints_are_marked():
    found = compare(drawn(60), {"bytes": drawn(30, 1), "floats": drawn(30, 1) / np.float32(127.5) - 1})
    values = [column.bounds["frechet"][0] for column in found.fakes.values()]
    assert values[0] == values[1]
    assert "floats [1]" in str(found)
    assert "value_range" in str(found)


def test_folders_and_arrays_are_the_same_and_skipped_files_are_counted(tmp_path):
    images = drawn(20, shape=(4, 4, 3))
    for place, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{place:02d}.png")
    other = drawn(20, 1, shape=(4, 4, 3))
    (whole,) = compare(other, images).fakes.values()
    (read,) = compare(other, tmp_path).fakes.values()
    assert read.bounds == whole.bounds
    (tmp_path / "05.png").write_bytes((tmp_path / "05.png").read_bytes()[:50])
    with pytest.raises(DataError, match=r"05\.png"):
        compare(other, tmp_path)
    found = compare(other, tmp_path, damaged="skip")
    assert any("1 of 20 images were skipped: 05.png (damaged" in note for note in found.notes)
    assert next(iter(found.fakes.values())).fingerprint.fake == 19


def test_what_is_computed_of_a_part_is_said(monkeypatch):
    monkeypatch.setattr(summaries, "KEPT_BYTES", 50 * 16 * 4)
    found = compare(drawn(60), drawn(40, 1), metrics=["frechet", "neighbors"], pairs=20)
    assert any("precision, recall, density and coverage are of 20 of 40 images" in n for n in found.notes)
    assert any("are of 50 of 60 images" in note for note in found.notes)
    (column,) = found.fakes.values()
    x, y = (metrics.extract(metrics.pixels(), side).features for side in (drawn(60), drawn(40, 1)))
    assert column.bounds["frechet"][0] == pytest.approx(metrics.frechet_distance(x, y), rel=1e-6)


def inception(protocol="tf"):
    """Any extractor that counts as Inception, so that a protocol has to be known."""
    return dataclasses.replace(metrics.pixels(), inception=True, protocol=protocol)


def test_statistics_are_saved_with_their_protocol_and_stand_for_the_images(tmp_path):
    real, fake = drawn(60), drawn(40, 1)
    whole = compare(real, fake, extractor=inception(), save_stats=tmp_path / "s.npz")
    found = compare(tmp_path / "s.npz", fake, extractor=inception(), metrics=["frechet", "kernel"])
    (ours,), (theirs,) = found.fakes.values(), whole.fakes.values()
    assert ours.bounds["fid"][0] == pytest.approx(theirs.bounds["fid"][0])
    assert ours.fingerprint.real == 60
    assert not found.floors
    assert any("left out: kernel: needs the real images" in note for note in found.notes)
    assert any("protocol tf, as recorded" in note for note in found.notes)
    with pytest.raises(DataError, match="protocol 'tf', and this comparison has 'clean'"):
        compare(tmp_path / "s.npz", fake, extractor=inception("clean"))


def test_the_protocol_of_other_peoples_statistics_is_named_and_printed(tmp_path):
    x = metrics.extract(metrics.pixels(), drawn(60)).features
    np.savez(tmp_path / "theirs.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    with pytest.raises(DataError, match=r"does not record how .* name the protocol"):
        compare(tmp_path / "theirs.npz", drawn(40, 1), extractor=inception())
    given = marked_as_given(inception(), [inception().weights])
    with pytest.raises(DataError, match=r"does not record how .* name the protocol"):
        compare(tmp_path / "theirs.npz", drawn(40, 1), extractor=given)
    found = compare(tmp_path / "theirs.npz", drawn(40, 1), extractor=inception(), protocol="tf")
    assert any("does not record how its statistics were made; protocol tf as given" in n for n in found.notes)
    assert "protocol tf" in str(found)
    assert "unknown" in str(found)


def test_adm_reference_batches_have_moments_of_all_and_images_of_a_part(tmp_path):
    images = drawn(80)
    x = metrics.extract(metrics.pixels(), images).features
    np.savez(tmp_path / "adm.npz", arr_0=images[:30], mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    found = compare(tmp_path / "adm.npz", drawn(40, 1), metrics=["frechet", "neighbors"])
    (column,) = found.fakes.values()
    y = metrics.extract(metrics.pixels(), drawn(40, 1)).features
    assert column.bounds["frechet"][0] == pytest.approx(metrics.frechet_distance(x, y))
    expected = metrics.precision_recall_density_coverage(x[:30], y)
    assert column.bounds["precision (k=5, pixels)"][0] == pytest.approx(expected["precision"])


def test_spatial_and_monge_distances_and_the_spatial_statistics_of_adm(tmp_path):
    places = metrics.Extractor(
        name="places",
        apply=lambda _, x: {"features": x.mean(axis=(1, 2)), "spatial": x[:, ::2, 0, 0]},
    )
    real, fake = drawn(60), drawn(40, 1)
    (column,) = compare(real, fake, extractor=places, metrics=["spatial", "monge"]).fakes.values()
    first, second = (metrics.extract(places, side) for side in (real, fake))
    expected = metrics.frechet_distance(first.spatial, second.spatial)
    assert column.bounds["spatial_frechet"][0] == pytest.approx(expected)
    monge = metrics.monge_distance(first.features, second.features)
    assert column.bounds["monge"][0] == pytest.approx(float(monge))
    statistics = {"mu": first.features.mean(0), "sigma": np.cov(first.features, rowvar=False).reshape(1, 1)}
    statistics |= {"mu_s": first.spatial.mean(0), "sigma_s": np.cov(first.spatial, rowvar=False)}
    np.savez(tmp_path / "adm.npz", **statistics)
    found = compare(tmp_path / "adm.npz", fake, extractor=places, metrics=["spatial"])
    assert next(iter(found.fakes.values())).bounds["spatial_frechet"][0] == pytest.approx(expected)


def test_spatial_statistics_are_saved_where_they_are_asked_for(tmp_path, monkeypatch):
    """Of all images, though only a part of the features is kept."""
    places = metrics.Extractor(
        name="places", apply=lambda _, x: {"features": x.mean(axis=(1, 2)), "spatial": x[:, ::2, 0, 0]}
    )
    real, fake = drawn(60), drawn(40, 1)
    monkeypatch.setattr(summaries, "KEPT_BYTES", 50 * 3 * 4)
    options = {"extractor": places, "metrics": ["spatial", "frechet"]}
    whole = compare(real, fake, save_stats=tmp_path / "s.npz", **options)
    expected = metrics.extract(places, real).spatial
    with np.load(tmp_path / "s.npz") as stored:
        np.testing.assert_allclose(stored["mu_s"], expected.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(stored["sigma_s"], np.cov(expected, rowvar=False), rtol=1e-5)
    (ours,), (theirs,) = (
        found.fakes.values() for found in (compare(tmp_path / "s.npz", fake, **options), whole)
    )
    for name in ("frechet", "spatial_frechet"):
        assert ours.bounds[name][0] == pytest.approx(theirs.bounds[name][0], rel=1e-6)
    with pytest.raises(DataError, match="'pixels' has no spatial features"):
        compare(real, fake, save_stats=tmp_path / "p.npz", metrics=["spatial", "frechet"])


def test_a_value_outside_of_its_interval_is_explained():
    found = compare(drawn(30), drawn(30, 1), neighbors=3)
    (column,) = found.fakes.values()
    value, low, high = column.bounds["frechet"]
    assert value > high
    middle = f"below {high:.4g} (fake)" if low == 0 else f"{(low + high) / 2:.4g} (fake)"
    assert f"frechet without the bias of finite samples, as in its interval: {middle}" in str(found)


def test_a_bias_that_is_large_beside_the_interval_is_said_to_be_left_in_part():
    """The middles are 8 and 9.5, the intervals 1 wide: the first value is 4 above its middle."""
    mark = Fingerprint(
        extractor="pixels", weights="none", resize="none", value_range="-", real=9, fake=9, split="-", seed=0
    )
    columns = {"few": (12.0, 7.5, 8.5), "many": (10.1, 9.0, 10.0), "near": (3.0, 0.0, 1.0)}
    (line,) = outside_lines({name: Column({"fid": bounds}, mark) for name, bounds in columns.items()})
    assert line == (
        "fid without the bias of finite samples, as in its interval: 8 (few), 9.5 (many), below 1 (near). The bias "
        "of few is more than the width of the interval, which a part that is left of it may miss: take more images."
    )


def test_a_metric_without_an_interval_has_a_dash_that_is_explained():
    """Three images make one block, and one block has no spread."""
    found = compare(drawn(9), drawn(3, 1), metrics=["frechet", "kernel", "kernel_subsets"])
    (column,) = found.fakes.values()
    rows = {row.split("  ")[0]: row for row in str(found).splitlines()}
    for metric in ("kernel", "kernel (100 subsets)"):
        assert f"{column.bounds[metric][0]:.5g} [-]" in rows[metric]
        assert f"{metric} has no interval (fake): it takes two blocks of two samples of each side" in str(
            found
        )
    assert "[-]" not in rows["frechet"]


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        (drawn(1), drawn(9), {}, "'real' has a single image"),
        (drawn(9), drawn(9, shape=(4, 4, 3)), {}, "'real' has grey images and 'fake' has colour ones"),
        (drawn(9), drawn(9, shape=(5, 5, 1)), {}, "The images differ in size .*'real' 4 x 4, 'fake' 5 x 5"),
        (drawn(9), [], {}, "There are no fakes"),
        (drawn(9), drawn(9), {"metrics": ["fid"]}, "Unknown metric 'fid'"),
        (drawn(9), drawn(9), {"protocol": "legacy"}, "Unknown protocol 'legacy'"),
        (drawn(9), drawn(9), {"protocol": "tf"}, "extractor is 'pixels'"),
        (drawn(9), drawn(9), {"metrics": ["score"]}, "'pixels' is no classifier"),
        (drawn(9), drawn(9), {"level": 95}, "confidence level"),
        (drawn(9), "data.pkl", {}, "is pickled"),
        (drawn(9), np.ma.masked_less(drawn(9), 60), {}, "fake: .* numbers are masked"),
    ],
)
def test_bad_input_is_named(real, fake, options, message):
    with pytest.raises(ValueError, match=message):
        compare(real, fake, **options)


def test_images_with_transparency_against_those_without_are_named(tmp_path):
    """A run of RGBA images was a traceback beside a folder that is read without transparency."""
    for number in range(3):
        Image.fromarray(drawn(1, number, shape=(4, 4, 4))[0]).save(tmp_path / f"{number}.png")
    transparent = open_images(tmp_path, channels=4)
    with pytest.raises(
        DataError, match=r"has colour images and .* transparent ones: give channels=4 to keep"
    ):
        compare(str(tmp_path), transparent)


def test_a_bar_is_shown_and_a_work_directory_is_for_the_launcher(tmp_path, capsys):
    compare(drawn(9), drawn(9, 1), progress=True)
    assert "9/9" in capsys.readouterr().err
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="is the work directory of a run"):
        compare(drawn(9), tmp_path)
