"""Scores, resizing and features against other packages' values (reference/make_comparison.py)."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import metrics
from gan_jax.data.arrays import decode
from gan_jax.metrics.inception import InceptionV3, to_params

REFERENCE = pathlib.Path(__file__).resolve().parent / "reference"
_spec = importlib.util.spec_from_file_location("make_comparison", REFERENCE / "make_comparison.py")
make_comparison = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_comparison)


@pytest.fixture(scope="module")
def stored():
    with np.load(REFERENCE / "comparison.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("package", ["pytorch_fid", "clean_fid", "torch_fidelity"])
def test_frechet_distances(stored, package):
    real, fake, _ = make_comparison.seeded_features()
    expected = float(stored[f"frechet_{package}"])
    assert metrics.frechet_distance(real, fake) == pytest.approx(expected, rel=1e-6)


def test_kernel_distances_by_subsets(stored):
    real, fake, _ = make_comparison.seeded_features()
    found = metrics.kernel_subsets(real, fake, size=50, seed=make_comparison.SEED)
    assert tuple(found) == pytest.approx(tuple(stored["kid_torch_fidelity"]), rel=1e-6)
    assert found.mean == pytest.approx(float(stored["kid_clean_fid"]), rel=1e-6)


def test_scores_by_shuffled_splits(stored):
    *_, logits = make_comparison.seeded_features()
    shuffled = logits[np.random.RandomState(make_comparison.SEED).permutation(len(logits))]
    found = metrics.classifier_score(shuffled, splits=10, seed=None)
    assert tuple(found) == pytest.approx(tuple(stored["score_torch_fidelity"]), rel=1e-6)


def test_precision_recall_density_coverage(stored):
    real, fake, _ = make_comparison.seeded_features()
    found = metrics.precision_recall_density_coverage(real, fake, neighbors=3)
    names = ("precision", "recall", "density", "coverage")
    assert [found[name] for name in names] == pytest.approx(list(stored["prdc"]))


@pytest.mark.parametrize("size", make_comparison.SIZES)
@pytest.mark.parametrize("protocol", ["pytorch", "tf", "clean"])
def test_resizing(stored, protocol, size):
    chosen = metrics.PROTOCOLS[protocol]
    out = np.asarray(chosen(decode(jnp.asarray(make_comparison.seeded_bytes(size)))), np.float64)
    levels = chosen.middle * (1 + out)
    np.testing.assert_allclose(levels[:, 5::29, 3::31], stored[f"resized_{protocol}_{size}"], atol=5e-3)


@pytest.mark.full
@pytest.mark.parametrize("protocol", ["tf", "clean"])
def test_features_from_bytes_on_the_same_random_weights(stored, protocol):
    from gan_jax.metrics.inception import expected_shapes

    arrays = make_comparison.make_inception().seeded_arrays(expected_shapes())
    images = decode(jnp.asarray(make_comparison.seeded_bytes(40)))
    prepared = metrics.PROTOCOLS[protocol](images)
    out = jax.jit(InceptionV3().apply)({"params": to_params(arrays)}, prepared)
    expected = stored[f"features_{protocol}"]
    np.testing.assert_allclose(out["features"], expected, atol=1e-4 * np.abs(expected).max())
    if protocol == "tf":
        expected = stored["logits_unbiased_tf"]
        np.testing.assert_allclose(out["unbiased_logits"], expected, atol=1e-4 * np.abs(expected).max())
