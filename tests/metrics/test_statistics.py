"""Statistics files: those of other tools, ours with their record, and what is refused."""

import os

import numpy as np
import pytest

from gan_jax import metrics
from gan_jax.data.errors import DataError
from gan_jax.metrics.features import marked_as_given
from gan_jax.metrics.statistics import is_statistics, read_statistics, write_statistics


def features(protocol="", seed=0):
    images = np.random.default_rng(seed).integers(256, size=(40, 2, 2, 1), dtype=np.uint8)
    extractor = metrics.Extractor(
        name="pixels", apply=lambda _, x: {"features": x.reshape(len(x), -1)}, protocol=protocol
    )
    return metrics.extract(extractor, images)


def test_ours_are_read_by_others_and_record_how_they_were_made(tmp_path):
    made = features("tf")
    moments = metrics.moments(made.features)
    write_statistics(tmp_path / "s.npz", moments, made, ddof=0, split="forty images")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as archive:
        np.testing.assert_allclose(archive["mu"], made.features.mean(0), atol=1e-7)
        expected = np.cov(made.features, rowvar=False, ddof=0)
        np.testing.assert_allclose(archive["sigma"], expected, atol=1e-7)
    found = read_statistics(tmp_path / "s.npz")
    recorded = {"protocol": "tf", "number": 40, "ddof": 0, "split": "forty images", "precision": "highest"}
    assert recorded.items() <= found.record.items()
    found.check(made, ddof=0)
    given = marked_as_given(made.extractor, [made.extractor.weights])
    found.check(made._replace(extractor=given), ddof=0)  # the same features, of a comparison that is marked
    with pytest.raises(DataError, match="protocol 'tf', and this comparison has 'clean'"):
        found.check(features("clean"), ddof=0)
    with pytest.raises(DataError, match="ddof 0, and this comparison has 1"):
        found.check(made, ddof=1)
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


def test_files_of_other_tools_are_read(tmp_path):
    """pytorch-fid's have two arrays; ADM's reference batches images and spatial statistics besides."""
    made = features()
    mean, covariance = made.features.mean(0), np.cov(made.features, rowvar=False)
    np.savez(tmp_path / "fid.npz", mu=mean, sigma=covariance)
    found = read_statistics(tmp_path / "fid.npz")
    assert found.record == {}
    assert found.spatial is None
    other = features(seed=1).features
    expected = metrics.frechet_distance(made.features, other)
    assert metrics.frechet_distance(found.gaussian, other) == pytest.approx(expected)
    np.savez(
        tmp_path / "adm.npz",
        arr_0=np.zeros((3, 2, 2, 1), np.uint8),
        mu=mean,
        sigma=covariance,
        mu_s=mean[:2],
        sigma_s=covariance[:2, :2],
    )
    np.testing.assert_array_equal(read_statistics(tmp_path / "adm.npz").spatial.mean, mean[:2])
    assert is_statistics(tmp_path / "adm.npz")
    np.savez(tmp_path / "images.npz", arr_0=np.zeros((3, 2, 2, 1), np.uint8))
    assert not is_statistics(tmp_path / "images.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(3)}, "has the arrays mu: statistics are mu and sigma"),
        ({"mu": np.zeros(3), "sigma": np.eye(2)}, r"mu has shape \(3,\) and sigma \(2, 2\)"),
        ({"mu": np.zeros((3, 1)), "sigma": np.eye(3)}, r"expected \[D\] and \[D, D\]"),
        ({"mu": np.full(2, np.nan), "sigma": np.eye(2)}, "holds NaN"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2.0], [0.0, 1.0]])}, "no covariance"),
        ({"mu": np.zeros(2), "sigma": -np.eye(2)}, "no covariance"),
        ({"mu": np.zeros(2), "sigma": np.eye(2) * 1e308}, "magnitude up to 1e.308"),
        ({"mu": np.array(["a"]), "sigma": np.eye(1)}, "no numbers"),
        ({"mu": np.zeros(2), "sigma": np.eye(2), "gan_jax": np.array(["{"])}, "record of .* is damaged"),
        (
            {"mu": np.zeros(2), "sigma": np.eye(2), "gan_jax": np.array(["[" * 100_000])},
            "record of .* is damaged",
        ),
        (
            {"mu": np.zeros(2), "sigma": np.eye(2), "gan_jax": np.array(['{"number": null}'])},
            "its number of images is None",
        ),
    ],
)
def test_what_is_no_statistics_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_statistics(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("gaussian", "message"),
    [
        (metrics.Gaussian(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]])), "no negative eigenvalue"),
        (metrics.Gaussian(np.zeros(2), np.array([[0.0, 1.0], [1.0, 1.0]])), "no negative eigenvalue"),
        (metrics.Gaussian(np.zeros(2), np.full((2, 2), np.nan)), "real: .* NaN"),
        (metrics.Gaussian(np.zeros(2), np.array([[1.0, 0.9], [0.0, 1.0]])), "real: this is no covariance"),
        (metrics.Gaussian(np.zeros(3), np.eye(2)), r"expected \[D\] and \[D, D\]"),
    ],
)
def test_a_covariance_that_no_features_have_is_refused(gaussian, message):
    other = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(ValueError, match=message):
        metrics.frechet_distance(gaussian, other)


def test_singular_covariances_and_those_in_float32_are_accepted():
    # The features have rank 3 of 6; float32 rounds the covariance's zero eigenvalues to about 1e-7.
    x = np.random.default_rng(0).normal(size=(50, 3)) @ np.random.default_rng(1).normal(size=(3, 6))
    covariance = np.cov(x, rowvar=False).astype(np.float32)
    found = metrics.frechet_distance(metrics.Gaussian(x.mean(0), covariance), x)
    assert found == pytest.approx(0, abs=1e-3)


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("kept")
    (tmp_path / f".s.npz.{os.getpid()}.tmp").symlink_to(tmp_path / "victim")
    made = features()
    write_statistics(tmp_path / "s.npz", metrics.moments(made.features), made)
    assert (tmp_path / "victim").read_text() == "kept"
    assert not (tmp_path / "s.npz").is_symlink()


def test_pickles_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "dataset-64.pkl").write_bytes(b"\x80\x04}.")
    with pytest.raises(DataError, match=r"is pickled, and can run code .* numpy\.savez"):
        read_statistics(tmp_path / "dataset-64.pkl")
    with pytest.raises(DataError, match=r"written as \.npz"):
        write_statistics(tmp_path / "s.pkl", metrics.moments(features().features), features())
    with pytest.raises(DataError, match="cannot be written"):
        write_statistics(tmp_path / "none" / "s.npz", metrics.moments(features().features), features())
