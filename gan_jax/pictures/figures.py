"""Figures of charts in rows, as arrays and as files.

Only matplotlib's objects are used, not `pyplot`, which is for the main thread: a figure can be made and drawn on
any thread.
"""

from __future__ import annotations

import dataclasses
import io
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gan_jax.files import replace_file
from gan_jax.pictures.charts import LEGEND_SIZE, Chart, legend_entries
from gan_jax.pictures.grids import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

DPI = 150
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""Metadata without dates and versions, so that files of the same figure are equal."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of charts.

    Attributes:
      charts: the charts from left to right; `None` leaves a place empty.
      height: the height in inches, including legends.
      widths: relative widths; equal by default.
      shared_legend: whether the row has a common legend instead of one below each chart.
    """

    charts: tuple[Chart | None, ...]
    height: float = 3.0
    widths: tuple[float, ...] | None = None
    shared_legend: bool = False


def figure(*rows: Row | Chart, width: float = 10.0) -> Figure:
    """Makes a figure of rows of charts.

    Args:
      rows: from top to bottom; a chart that is not in a `Row` fills a row; a `Row` without charts is left out.
      width: the width in inches; the height is the sum of the rows' heights.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [row if isinstance(row, Row) else Row((row,)) for row in rows]
    lines = [line for line in lines if line.charts]
    heights = [line.height for line in lines]
    page = Figure(figsize=(width, sum(heights)), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(page)
    parts = page.subfigures(len(lines), 1, squeeze=False, height_ratios=heights)
    for part, line in zip(parts[:, 0], lines, strict=True):
        _fill(part, line)
    return page


def _fill(part: SubFigure, row: Row) -> None:
    places = part.subplots(1, len(row.charts), squeeze=False, width_ratios=row.widths)[0]
    for axes, chart in zip(places, row.charts, strict=True):
        if chart is None:
            axes.set_axis_off()
        else:
            chart(axes)
    if row.shared_legend:
        _share_legend(part, list(places))


def _share_legend(part: SubFigure, places: list[Axes]) -> None:
    entries: dict[str, Any] = {}
    for axes in places:
        entries = legend_entries(axes) | entries
        if (legend := axes.get_legend()) is not None:
            legend.remove()
    part.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=min(len(entries), 6),
        frameon=False,
        fontsize=LEGEND_SIZE,
    )


def to_array(figure: Figure) -> Picture:
    """Renders a figure to pixels: uint8 `[height, width, 3]`, its inches times its dots per inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(figure: Figure, path: str | os.PathLike[str], *, colors: int | None = None) -> None:
    """Writes a figure to a file: PNG at 150 dots per inch, or SVG or PDF with text as text.

    Equal figures give equal files.

    Args:
      figure: the figure.
      path: a path that ends in `.png`, `.svg` or `.pdf`; its folder is created if it does not exist.
      colors: the number of colours of a PNG, at most 256, which reduces its size to a third; all by default.

    Raises:
      ValueError: if the path ends in something else.
      OSError: the file system's own error; an existing file is then as it was.
    """
    import matplotlib

    path = pathlib.Path(path)
    format = figure_format(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    if format == "png" and colors is not None:
        few = _with_few_colors(to_array(figure), colors)
        few.save(file, "PNG", optimize=True, dpi=(DPI, DPI))
    else:
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gan_jax", "pdf.fonttype": 42}):
            figure.savefig(file, format=format, dpi=DPI, metadata=_METADATA[format])
    replace_file(path, file.getvalue())


def figure_format(path: str | os.PathLike[str]) -> str:
    """The format in which `save` writes a figure to a path, by its ending.

    Raises:
      ValueError: if there is none.

    >>> figure_format("runs/comparison.SVG")
    'svg'
    """
    format = pathlib.Path(path).suffix.removeprefix(".").lower()
    if format not in _METADATA:
        raise ValueError(f"A figure can be saved as .png, .svg or .pdf, got {pathlib.Path(path).name!r}.")
    return format


def _with_few_colors(picture: Picture, colors: int) -> Image.Image:
    """A picture with a palette, half of the most frequent colours and half spread over all colours.

    This preserves the colours of lines, bands and grey images.
    """
    from scipy.spatial import cKDTree

    unique, place, counts = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    frequent = unique[np.argsort(-counts, kind="stable")][: colors // 2]
    remaining = colors - len(frequent)
    spread = Image.fromarray(picture).quantize(remaining, method=Image.Quantize.MAXCOVERAGE)
    palette = np.concatenate([frequent, np.reshape(spread.getpalette() or [], (-1, 3))[:remaining]])
    _, nearest = cKDTree(palette).query(unique)  # Pillow's search is approximate
    image = Image.fromarray(nearest[place].reshape(picture.shape[:2]).astype(np.uint8), "P")
    image.putpalette(palette.astype(np.uint8).ravel().tolist())
    return image
