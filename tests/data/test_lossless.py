"""Numbers of a user that are kept as they are, or refused: what float32 cannot hold, masks, labels of no class."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import metrics
from gan_jax.data.arrays import from_arrays, load_npz
from gan_jax.data.errors import DataError
from gan_jax.data.image_sets import from_array
from gan_jax.data.stream import array_reader, from_reader
from gan_jax.networks.heads import condition_vector, one_hot
from gan_jax.runs.provenance import data_fingerprint

DRAWN = np.random.default_rng(0).normal(size=(8, 2))
MASKED = np.ma.masked_array(DRAWN, mask=np.arange(16).reshape(8, 2) == 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": DRAWN * 1e39}, r"'x' has numbers of magnitude up to .*e\+39, beyond the range of float32"),
        ({"x": 1e9 + DRAWN}, "'x' has float64 numbers that differ by less than float32 represents"),
        ({"x": 1e-60 * DRAWN}, "differ by less than float32"),
        ({"x": DRAWN, "condition": 1e9 + DRAWN}, "'condition' has float64 numbers that differ"),
        ({"x": MASKED}, "x: 1 of 16 numbers are masked"),
        ({"x": DRAWN, "y": np.arange(8) - 1}, "'y' has labels from -1 on; labels are 0 or more"),
    ],
)
def test_what_float32_or_a_label_cannot_hold_is_refused(arrays, message, tmp_path):
    with pytest.raises(DataError, match=message):
        from_arrays(arrays, batch_size=4)
    if not any(np.ma.is_masked(array) for array in arrays.values()):  # files have no masks
        np.savez(tmp_path / "data.npz", **arrays)
        with pytest.raises(DataError, match=message):
            load_npz(tmp_path / "data.npz")


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_what_float32_holds_is_kept(scale):
    constant = np.full((8, 1), 0.1) * scale
    given = np.concatenate([scale * DRAWN, constant], axis=1)
    kept = from_arrays({"x": given}, batch_size=4).device_data["all"]["x"]
    np.testing.assert_allclose(kept, given, rtol=1e-6)


def test_integers_of_a_range_far_from_zero_are_told_apart():
    given = 2**25 + np.array([[[0]], [[1]], [[2]], [[255]]])
    kept = from_arrays({"x": given}, batch_size=2, value_range=(2**25, 2**25 + 255)).device_data["all"]["x"]
    assert kept.ravel().tolist() == [0, 1, 2, 255]


def test_a_stream_in_a_range_of_its_own_has_a_fingerprint():
    """12 bits in uint16, as microscopes give them: a run compares its data at every launch."""
    pixels = np.random.default_rng(0).integers(0, 4096, (40, 2, 2, 1)).astype(np.uint16)
    other = pixels.copy()
    other[0, 0, 0, 0] ^= 1024

    def found(x):
        source = from_reader(array_reader({"x": x}), 40, 8, value_range=(0, 4095))
        return data_fingerprint(source)

    assert found(pixels) == found(pixels.copy()) != found(other)


@pytest.mark.parametrize(
    "measure",
    [
        metrics.frechet_distance,
        metrics.sliced_wasserstein,
        metrics.precision_recall_density_coverage,
        metrics.kernel_distance,
        metrics.energy_test,
    ],
)
def test_masked_numbers_are_not_measured(measure):
    """What lies under a mask, 1e9 say, would be taken for a number."""
    for pair in ((MASKED, DRAWN), (DRAWN, MASKED)):
        with pytest.raises(ValueError, match="1 of 16 numbers are masked"):
            measure(*pair)
    measure(np.ma.masked_array(DRAWN, mask=False), DRAWN)


def test_masked_numbers_are_not_streamed():
    with pytest.raises(DataError, match="x: 1 of 4 numbers are masked"):
        array_reader({"x": MASKED})(np.array([0, 1]))


def test_masked_images_are_not_compared():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    with pytest.raises(DataError, match="fake: 1 of 16 numbers are masked"):
        from_array(np.ma.masked_array(images, mask=np.arange(16).reshape(images.shape) == 3), "fake")


def test_a_label_that_is_no_class_is_not_a_number():
    """Labels 1 to 3 for three classes: as zeros the last would be no class, and the loss finite."""
    found = one_hot(jnp.array([0, 2, 3, -1]), 3)
    np.testing.assert_array_equal(found[:2], [[1, 0, 0], [0, 0, 1]])
    assert np.isnan(found[2:]).all()


def test_labels_of_floats_are_refused():
    with pytest.raises(ValueError, match="num_classes=3, but its label is float32: give integers"):
        condition_vector((jnp.zeros(2),), 3)
    with pytest.raises(ValueError, match="Labels must be integers"):
        one_hot(jnp.zeros(2), 3)
