"""Which values are black and white: recognised with a warning, or as the caller says; layouts that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.data import DataError, decode, from_arrays, load, open_source
from gan_jax.data.stream import array_reader, from_iterator, from_reader
from gan_jax.data.value_range import parse_range

BITS = np.arange(32).reshape(4, 4, 2, 1) % 2
GREYS = np.linspace(0.0, 1.0, 32).reshape(4, 4, 2, 1)


def seen(x, **options):
    """What networks see of arrays, the whole of them in order."""
    stored = from_arrays({"x": x}, 2, **options).device_data["all"]["x"]
    return np.asarray(decode(jnp.asarray(stored)) if stored.dtype == np.uint8 else stored)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_images_of_zeros_and_ones_are_read_as_booleans_are(dtype):
    with pytest.warns(
        UserWarning, match=r"^'x' has values in \[0, 1\]: integer images of 0 and 1 .* value_range="
    ):
        x = seen(BITS.astype(dtype))
    np.testing.assert_array_equal(x, seen(BITS.astype(bool)))
    np.testing.assert_array_equal(x, 2.0 * BITS - 1)
    # As they are: 1 of 255 levels above black.
    np.testing.assert_allclose(
        seen(BITS.astype(dtype), value_range="standard"), 2 * BITS / 255 - 1, atol=1e-7
    )


@pytest.mark.parametrize("brightest", [0.2, 1])
def test_float_images_that_are_below_zero_by_rounding_are_not_read_as_grey(brightest):
    """Normalised and back, 0 may be -3e-8, and all images would be from mid-grey to white."""
    beyond = np.where(GREYS == 0, -3e-8, brightest * GREYS)
    with pytest.raises(
        DataError, match=r"in \[0, 1\] are below 0 by rounding, clip them to it; value_range="
    ):
        seen(beyond)
    np.testing.assert_array_equal(seen(beyond, value_range="standard"), beyond.astype(np.float32))
    near_grey = (GREYS - 0.5) / 1000
    np.testing.assert_array_equal(seen(near_grey), near_grey.astype(np.float32))


def test_float_images_from_zero_to_one_are_brought_to_minus_one():
    with pytest.warns(
        UserWarning, match=r"^'x' has values in \[0, 1\]: float images in \[0, 1\] are brought"
    ):
        x = seen(GREYS)
    np.testing.assert_allclose(x, 2 * GREYS - 1, atol=1e-7)
    np.testing.assert_allclose(seen(GREYS, value_range=(0, 1)), 2 * GREYS - 1, atol=1e-7)
    np.testing.assert_allclose(seen(GREYS, value_range=(-1, 1)), GREYS, atol=1e-7)
    np.testing.assert_allclose(seen(GREYS, value_range="standard"), GREYS, atol=1e-7)


def test_dark_images_and_integer_vectors_are_pixels_with_a_warning():
    dark = np.arange(17, dtype=np.uint8).reshape(17, 1, 1, 1)
    with pytest.warns(UserWarning, match=r"\[0, 16\]: integer images are pixels in \[0, 255\].*nearly black"):
        np.testing.assert_allclose(seen(dark), 2 * dark / 255 - 1, atol=1e-6)
    np.testing.assert_allclose(seen(dark, value_range=(0, 16)), dark / 8 - 1, atol=1.01 / 255)
    vectors = np.array([[0, 9], [3, 255]])
    with pytest.warns(UserWarning, match=r"\[0, 255\]: integer vectors are taken as pixels.*give floats"):
        np.testing.assert_allclose(seen(vectors), 2 * vectors / 255 - 1, atol=1e-6)
    np.testing.assert_array_equal(seen(vectors.astype(float)), vectors)


def test_what_is_in_the_standard_range_is_taken_without_a_word():
    """Floats below zero, bright bytes, vectors of floats and of bytes, labels, images of one value."""
    seen(2 * GREYS - 1)
    seen(np.array([[[[0]]], [[[200]]]], np.uint8))
    seen(np.zeros((2, 4, 4, 1), np.uint8))
    seen(np.ones((2, 4, 4, 1)))
    seen(GREYS[:, 0, :, 0])
    seen(np.array([[1, 2], [3, 4]], np.uint8))
    from_arrays({"x": 2 * GREYS - 1, "y": np.array([0, 1, 1, 0])}, 2)


def test_sixteen_bits_have_a_range_too():
    deep = np.array([0, 16384, 65535], np.uint16).reshape(3, 1, 1, 1)
    with pytest.raises(DataError, match=r"\[0, 65535\]; expected \[0, 255\]: give value_range"):
        seen(deep)
    x = seen(deep, value_range=(0, 65535))
    np.testing.assert_allclose(x[:, 0, 0, 0], [-1, 2 * 16384 / 65535 - 1, 1], atol=1e-7)


def test_labelled_examples_are_read_as_the_others_are():
    """A few dark examples would be recognised by themselves as something else."""
    source = from_arrays(
        {"x": 2 * GREYS - 1}, 2, labelled={"x": GREYS[:2], "y": np.array([0, 1])}, labelled_batch_size=2
    )
    np.testing.assert_allclose(source.device_data["labelled"]["x"], GREYS[:2], atol=1e-7)


@pytest.mark.parametrize("resident_limit", [2**31, 10])
def test_files_are_recognised_once_whether_they_stream_or_not(tmp_path, resident_limit):
    np.save(tmp_path / "bits.npy", BITS.astype(np.uint8))
    with pytest.warns(UserWarning, match="integer images of 0 and 1"):
        source = open_source(str(tmp_path / "bits.npy"), 4, resident_limit=resident_limit)
    host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(0, 1))
    x = source.get_batch(source.device_data, host_batch)["x"]
    assert sorted(set(np.asarray(x).reshape(-1).tolist())) == [-1.0, 1.0]
    source.close()
    plain = open_source(str(tmp_path / "bits.npy"), 4, resident_limit=resident_limit, value_range="standard")
    host_batch = jax.tree.map(lambda leaf: leaf[0], plain.host_batches(0, 1))
    assert np.asarray(plain.get_batch(plain.device_data, host_batch)["x"]).max() < -0.9
    plain.close()


def test_an_iterator_has_the_range_that_it_is_given():
    batches = [{"x": BITS.astype(np.uint8)}] * 2
    source = from_iterator(iter(batches), 4, value_range=(0, 1))
    np.testing.assert_array_equal(source.host_batches(0, 1)["x"][0], 255 * BITS)


@pytest.mark.parametrize("images", [GREYS, GREYS.astype(np.float64), BITS.astype(np.uint8)])
@pytest.mark.parametrize("streams", ["iterator", "reader"])
def test_a_stream_whose_first_batch_looks_otherwise_is_kept_and_said_once(images, streams, recwarn):
    def made(**options):
        if streams == "iterator":
            return from_iterator(
                iter([{"x": images, "y": np.arange(len(images))}] * 2), len(images), **options
            )
        return from_reader(array_reader({"x": images}), len(images), len(images), **options)

    source = made()
    with pytest.warns(
        UserWarning, match=r"^'x' has values in \[0, 1\] in the first batch .*value_range="
    ) as said:
        kept = source.host_batches(0, 1)["x"][0]
    assert len(said) == 1
    assert (kept.min(), kept.max()) == (0, 1)
    source.host_batches(1, 1)
    source.close()
    for named in ("standard", (0, 1), {"x": "standard"}):
        quiet = made(value_range=named)
        quiet.host_batches(0, 1)
        quiet.close()
    assert not recwarn.list


def test_ranges_are_parsed_and_checked():
    assert [parse_range(text) for text in ("", "standard", "0,1", "-1, 1")] == [
        None,
        "standard",
        (0.0, 1.0),
        (-1.0, 1.0),
    ]
    for wrong in ("1", "0,1,2", "a,b", "1,0", "0,inf"):
        with pytest.raises(DataError, match="value_range is"):
            parse_range(wrong)
    with pytest.raises(DataError, match=r"values in \[0, 1\], which value_range=\(0, 0.5\) does not hold"):
        seen(GREYS, value_range=(0, 0.5))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((4, 3, 8, 8), r"'x' of .*shape \[4, 3, 8, 8\].*\[N, C, H, W\]: take np.moveaxis\(x, 1, 3\)"),
        ((4, 1, 8, 8), r"np.moveaxis"),
        ((4, 8, 8, 4), r"shape \[4, 8, 8, 4\].*RGBA: take x\[..., :3\]"),
        ((4, 8, 8, 2), r"images have 1 or 3 channels"),
        ((4, 2, 8, 8, 3), r"shape \[4, 2, 8, 8, 3\].*choose one frame"),
        ((4, 0, 8, 1), r"'x' of .*shape \(4, 0, 8, 1\).*one value or more"),
    ],
)
def test_images_that_no_picture_can_show_are_refused_when_they_are_read(tmp_path, shape, said):
    np.savez(tmp_path / "a.npz", x=np.full(shape, 200, np.uint8))
    with pytest.raises(DataError, match=said):
        load(str(tmp_path / "a.npz"))
    np.save(tmp_path / "a.npy", np.full(shape, 200, np.uint8))
    if 0 not in shape:
        with pytest.raises(DataError, match=said):
            open_source(str(tmp_path / "a.npy"), 2, resident_limit=10)


def test_an_array_in_place_of_a_mapping_is_named():
    with pytest.raises(DataError, match=r"mapping of arrays by name.*got ndarray\[4, 4, 2, 1\]: write"):
        from_arrays(GREYS, 2)


@pytest.mark.parametrize("floats_are", ["labelled", "others"])
def test_labelled_examples_of_another_kind_have_a_range_of_their_own(floats_are):
    """Bytes beside floats in [0, 1]: both are black to white, and neither is read in the other's range."""
    pixels = np.arange(256, dtype=np.uint8).repeat(2).reshape(8, 8, 8, 1)
    floats = {"x": pixels / np.float32(255)}
    labelled, others = (floats, {"x": pixels}) if floats_are == "labelled" else ({"x": pixels}, floats)
    with pytest.warns(UserWarning, match=r"float images in \[0, 1\] are brought to \[-1, 1\]"):
        source = from_arrays(others, 4, labelled={**labelled, "y": np.arange(8)})
    host_batches = jax.tree.map(lambda x: x[:2].reshape(-1), source.host_batches(0, 2))  # all of both
    batch = source.get_batch(source.for_device(source.device_data), host_batches)
    for x in (batch["x"], batch["labelled"]["x"]):
        assert (float(x.min()), float(x.max())) == (-1.0, 1.0)
