"""Figures of charts in rows, as arrays and as files.

Only matplotlib's objects are used, never `pyplot`, which belongs to the main thread: a figure may be made and drawn
on any thread.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

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
"""What would make two files of the same figure differ is left out."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Charts side by side.

    Attributes:
      charts: from left to right; `None` leaves a place empty.
      height: in inches, legends included.
      widths: relative widths; equal ones by default.
      shared_legend: one legend below the row, in which a name stands once, instead of one below each chart.
    """

    charts: tuple[Chart | None, ...]
    height: float = 3.0
    widths: tuple[float, ...] | None = None
    shared_legend: bool = False


def figure(*rows: Row | Chart, width: float = 10.0) -> Figure:
    """Rows of charts below each other.

    Args:
      rows: from top to bottom; a chart by itself is a row of its own.
      width: in inches; the height is the sum of the rows' heights.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [row if isinstance(row, Row) else Row((row,)) for row in rows]
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
    """A figure as pixels: uint8 `[height, width, 3]`, its inches times its dots per inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(figure: Figure, path: str | os.PathLike[str], *, colors: int | None = None) -> None:
    """Writes a figure to a file: PNG at 150 dots per inch, or SVG or PDF, in which text stays text.

    A figure that is made again is written to the same bytes.

    Args:
      figure: the figure.
      path: ends in `.png`, `.svg` or `.pdf`; its folder is made where it does not exist.
      colors: how many colours a PNG is reduced to, at most 256: it takes a third of the space. All by default.

    Raises:
      ValueError: if the path ends in something else.
    """
    import matplotlib

    path = pathlib.Path(path)
    format = path.suffix.removeprefix(".").lower()
    if format not in _METADATA:
        raise ValueError(f"A figure is saved as .png, .svg or .pdf, got {path.name!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if format == "png" and colors is not None:
        few = _with_few_colors(to_array(figure), colors)
        few.save(path, optimize=True, dpi=(DPI, DPI))
        return
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gan_jax", "pdf.fonttype": 42}):
        figure.savefig(path, format=format, dpi=DPI, metadata=_METADATA[format])


def _with_few_colors(picture: Picture, colors: int) -> Image.Image:
    """A picture with a palette: half of it is the most frequent colours, the other half spreads over all of them.

    So neither lines, nor bands, nor the greys of an image lose their colours to the others.
    """
    from scipy.spatial import cKDTree

    found, place, counts = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    frequent = found[np.argsort(-counts, kind="stable")][: colors // 2]
    rest = colors - len(frequent)
    spread = Image.fromarray(picture).quantize(rest, method=Image.Quantize.MAXCOVERAGE)
    palette = np.concatenate([frequent, np.reshape(spread.getpalette() or [], (-1, 3))[:rest]])
    _, nearest = cKDTree(palette).query(found)  # Pillow's own search is approximate
    image = Image.fromarray(nearest[place].reshape(picture.shape[:2]).astype(np.uint8), "P")
    image.putpalette(palette.astype(np.uint8).ravel().tolist())
    return image
