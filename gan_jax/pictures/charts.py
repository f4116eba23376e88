"""Charts for matplotlib's axes: curves, points, histograms, surfaces, values of seeds, tables, images.

A function here checks its data and returns a `Chart`, which draws on the axes that `gan_jax.pictures.figure` makes.
The colours are those of Okabe and Ito, which are distinguishable with any colour vision; each also has a line style
and a marker. Legends are below the axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from gan_jax.functional.intervals import student_interval
from gan_jax.pictures.grids import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Chart: TypeAlias = "Callable[[Axes], None]"
"""A function that draws a chart on axes."""
Limits: TypeAlias = tuple[float, float]
Log: TypeAlias = Literal["", "x", "y", "xy"]
"""Which axes are logarithmic."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REAL, GENERATED = "#8A8F98", "#D55E00"
INK = "#3C3C3C"
TITLE_SIZE, LABEL_SIZE, LEGEND_SIZE = 9.5, 8.5, 8.0
_LEGEND_DROP = 32.0
"""Points between the axes and the legend: room for tick labels and the horizontal axis's label."""
_FEW = 12
"""Curves with at most this many points have markers."""


def curves(
    lines: Mapping[str, tuple[Any, Any]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log: Log = "",
    x_limits: Limits | None = None,
    y_limits: Limits | None = None,
    equal: bool = False,
    points: Collection[str] = (),
    order: Sequence[str] = (),
) -> Chart:
    """A chart of curves; for several seeds their mean, with a band from the smallest to the largest value.

    On a logarithmic axis the mean is the geometric mean.

    Args:
      lines: name -> (x `[M]`, y `[M]`, or `[S, M]` for S seeds). Values that are not finite, or not positive on a
        logarithmic axis, interrupt the line.
      x_label, y_label: the labels of the axes, with units if there are any.
      title: the title.
      log: which axes are logarithmic.
      x_limits, y_limits: the limits of the axes; by default all data are inside.
      equal: whether both axes have the same scale.
      points: names that are drawn as points without a line.
      order: names in the order of their colours, for charts that share a legend; the names of `lines` by default.

    Raises:
      ValueError: if there is nothing finite to draw, or x and y differ in length.
    """
    drawn = {name: _curve(name, x, y, log) for name, (x, y) in lines.items()}
    if not any(np.isfinite(middle).any() for _, middle, _, _ in drawn.values()):
        raise ValueError("There is nothing finite to draw.")
    places = _places(order or tuple(lines))

    def draw(axes: Axes) -> None:
        for name, (x, middle, low, high) in drawn.items():
            color, style, marker = _style(places[name])
            if name in points:
                axes.plot(x, middle, marker, color=color, label=name, markersize=3.5, fillstyle="none")
                continue
            shown = marker if len(x) <= _FEW else ""
            axes.plot(x, middle, color=color, linestyle=style, marker=shown, markersize=3.5, label=name)
            if low is not None and high is not None:
                axes.fill_between(x, low, high, color=color, alpha=0.22, linewidth=0)
        _scales(axes, log)
        _limits(axes, x_limits, y_limits)
        if equal:
            axes.set_aspect("equal", adjustable="datalim" if x_limits is None else "box")
        _name(axes, x_label, y_label, title)
        _legend(axes)

    return draw


def scatter(
    generated: Any,
    real: Any = None,
    *,
    limits: tuple[Limits, Limits] | None = None,
    x_label: str = "x1",
    y_label: str = "x2",
    title: str = "",
) -> Chart:
    """A scatter plot of generated points over real ones, with the same scale on both axes.

    Args:
      generated: `[N, 2]`.
      real: `[M, 2]`, or `None`.
      limits: `((x low, x high), (y low, y high))`; by default around the real points (or the generated ones without
        real ones) with a margin. The shorter axis is widened to a square.
      x_label, y_label: the labels of the axes.
      title: the title. A second line counts points that are outside or not finite, if there are any.

    Raises:
      ValueError: if the points are not pairs.
    """
    clouds = {"real": (_pairs(real, "real"), REAL)} if real is not None else {}
    clouds["generated"] = (_pairs(generated, "generated"), GENERATED)
    (left, right), (bottom, top) = _square(limits or _around(next(iter(clouds.values()))[0]))

    def draw(axes: Axes) -> None:
        missed = 0
        for name, (points, color) in clouds.items():
            x, y = points.T
            inside = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
            missed += int(np.sum(~inside))
            few = len(points) <= 500
            axes.scatter(
                x[inside],
                y[inside],
                s=6.0 if few else 3.0,
                c=color,
                alpha=0.8 if few else 0.4,
                linewidths=0,
                rasterized=True,
                label=name,
            )
        _limits(axes, (left, right), (bottom, top))
        axes.set_aspect("equal", adjustable="box")
        count = f"points outside: {missed}" if missed else ""
        _name(axes, x_label, y_label, "\n".join(filter(None, [title, count])))
        _legend(axes)

    return draw


def histogram(
    samples: Mapping[str, Any],
    *,
    x_label: str,
    y_label: str = "density",
    title: str = "",
    bins: int = 60,
    limits: Limits | None = None,
    y_limits: Limits | None = None,
    lines: Mapping[str, tuple[Any, Any]] | None = None,
) -> Chart:
    """A chart of density histograms with curves over them.

    Args:
      samples: name -> `[N]`; each is normalised by all its finite samples, including those outside the limits.
      x_label, y_label: the labels of the axes.
      title: the title.
      bins: the number of bins between the limits.
      limits: the limits of the horizontal axis; by default all samples are inside.
      y_limits: the limits of the vertical axis.
      lines: name -> (x `[M]`, y `[M]`).

    Raises:
      ValueError: if there are no limits and no finite samples.
    """
    values = {name: np.asarray(x, np.float64).reshape(-1) for name, x in samples.items()}
    low, high = limits or _span(np.concatenate([*values.values(), np.empty(0)]))
    edges = np.linspace(low, high, bins + 1)
    bars = {name: _density(x, edges) for name, x in values.items()}

    def draw(axes: Axes) -> None:
        for place, (name, heights) in enumerate(bars.items()):
            color, _, _ = _style(place)
            axes.stairs(heights, edges, fill=True, color=color, alpha=0.3, label=name)
            axes.stairs(heights, edges, color=color, linewidth=0.7)
        for place, (name, (x, y)) in enumerate((lines or {}).items(), start=len(bars)):
            color, style, _ = _style(place)
            axes.plot(x, y, color=color, linestyle=style, label=name)
        _limits(axes, (low, high), y_limits)
        _name(axes, x_label, y_label, title)
        _legend(axes)

    return draw


def surface(
    values: Any,
    points: Any = None,
    *,
    extent: float = 1.0,
    value_label: str,
    x_label: str = "x1",
    y_label: str = "x2",
    title: str = "",
    levels: int = 12,
) -> Chart:
    """A chart of a function on `[-extent, extent]^2` as filled contours with a colour bar, and points over it.

    Args:
      values: `[n, n]`, rows from top (y = extent) to bottom.
      points: `[N, 2]`, drawn in black, or `None`; those outside are not drawn.
      extent: half the square's side.
      value_label: the label of the colour bar.
      x_label, y_label: the labels of the axes.
      title: the title.
      levels: the approximate number of contour levels.
    """
    heights = np.asarray(values, np.float64)
    over = np.empty((0, 2)) if points is None else _pairs(points, "points")

    def draw(axes: Axes) -> None:
        side = np.linspace(-extent, extent, len(heights))
        bands = axes.contourf(side, -side, heights, levels=levels, cmap="RdYlBu_r")
        beside = axes.inset_axes((1.04, 0.0, 0.05, 1.0))
        bar = axes.get_figure(root=False).colorbar(bands, cax=beside)  # type: ignore[union-attr]
        bar.set_label(value_label, fontsize=LABEL_SIZE, color=INK)
        bar.ax.tick_params(labelsize=LABEL_SIZE - 1, colors=INK)
        inside = (np.abs(over) <= extent).all(axis=1)
        x, y = over[inside].T
        axes.scatter(x, y, s=1.5, c="black", linewidths=0, rasterized=True)
        _limits(axes, (-extent, extent), (-extent, extent))
        axes.set_aspect("equal", adjustable="box")
        _name(axes, x_label, y_label, title)

    return draw


def dot_plot(
    groups: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    title: str = "",
    log: bool = False,
    marks: Sequence[float] = (),
) -> Chart:
    """A chart with a row per group, in which each seed's value is a dot, with the mean and its 95 % interval.

    Args:
      groups: name -> the seeds' values; those that are not finite, or not positive on a logarithmic axis, are left
        out.
      x_label: the label of the axis.
      title: the title.
      log: whether the axis is logarithmic; mean and interval are then those of the logarithms.
      marks: values marked by a vertical line, such as a claim's bound.
    """
    shown = {name: _positive(values, log) for name, values in groups.items()}

    def draw(axes: Axes) -> None:
        for place, values in enumerate(shown.values()):
            color, _, marker = _style(place)
            finite = values[np.isfinite(values)]
            axes.plot(finite, np.full(len(finite), place), marker, color=color, markersize=4, alpha=0.75)
            if len(finite):
                mean, low, high = _interval(finite[:, None], log)
                ends = None if len(finite) == 1 else np.abs(np.stack([low, high]) - mean)
                axes.errorbar(mean, [place], xerr=ends, fmt="|", color=INK, markersize=11, capsize=3, lw=1)
        _scales(axes, "x" if log else "")
        _name_rows(axes, list(shown), marks)
        _name(axes, x_label, "", title)

    return draw


def interval_plot(
    rows: Mapping[str, tuple[float, float, float]],
    *,
    x_label: str,
    title: str = "",
    marks: Sequence[float] = (),
) -> Chart:
    """A chart with a row per name: a value as a dot, and its interval as a line.

    Args:
      rows: name -> (value, low, high); the bounds are NaN where there is no interval.
      x_label: the label of the axis.
      title: the title.
      marks: as in `dot_plot`.
    """

    def draw(axes: Axes) -> None:
        for place, (value, low, high) in enumerate(rows.values()):
            color, _, marker = _style(place)
            axes.plot([low, high], [place, place], "|-", color=color, markersize=8, linewidth=1.2)
            axes.plot([value], [place], marker, color=color, markersize=5)
        _name_rows(axes, list(rows), marks)
        _name(axes, x_label, "", title)

    return draw


def _name_rows(axes: Axes, names: Sequence[str], marks: Sequence[float]) -> None:
    """Names rows from top to bottom, and draws vertical lines at `marks`."""
    for value in marks:
        axes.axvline(value, color=INK, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)


def table(rows: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> Chart:
    """A table of means over seeds with the half widths of their 95 % intervals.

    Args:
      rows: name of the row -> name of the column -> the seeds' values; values that are not finite are left out.
      title: the title.
    """
    names = list(next(iter(rows.values())))
    cells = [["", *names]] + [
        [row, *(mean_cell(columns[name]) for name in names)] for row, columns in rows.items()
    ]

    def draw(axes: Axes) -> None:
        from matplotlib.transforms import Bbox

        axes.set_axis_off()
        grid = axes.table(cellText=cells, cellLoc="left", bbox=Bbox.unit(), edges="horizontal")
        grid.auto_set_font_size(False)
        grid.set_fontsize(LABEL_SIZE)
        for cell in grid.get_celld().values():
            cell.set_edgecolor("#BBBBBB")
            cell.set_linewidth(0.5)
        axes.set_title(title, fontsize=TITLE_SIZE, color=INK, loc="left")

    return draw


def mean_cell(values: Sequence[float]) -> str:
    """The mean of the finite values and the half width of its 95 % interval, as text.

    >>> mean_cell([1.0, 2.0, 3.0]), mean_cell([1.0, float("nan")]), mean_cell([float("nan")])
    ('2 ± 2.5', '1 (1 of 2 seeds)', '-')
    """
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return "-"
    mean, _, high = student_interval(finite)
    some = "" if len(finite) == len(values) else f" ({len(finite)} of {len(values)} seeds)"
    return f"{mean:.3g}{f' ± {high - mean:.2g}' if len(finite) > 1 else ''}{some}"


def image(picture: Picture, *, title: str = "", x_label: str = "", y_label: str = "") -> Chart:
    """A chart of a picture, such as a grid of images: uint8 `[H, W, C]`, C 1 or 3."""

    def draw(axes: Axes) -> None:
        shown = np.broadcast_to(picture, (*picture.shape[:2], 3))
        axes.imshow(shown, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        _name(axes, x_label, y_label, title)

    return draw


def legend_entries(axes: Axes) -> dict[str, Any]:
    """The entries of the axes' legend: label -> artist."""
    artists, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, artists, strict=True))


# ---------------------------------------------------------------------------------------------------------
# Axes


def _name(axes: Axes, x_label: str, y_label: str, title: str) -> None:
    axes.set_xlabel(x_label, fontsize=LABEL_SIZE, color=INK)
    axes.set_ylabel(y_label, fontsize=LABEL_SIZE, color=INK)
    axes.set_title(title, fontsize=TITLE_SIZE, color=INK)
    axes.tick_params(which="both", labelsize=LABEL_SIZE - 0.5, colors=INK)
    axes.spines[:].set_color("#9A9A9A")


def _legend(axes: Axes) -> None:
    """A legend below the axes, under the label of the horizontal axis."""
    from matplotlib.transforms import ScaledTranslation

    entries = legend_entries(axes)
    if not entries:
        return
    scale = axes.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
    inches = axes.get_window_extent().width / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    legend = axes.legend(
        list(entries.values()),
        list(entries),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=axes.transAxes + ScaledTranslation(0.0, -_LEGEND_DROP / 72, scale),
        borderaxespad=0.0,
        ncols=max(1, min(len(entries), int(inches / (0.5 + 0.055 * max(map(len, entries)))))),
        frameon=False,
        fontsize=LEGEND_SIZE,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(None if handle.get_alpha() is None else 0.9)


def _scales(axes: Axes, log: str) -> None:
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")


def _limits(axes: Axes, x: Limits | None, y: Limits | None) -> None:
    if x is not None:
        axes.set_xlim(*x)
    if y is not None:
        axes.set_ylim(*y)


def _style(place: int) -> tuple[str, Any, str]:
    return COLORS[place % len(COLORS)], LINES[place % len(LINES)], MARKERS[place % len(MARKERS)]


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


# ---------------------------------------------------------------------------------------------------------
# Data


def _curve(
    name: str, x: Any, y: Any, log: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """The points x, the mean, and for several seeds the bounds of the band."""
    across, values = _positive(x, "x" in log), _positive(y, "y" in log)
    if across.ndim != 1 or values.ndim not in (1, 2) or values.shape[-1] != len(across):
        raise ValueError(
            f"A curve has x [M] and y [M] or [S, M], got {across.shape} and {values.shape} of {name}."
        )
    if values.ndim == 1:
        return across, values, None, None
    mean = np.exp(np.log(values).mean(axis=0)) if "y" in log else values.mean(axis=0)
    return (
        (across, mean, values.min(axis=0), values.max(axis=0))
        if len(values) > 1
        else (across, mean, None, None)
    )


def _interval(values: np.ndarray, log: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not log:
        return student_interval(values)
    mean, low, high = (np.exp(end) for end in student_interval(np.log(values)))
    return mean, low, high


def _positive(values: Any, log: bool) -> np.ndarray:
    """Converts values to numbers, with NaN for those that a logarithmic axis cannot show."""
    numbers = np.asarray(values, np.float64)
    return np.where(numbers > 0, numbers, np.nan) if log else numbers


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    counts, _ = np.histogram(finite, edges)
    return counts / (max(len(finite), 1) * (edges[1] - edges[0]))


def _pairs(points: Any, name: str) -> np.ndarray:
    pairs = np.asarray(points, np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"A scatter plot takes points [N, 2], got {name} of shape {pairs.shape}.")
    return pairs


def _span(values: np.ndarray) -> Limits:
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise ValueError("There is nothing finite to draw.")
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _around(points: np.ndarray) -> tuple[Limits, Limits]:
    finite = points[np.isfinite(points).all(axis=1)]
    if not len(finite):
        return (-1.0, 1.0), (-1.0, 1.0)
    return _widened(_span(finite[:, 0])), _widened(_span(finite[:, 1]))


def _widened(limits: Limits, fraction: float = 0.15) -> Limits:
    margin = fraction * (limits[1] - limits[0])
    return limits[0] - margin, limits[1] + margin


def _square(limits: tuple[Limits, Limits]) -> tuple[Limits, Limits]:
    for low, high in limits:
        if not (math.isfinite(high - low) and low < high):
            raise ValueError(f"Limits must be finite and ascending, got {(low, high)}.")
    half = max(high - low for low, high in limits) / 2
    (x, y) = ((low + high) / 2 for low, high in limits)
    return (x - half, x + half), (y - half, y + half)
