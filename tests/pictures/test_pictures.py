import io

import numpy as np
import pytest
from PIL import Image

from gan_jax.pictures.grids import GENERATED, REAL, chart, image_grid, scatter, to_png, to_uint8


def ring(modes, count, spread=0.02, seed=0):
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * (np.arange(count) % modes) / 8
    return 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1) + spread * rng.normal(size=(count, 2))


def blobs(mask):
    """How many connected patches a mask has (scipy's labelling)."""
    from scipy import ndimage

    return ndimage.label(ndimage.binary_dilation(mask, iterations=2))[1]


def near(picture, color, tolerance=40):
    return (np.abs(picture.astype(int) - np.array(color)).sum(axis=-1) < tolerance)[24:-24, 46:]


def legend_removed(mask):
    mask = mask.copy()
    mask[:40, :140] = False
    return mask


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
        (np.zeros((2, 4, 4, 2)), {}),
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
    with pytest.raises(ValueError, match="A picture is uint8"):
        to_png(np.zeros((2, 2, 3)))


@pytest.mark.parametrize("modes", [1, 5, 8])
def test_a_ring_shows_its_modes(modes):
    picture = scatter(ring(modes, 2000, seed=1), ring(8, 2000))
    assert picture.shape == (400, 400, 3)
    assert picture.dtype == np.uint8
    assert blobs(legend_removed(near(picture, GENERATED))) == modes
    assert blobs(legend_removed(near(picture, REAL, 20))) >= 8 - modes  # the real ones under them are hidden


def test_points_lie_where_they_should():
    # One point in the middle of the upper right quarter of [-1, 1] squared.
    picture = scatter([[0.5, 0.5]], limits=((-1, 1), (-1, 1)), size=400)
    mask = np.abs(picture.astype(int) - np.array(GENERATED)).sum(axis=-1) < 150
    mask[:40, :140] = False
    rows, columns = np.nonzero(mask)
    side = 400 - 44 - 10  # the plotting area begins at column 44, row 22
    assert abs(columns.mean() - (44 + 0.75 * side)) < 1.5
    assert abs(rows.mean() - (22 + 0.25 * side)) < 1.5


def test_points_outside_and_nan_are_drawn_nowhere():
    inside = scatter([[0.0, 0.0]], limits=((-1, 1), (-1, 1)))
    more = scatter([[0.0, 0.0], [5.0, 0.0], [np.nan, 0.0]], limits=((-1, 1), (-1, 1)))
    np.testing.assert_array_equal(inside[40:], more[40:])  # the legend, which counts them, is above
    assert (inside[:40] != more[:40]).any()
    scatter(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="points"):
        scatter(np.zeros((3, 3)))


def test_a_chart_draws_its_curve_where_it_is():
    x = np.linspace(0, 1, 50)
    picture = chart({"line": (x, x)}, size=(300, 200))
    assert picture.shape == (200, 300, 3)
    blue = near(picture, (31, 119, 180), 120)
    blue[:20, :60] = False  # the legend
    rows, columns = np.nonzero(blue)
    assert np.corrcoef(rows, columns)[0, 1] < -0.99  # up and to the right


def test_a_charts_histogram_is_a_density():
    # Uniform on [0, 1] has density 1, as high as the constant curve drawn beside it.
    values = (np.arange(10_000) + 0.5) / 10_000
    x = np.linspace(0, 1, 20)
    flat = chart(
        {"one": (x, np.ones(20)), "two": (x, 2 * np.ones(20))}, {"uniform": values}, bins=10, limits=(0, 1)
    )
    top = [row for row in range(40, 300) if (flat[row, 300] != 255).any()]
    line = near(flat, (214, 69, 32), 60)
    assert abs(np.nonzero(line[:, 200])[0].mean() + 24 - top[0]) < 2.5


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="nothing finite"):
        chart({"line": ([np.nan], [1.0])})
    with pytest.raises(ValueError, match="Limits"):
        chart({"line": ([0, 1], [0, 1])}, limits=(1, 1))
    chart({"gap": ([0, 1, 2, 3, 4], [0, 1, np.nan, 1, 2])}, {"empty": []})
