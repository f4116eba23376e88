import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import gan_jax as gj
from gan_jax.pictures import image_grid, side_by_side, to_png, to_uint8
from gan_jax.pictures.animations import to_gif, to_mp4
from gan_jax.pictures.grids import CAPTION


def test_every_byte_survives_the_way_to_floats_and_back():
    values = np.arange(256)
    np.testing.assert_array_equal(to_uint8(values / 127.5 - 1), values)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_bytes_are_taken_as_they_are(channels):
    images = np.full((4, 8, 8, channels), 10, np.uint8)
    np.testing.assert_array_equal(to_uint8(images), images)
    grid = image_grid(images, 2, gap=0)
    np.testing.assert_array_equal(grid, np.full((16, 16, min(channels, 3)), 10, np.uint8))
    np.testing.assert_array_equal(np.unique(gj.show(images)), [10, 255])  # with the gaps


def test_transparent_bytes_are_drawn_on_white():
    """Half opaque black, 128 of 255, is 255 - 128 = 127 of white; what is opaque keeps its colour."""
    images = np.array([[0, 128], [10, 255], [10, 0]], np.uint8).reshape(3, 1, 1, 2)
    np.testing.assert_array_equal(image_grid(images, 3, gap=0).ravel(), [127, 10, 255])


@pytest.mark.parametrize("dtype", [bool, np.int32, np.int64, np.uint16])
def test_other_integers_and_booleans_are_refused_by_name(dtype):
    images = np.ones((2, 4, 4, 1), dtype)
    for draw in (to_uint8, image_grid, gj.show):
        with pytest.raises(ValueError, match=rf"floats in \[-1, 1\], got {np.dtype(dtype)}: give ") as raised:
            draw(images)
        assert "\n" not in str(raised.value)
    for channels in (2, 4, 5):
        with pytest.raises(ValueError, match=r"Images are uint8 or floats"):
            image_grid(np.ones((2, 4, 4, channels), dtype))


def test_bfloat16_is_drawn_as_float32():
    images = jnp.linspace(-1, 1, 8, dtype=jnp.bfloat16)
    np.testing.assert_array_equal(to_uint8(images), to_uint8(images.astype(jnp.float32)))


def test_a_grid_by_hand():
    images = np.array([-1.0, 1.0, 0.0]).reshape(3, 1, 1, 1) * np.ones((3, 1, 2, 1))
    grid = image_grid(images, 2, gap=1, scale=2)
    assert grid.shape == (5, 9, 1)
    first, white, second, third = [0] * 4, [255], [255] * 4, [128] * 4
    empty = [255] * 4
    rows = [first + white + second] * 2 + [[255] * 9] + [third + white + empty] * 2
    np.testing.assert_array_equal(grid[..., 0], rows)


@pytest.mark.parametrize(
    ("count", "shape"), [(1, (4, 4)), (4, (9, 9)), (5, (9, 14)), (9, (14, 14)), (10, (14, 19))]
)
def test_the_default_is_about_square(count, shape):
    assert image_grid(np.zeros((count, 4, 4, 3))).shape == (*shape, 3)


@pytest.mark.parametrize(
    ("images", "options"),
    [
        (np.zeros((4, 4)), {}),
        (np.zeros((0, 4, 4, 1)), {}),
        (np.zeros((2, 4, 4, 0)), {}),
        (np.zeros((2, 4, 4, 1)), {"columns": 0}),
        (np.zeros((2, 4, 4, 1)), {"scale": 0}),
        (np.zeros((2, 4, 4, 1)), {"gap": -1}),
    ],
)
def test_what_is_no_grid_is_refused(images, options):
    with pytest.raises(ValueError, match="A grid"):
        image_grid(images, **options)


@pytest.mark.parametrize("join", [side_by_side, to_gif, to_mp4])
def test_floats_are_no_pictures(join):
    """They would be cut to whole numbers, and [-1, 1] to black."""
    with pytest.raises(ValueError, match="A picture must be uint8"):
        join([np.full((2, 2, 1), 0.5)] * 2)


def test_a_png_decodes_to_the_same_pixels():
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        picture = rng.integers(0, 256, (5, 7, channels), dtype=np.uint8)
        decoded = np.asarray(Image.open(io.BytesIO(to_png(picture)))).reshape(picture.shape)
        np.testing.assert_array_equal(decoded, picture)
    with pytest.raises(ValueError, match="A picture must be uint8"):
        to_png(np.zeros((2, 2, 3)))


@pytest.mark.parametrize(("channels", "expected"), [(1, 1), (2, 1), (3, 3), (4, 3), (6, 3)])
def test_images_of_any_channels_are_drawn(channels, expected):
    assert image_grid(np.zeros((2, 4, 4, channels))).shape == (4, 9, expected)


def test_captions_stand_above_their_columns():
    """Each name has ink over its own column only; the images below are those of the grid without names."""
    images = np.zeros((4, 20, 20, 3))
    plain = image_grid(images, columns=2, gap=4)
    named = image_grid(images, columns=2, gap=4, captions=("", "a name that is too long"))
    np.testing.assert_array_equal(named[CAPTION:], plain)
    strip = named[:CAPTION]
    assert (strip[:, :24] == 255).all()
    assert (strip[:, 24:] < 128).any()


def test_pictures_side_by_side_have_their_captions_above_them():
    pictures = [np.zeros((5, 60, 1), np.uint8), np.zeros((7, 70, 3), np.uint8)]
    drawn = side_by_side(pictures, gap=4, captions=("average", "weights"))
    assert drawn.shape == (7 + CAPTION, 134, 3)
    for left, width, height in ((0, 60, 5), (64, 70, 7)):
        strip, picture = drawn[:CAPTION, left : left + width], drawn[CAPTION:, left : left + width]
        assert strip.min() < 100, "something is written"
        assert (strip[:, 0] == 255).all()
        assert (picture[:height] == 0).all()
    with pytest.raises(ValueError, match="zip"):
        side_by_side(pictures, captions=("average",))
