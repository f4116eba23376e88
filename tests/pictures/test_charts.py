import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from gan_jax import pictures
from gan_jax.pictures import (
    Row,
    charts,
    curves,
    dot_plot,
    figure,
    histogram,
    save,
    scatter,
    surface,
    to_array,
)

LINE = {"line": ([0.0, 1.0, 2.0], [1.0, 2.0, 4.0])}
NAMED = {"x_label": "rounds", "y_label": "W1"}


def drawn(*rows, **options):
    """A figure after its layout, and its axes."""
    page = figure(*rows, **options)
    to_array(page)
    return page, page.get_axes()


def one(chart, **options):
    return drawn(chart, **options)[1][0]


def boxes_apart(first, second):
    """Whether two boxes have no point in common, in pixels."""
    return first.x1 <= second.x0 or second.x1 <= first.x0 or first.y1 <= second.y0 or second.y1 <= first.y0


# ---------------------------------------------------------------------------------------------------------
# Figures


@pytest.mark.full
def test_matplotlib_waits_for_the_first_figure():
    code = "import sys, gan_jax, gan_jax.pictures, experiments.ring; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_row_without_charts_is_left_out():
    """1.5 inches at 150 dots: only the row that shows something has a height."""
    page, axes = drawn(Row((), height=2.0), Row((scatter([[0.0, 0.0]]),), height=1.5), width=2.0)
    assert to_array(page).shape == (225, 300, 3)
    assert len(axes) == 1


@pytest.mark.full
def test_a_figure_needs_no_pyplot_and_no_main_thread():
    code = """
import sys, threading
from gan_jax.pictures import figure, scatter, to_array
found = []
thread = threading.Thread(target=lambda: found.append(to_array(figure(scatter([[0.0, 0.0]]), width=2.0))))
thread.start(); thread.join()
assert found[0].shape == (450, 300, 3), found
assert 'matplotlib.pyplot' not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_threads_draw_the_same_pixels():
    def draw(place):
        found[place] = to_array(figure(curves(LINE, **NAMED), width=3.0))

    found = [None] * 4
    threads = [threading.Thread(target=draw, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_pixels_are_inches_times_150():
    page = figure(
        Row((curves(LINE, **NAMED), scatter([[0.0, 0.0]])), height=1.5), curves(LINE, **NAMED), width=4.0
    )
    pixels = to_array(page)
    assert pixels.shape == ((1.5 + 3.0) * 150, 4.0 * 150, 3)
    assert pixels.dtype == np.uint8
    assert (pixels[0, 0] == 255).all()


def test_rows_stand_below_each_other_and_charts_side_by_side():
    chart = curves(LINE, **NAMED)
    _, (left, right, below) = drawn(Row((chart, chart), widths=(1.0, 3.0)), chart)
    left, right, below = (axes.get_window_extent() for axes in (left, right, below))
    assert left.x1 < right.x0
    assert below.y1 < min(left.y0, right.y0)
    assert right.width > 2 * left.width


def test_files_are_png_svg_and_pdf(tmp_path):
    def page():
        return figure(curves(LINE, **NAMED, title="Distance"), width=3.0)

    for suffix in ("png", "svg", "pdf"):
        save(page(), tmp_path / "folder" / f"chart.{suffix}")
        save(page(), tmp_path / f"again.{suffix}")
        written = (tmp_path / "folder" / f"chart.{suffix}").read_bytes()
        assert written == (tmp_path / f"again.{suffix}").read_bytes()
    with Image.open(tmp_path / "again.png") as image:
        assert image.size == (450, 450)
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), to_array(page()))
    assert (tmp_path / "again.pdf").read_bytes().startswith(b"%PDF")
    text = (tmp_path / "again.svg").read_text()
    for label in ("rounds", "W1", "Distance", "line"):
        assert f">{label}</text>" in text
    with pytest.raises(ValueError, match=r"saved as .png, .svg or .pdf, got 'chart.jpeg'"):
        save(page(), tmp_path / "chart.jpeg")


@pytest.mark.full
def test_few_colours_keep_bands_beside_images_of_many(tmp_path):
    """The colours that cover most pixels, those of two bands among them, are exactly as they were."""
    many = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    seeds = {"a": ([0, 1], [[0, 0], [2, 2]]), "b": ([0, 1], [[3, 3], [5, 5]])}
    page = figure(Row((pictures.image(many), curves(seeds, **NAMED))), width=6.0)
    save(page, tmp_path / "few.png", colors=64)
    with Image.open(tmp_path / "few.png") as image:
        assert image.mode == "P"
        assert len(image.getcolors()) <= 64
        few = np.asarray(image.convert("RGB"))
    whole = to_array(page)
    colors, counts = np.unique(whole.reshape(-1, 3), axis=0, return_counts=True)
    for color in colors[np.argsort(-counts, kind="stable")[:32]]:
        np.testing.assert_array_equal(np.unique(few[(whole == color).all(axis=-1)], axis=0), [color])


# ---------------------------------------------------------------------------------------------------------
# Legends and names


@pytest.mark.parametrize(
    "chart",
    [
        curves({f"name {i}": ([0, 1], [i, i + 1]) for i in range(7)}, **NAMED),
        scatter([[0.0, 0.0]], [[1.0, 1.0]]),
        histogram({"real": [0.0, 1.0], "fake": [1.0, 2.0]}, x_label="D", lines=LINE),
    ],
)
@pytest.mark.parametrize("width", [2.5, 9.0])
def test_legends_are_off_the_data_and_off_the_labels(chart, width):
    axes = one(Row((chart,), height=4.0), width=width)
    legend = axes.get_legend().get_window_extent()
    assert boxes_apart(legend, axes.get_window_extent())
    assert boxes_apart(legend, axes.xaxis.label.get_window_extent())
    page = axes.get_figure(root=True).bbox
    assert legend.y0 >= page.y0 - 1
    assert axes.get_xlabel()
    assert axes.get_ylabel()


def test_a_shared_legend_has_every_name_once_below_the_row():
    row = Row(
        (curves({"a": ([0, 1], [0, 1])}, **NAMED), curves({"a": ([0, 1], [1, 0]), "b": ([0], [0])}, **NAMED))
    )
    page, axes = drawn(Row(row.charts, shared_legend=True))
    (legend,) = page.subfigs[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    for place in axes:
        assert place.get_legend() is None
        assert boxes_apart(legend.get_window_extent(), place.get_window_extent())


def test_names_keep_their_colour_across_charts():
    order = ("a", "b")
    first = one(curves({"b": ([0, 1], [0, 1])}, **NAMED, order=order))
    second = one(curves({"a": ([0, 1], [0, 1]), "b": ([0, 1], [0, 1])}, **NAMED, order=order))
    assert first.lines[0].get_color() == second.lines[1].get_color()


def test_curves_differ_in_line_style_marker_and_colour():
    count = len(charts.COLORS)
    axes = one(curves({str(i): ([0, 1], [i, i]) for i in range(count)}, **NAMED))
    assert len({line.get_color() for line in axes.lines}) == count
    assert len({line.get_marker() for line in axes.lines}) == count
    assert len({(line.get_linestyle(), str(line._unscaled_dash_pattern)) for line in axes.lines}) == count


# ---------------------------------------------------------------------------------------------------------
# Curves


def test_seeds_are_a_mean_and_a_band_from_the_smallest_to_the_largest():
    axes = one(curves({"a": ([0.0, 1.0], [[1.0, 4.0], [3.0, 8.0]])}, **NAMED))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2.0, 6.0])
    corners = axes.collections[0].get_paths()[0].vertices
    assert {tuple(corner) for corner in corners.tolist()} == {(0, 1), (0, 3), (1, 4), (1, 8)}


def test_a_logarithmic_mean_is_geometric():
    axes = one(curves({"a": ([0.0], [[1.0], [100.0]])}, **NAMED, log="y"))
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [10.0])
    assert axes.get_yscale() == "log"


def test_what_is_not_finite_breaks_the_line():
    axes = one(curves({"a": ([0, 1, 2], [1.0, np.nan, 3.0])}, **NAMED))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1.0, np.nan, 3.0])
    axes = one(curves({"a": ([0, 1, 2], [1.0, 0.0, -3.0])}, **NAMED, log="y"))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1.0, np.nan, np.nan])


def test_curves_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="nothing finite"):
        curves({"a": ([0.0], [np.nan])}, **NAMED)
    with pytest.raises(ValueError, match=r"x \[M\] and y \[M\] or \[S, M\], got \(2,\) and \(3,\) of a"):
        curves({"a": ([0, 1], [0, 1, 2])}, **NAMED)


def test_equal_curves_show_a_circle_as_a_circle():
    angles = np.linspace(0, 2 * np.pi, 100)
    circle = {"circle": (np.cos(angles), np.sin(angles))}
    for limits in ({}, {"x_limits": (-2, 2), "y_limits": (-1.5, 1.5)}):
        axes = one(Row((curves(circle, **NAMED, equal=True, **limits),), height=2.0), width=7.0)
        assert_circle(axes)


# ---------------------------------------------------------------------------------------------------------
# Points


def assert_circle(axes):
    """The unit circle's pixels are all at one distance from its centre's."""
    angles = np.linspace(0, 2 * np.pi, 16)
    pixels = axes.transData.transform(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    radii = np.linalg.norm(pixels - axes.transData.transform((0.0, 0.0)), axis=1)
    np.testing.assert_allclose(radii, radii[0], rtol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(8.0, 2.0), (3.0, 6.0)])
@pytest.mark.parametrize("limits", [None, ((-1, 3), (0, 1))])
def test_a_circle_of_points_is_a_circle(width, height, limits):
    axes = one(
        Row((scatter([[1.0, 0.0]], [[0.0, 3.0], [9.0, 4.0]], limits=limits),), height=height), width=width
    )
    assert_circle(axes)


def test_points_lie_where_they_should():
    """One point in the middle of the upper right quarter of [-1, 1] squared."""
    page, (axes,) = drawn(scatter([[0.5, 0.5]], limits=((-1, 1), (-1, 1))), width=3.0)
    pixels = to_array(page).astype(int)
    box = axes.get_window_extent()
    inside = pixels[round(450 - box.y1) + 3 : round(450 - box.y0) - 3, round(box.x0) + 3 : round(box.x1) - 3]
    rows, columns = np.nonzero(np.abs(inside - [0xD5, 0x5E, 0x00]).sum(axis=-1) < 150)
    assert abs(columns.mean() + 3 - 0.75 * box.width) < 2
    assert abs(rows.mean() + 3 - 0.25 * box.height) < 2


def test_points_outside_are_counted_and_drawn_nowhere():
    points = [[0.0, 0.0], [5.0, 0.0], [np.nan, 0.0]]
    axes = one(scatter(points, limits=((-1, 1), (-1, 1)), title="round 5"))
    assert axes.get_title() == "round 5\npoints outside: 2"
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), [[0.0, 0.0]])
    one(scatter(np.full((3, 2), np.nan)))


def test_points_that_are_no_pairs_and_limits_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match=r"points \[N, 2\], got generated of shape \(3, 3\)"):
        scatter(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="Limits must be finite and ascending"):
        scatter([[0.0, 0.0]], limits=((1, 1), (0, 1)))


# ---------------------------------------------------------------------------------------------------------
# Histograms, surfaces, values of seeds, tables, images


def test_a_histogram_is_a_density_of_all_samples():
    """Uniform on [0, 1]: 1 where all is shown; on [0, .5] the same height, for half of the samples."""
    values = (np.arange(10_000) + 0.5) / 10_000
    for limits in (None, (0.0, 0.5)):
        heights, edges, _ = (
            one(histogram({"u": values}, x_label="x", bins=10, limits=limits)).patches[0].get_data()
        )
        np.testing.assert_allclose(heights, 1.0, atol=2e-3)
        assert edges[-1] == pytest.approx(0.5 if limits else 1.0, abs=1e-3)
    with pytest.raises(ValueError, match="nothing finite"):
        histogram({"u": [np.nan]}, x_label="x")


def test_a_surface_is_blue_where_low_and_red_where_high_and_its_rows_come_from_the_top():
    side = np.linspace(-1, 1, 20)
    values = np.broadcast_to(side[::-1, None], (20, 20))  # y itself
    page, axes = drawn(surface(values, [[5.0, 5.0]], value_label="score"), width=4.0)
    assert_circle(axes[0])
    assert len(axes[0].collections[-1].get_offsets()) == 0  # the point is outside
    box, pixels = axes[0].get_window_extent(), to_array(page).astype(int)
    column = round((box.x0 + box.x1) / 2)
    top, bottom = pixels[round(450 - box.y1) + 8, column], pixels[round(450 - box.y0) - 8, column]
    assert top[0] > top[2]
    assert bottom[2] > bottom[0]
    assert any(place.get_ylabel() == "score" for place in axes[0].child_axes)


def test_a_dot_plot_shows_values_mean_and_interval():
    """1, 2, 3: mean 2, half width 4.30265 / sqrt 3."""
    axes = one(dot_plot({"a": [1.0, 2.0, 3.0, np.nan], "b": [5.0]}, x_label="W1", marks=[4.0]))
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1.0, 2.0, 3.0])
    bar, single = (container[2] for container in axes.containers)
    ends = bar[0].get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, [2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5], rtol=1e-5)
    assert not single
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_a_logarithmic_dot_plot_has_the_logarithms_mean():
    axes = one(dot_plot({"a": [1.0, 100.0, -1.0]}, x_label="W1", log=True))
    np.testing.assert_allclose(axes.containers[0][0].get_xdata(), [10.0])


def test_a_table_has_means_and_half_widths():
    axes = one(pictures.table({"GAN": {"modes": [1.0, 2.0, 3.0]}, "WGAN": {"modes": [np.nan]}}, title="ring"))
    cells = axes.tables[0].get_celld()
    text = [[cells[row, column].get_text().get_text() for column in range(2)] for row in range(3)]
    assert text == [["", "modes"], ["GAN", "2 ± 2.5"], ["WGAN", "-"]]


def test_an_image_keeps_its_pixels():
    picture = np.array([[[0], [255]], [[255], [0]]], np.uint8)
    axes = one(pictures.image(picture, title="samples"), width=3.0)
    np.testing.assert_array_equal(axes.images[0].get_array(), np.repeat(picture, 3, axis=2))
