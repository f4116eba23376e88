"""The benchmark of the FID network: weights and images are the same on both sides."""

import numpy as np
import pytest

from benchmarks import inception_worker
from gan_jax.metrics.inception import expected_shapes
from tests.metrics.reference.make_inception import seeded_arrays


def test_weights_and_images_depend_on_names_and_seeds_only():
    shapes = dict(list(expected_shapes().items())[:6])
    found, expected = inception_worker.seeded_arrays(shapes), seeded_arrays(shapes)
    for name in shapes:
        np.testing.assert_array_equal(found[name], expected[name])
    images = inception_worker.seeded_images(3, 8)
    assert (images.dtype, images.shape) == (np.uint8, (3, 8, 8, 3))


@pytest.mark.full
def test_ours_makes_the_pool_of_the_network():
    run = inception_worker.ours({})
    found = run(inception_worker.seeded_images(2, 32))
    assert found.shape == (2, 2048)
    assert np.isfinite(found).all()
    assert found.std() > 0
