"""Directions and codes of latents."""

import jax
import numpy as np
import pytest

from gan_jax.explore.latent_space import codes_of, metric_directions, principal_components
from gan_jax.explore.nearest import TrainingImages
from gan_jax.functional.codes import Code
from tests.tiers import full


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code(categories=(10,), continuous=2), (((0, 10),), (10, 11))),
        full(Code(categories=(2, 3)), (((0, 2), (2, 3)), ())),
        full(Code(categories=(), continuous=1), ((), (0,))),
    ],
)
def test_the_code_is_found_in_the_draws(code, expected):
    drawn = np.asarray(code.prior(4)(jax.random.key(0), 1000))
    found = codes_of(drawn)
    assert (found.categories, found.numbers) == expected
    assert found.places == set(range(code.size))


def test_a_prior_without_a_code_has_none():
    rng = np.random.default_rng(0)
    for drawn in (rng.normal(size=(1000, 3)), rng.uniform(-1, 1, (1000, 3))):
        assert not codes_of(drawn).places


def test_directions_of_a_linear_generator_are_its_singular_vectors():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(12, 5))
    _, values, vectors = np.linalg.svd(weight)
    found = metric_directions(
        lambda z: (z @ weight.T).reshape(len(z), 2, 2, 3), rng.normal(size=(3, 5)), range(5), np.ones(5)
    )
    np.testing.assert_allclose(np.abs(np.sum(found.vectors * vectors, axis=1)), 1, atol=1e-6)
    np.testing.assert_allclose(found.shares, np.square(values) / np.square(values).sum(), atol=1e-6)
    np.testing.assert_allclose(found.deviations, 1)


def test_directions_leave_the_code_where_it_is():
    found = metric_directions(
        lambda z: z * [9.0, 1.0, 2.0], np.zeros((1, 3)), [1, 2], np.array([1.0, 2.0, 3.0])
    )
    np.testing.assert_allclose(found.vectors, [[0, 0, 1], [0, 1, 0]], atol=1e-9)
    np.testing.assert_allclose(found.deviations, [3, 2])


def test_principal_components_are_those_of_the_covariance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 4)) * [4, 3, 2, 1]
    found = principal_components(points, count=4)
    variances = np.diag(found.vectors @ np.cov(points.T, bias=True) @ found.vectors.T)
    np.testing.assert_allclose(variances, np.square(found.deviations))
    assert (np.diff(found.deviations) < 0).all()
    np.testing.assert_allclose(found.shares.sum(), 1)


def test_neighbours_by_features_are_those_of_the_features():
    images = np.linspace(-1, 1, 5)[:, None, None, None] * np.ones((1, 2, 2, 1))
    found = TrainingImages(images, lambda x: np.abs(x).reshape(len(x), -1)).nearest(
        images[0], 2, by="features"
    )
    assert [(entry["index"], entry["distance"]) for entry in found] == [(0, 0.0), (4, 0.0)]
    assert found[0]["png"].startswith("data:image/png;base64,")
    with pytest.raises(ValueError, match="compared by pixels, got 'features'"):
        TrainingImages(images).nearest(images[0], by="features")
