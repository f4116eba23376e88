import io

import numpy as np
import pytest
from PIL import Image

from gan_jax.pictures import image_grid, side_by_side, to_png, to_uint8
from gan_jax.pictures.grids import CAPTION


def test_every_byte_survives_the_way_to_floats_and_back():
    values = np.arange(256)
    np.testing.assert_array_equal(to_uint8(values / 127.5 - 1), values)


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
