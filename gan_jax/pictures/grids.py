"""Pictures as uint8 arrays: grids of images, scatter plots, histograms and curves, drawn with numpy and Pillow.

Everything here runs on the host and takes anything `numpy.asarray` takes.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Picture: TypeAlias = np.ndarray
"""uint8 `[H, W, C]`, C 1 or 3."""
Color: TypeAlias = tuple[int, int, int]
Limits: TypeAlias = tuple[float, float]

REAL: Color = (150, 155, 165)
GENERATED: Color = (214, 69, 32)
PALETTE: tuple[Color, ...] = (
    (31, 119, 180),
    (214, 69, 32),
    (44, 140, 60),
    (130, 80, 170),
    (120, 120, 120),
    (190, 150, 20),
)
_INK: Color = (60, 60, 60)
_OVERSAMPLING = 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 22, 22


def to_uint8(images: Any) -> np.ndarray:
    """Values in [-1, 1] to 0 .. 255, rounded; beyond the range they are clipped, NaN is mid-grey.

    >>> to_uint8([-1.0, 0.0, 1.0, 7.0, float("nan")])
    array([  0, 128, 255, 255, 128], dtype=uint8)
    """
    values = np.nan_to_num(np.asarray(images, np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.floor((np.clip(values, -1.0, 1.0) + 1.0) * 127.5 + 0.5).astype(np.uint8)


def image_grid(
    images: Any, columns: int | None = None, *, gap: int = 1, scale: int = 1, smooth: bool = False
) -> Picture:
    """Images side by side, row by row, on white.

    >>> image_grid(np.zeros((5, 8, 8, 1)), columns=3).shape
    (17, 26, 1)

    Args:
      images: `[N, H, W, C]` in [-1, 1], C 1 or 3.
      columns: images in a row; the least number that makes the grid no higher than wide, by default.
      gap: white pixels between images.
      scale: every pixel is drawn as a square of `scale` by `scale`.
      smooth: enlarge by bicubic interpolation instead; small digits are read more easily so.

    Returns:
      uint8 `[rows (H scale + gap) - gap, columns (W scale + gap) - gap, C]`.

    Raises:
      ValueError: if `images` has another shape, or a number is out of range.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[0] < 1 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"A grid is made of images [N, H, W, C] with N >= 1 and C 1 or 3, got {images.shape}."
        )
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    if columns < 1 or gap < 0 or scale < 1:
        raise ValueError(
            f"A grid has columns >= 1, gap >= 0 and scale >= 1, got columns={columns}, gap={gap}, scale={scale}."
        )
    tiles = to_uint8(images)
    tiles = _enlarged(tiles, scale) if smooth else tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, channels = tiles.shape
    rows = -(-count // columns)
    cells = np.full((rows * columns, height + gap, width + gap, channels), 255, np.uint8)
    cells[:count, :height, :width] = tiles
    grid = cells.reshape(rows, columns, height + gap, width + gap, channels).swapaxes(1, 2)
    grid = grid.reshape(rows * (height + gap), columns * (width + gap), channels)
    return grid[: grid.shape[0] - gap, : grid.shape[1] - gap]


def _enlarged(tiles: np.ndarray, scale: int) -> np.ndarray:
    _, height, width, _ = tiles.shape
    size = (width * scale, height * scale)
    planes = [
        [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in tile]
        for tile in tiles.transpose(0, 3, 1, 2)
    ]
    return np.asarray(planes).transpose(0, 2, 3, 1)


def to_png(picture: Picture) -> bytes:
    """A picture as a PNG file's bytes.

    Raises:
      ValueError: if it is not uint8 `[H, W, C]` with C 1 or 3.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] not in (1, 3):
        raise ValueError(f"A picture is uint8 [H, W, C] with C 1 or 3, got {picture.dtype} {picture.shape}.")
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(file, "PNG")
    return file.getvalue()


# ---------------------------------------------------------------------------------------------------------
# Plots


def scatter(
    generated: Any,
    real: Any = None,
    *,
    limits: tuple[Limits, Limits] | None = None,
    size: int = 400,
    title: str = "",
) -> Picture:
    """Points in the plane: real ones in grey, generated ones over them in red, one unit as long on either axis.

    Args:
      generated: `[N, 2]`.
      real: `[M, 2]`, or none.
      limits: `((x low, x high), (y low, y high))`; by default what holds the real points (the generated ones where
        there are none) with a margin. The shorter axis is widened to a square.
      size: width and height in pixels.
      title: a line above.

    Returns:
      uint8 `[size, size, 3]`. The legend counts points that lie outside or are not finite.

    Raises:
      ValueError: if the points are not pairs.
    """
    clouds = {"real": (_pairs(real, "real"), REAL)} if real is not None else {}
    clouds["generated"] = (_pairs(generated, "generated"), GENERATED)
    x, y = _square(limits or _around(next(iter(clouds.values()))[0]))
    frame = _Frame((size, size), x, y, square=True)
    canvas = frame.blank()
    legend = []
    for name, (points, color) in clouds.items():
        missed = _stamp(canvas, frame, points, color)
        legend.append((f"{name} ({missed} outside)" if missed else name, color))
    return frame.finish(Image.fromarray(canvas), legend, title)


def chart(
    curves: Mapping[str, tuple[Any, Any]] | None = None,
    histograms: Mapping[str, Any] | None = None,
    *,
    bins: int = 60,
    limits: Limits | None = None,
    size: tuple[int, int] = (480, 320),
    title: str = "",
) -> Picture:
    """Curves as lines and samples as histograms of their density, on one pair of axes.

    Args:
      curves: name -> (x `[M]`, y `[M]`); points that are not finite break the line.
      histograms: name -> samples `[N]`; each is normalised by all its finite samples, those outside too.
      bins: how many a histogram has between the limits.
      limits: of the horizontal axis; by default what holds everything.
      size: width and height in pixels.
      title: a line above.

    Returns:
      uint8 `[height, width, 3]`.

    Raises:
      ValueError: if there is nothing finite to draw.
    """
    lines = {name: (_flat(x), _flat(y)) for name, (x, y) in (curves or {}).items()}
    samples = {name: _flat(values) for name, values in (histograms or {}).items()}
    low, high = limits or _span(
        np.concatenate([*(x for x, _ in lines.values()), *samples.values(), np.empty(0)])
    )
    edges = np.linspace(low, high, bins + 1)
    bars = {name: _density(values, edges) for name, values in samples.items()}
    shown = [y[(x >= low) & (x <= high)] for x, y in lines.values()]
    vertical = _span(np.concatenate([*shown, *bars.values(), np.zeros(1 if bars else 0)]))
    frame = _Frame(size, (low, high), _widened(vertical, 0.05))
    colors = dict(zip([*bars, *lines], PALETTE * (1 + len(bars) + len(lines)), strict=False))
    image = Image.fromarray(frame.blank())
    for name, heights in bars.items():
        image = _fill_steps(image, frame, edges, heights, colors[name])
    draw = ImageDraw.Draw(image)
    for name, (x, y) in lines.items():
        for piece in _unbroken(x, y):
            pixels = frame.pixels(piece)
            draw.line([tuple(p) for p in pixels.tolist()], fill=colors[name], width=2 * _OVERSAMPLING)
    return frame.finish(image, [(name, colors[name]) for name in (*bars, *lines)], title)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Where data coordinates lie on the picture, and what is drawn around them."""

    size: tuple[int, int]
    x: Limits
    y: Limits
    square: bool = False

    def __post_init__(self) -> None:
        for low, high in (self.x, self.y):
            if not (math.isfinite(high - low) and low < high):
                raise ValueError(f"Limits are finite and rise, got {(low, high)}.")

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the plotting area in pixels."""
        width, height = self.size
        left, top, right, bottom = _LEFT, _TOP, width - _RIGHT, height - _BOTTOM
        if self.square:
            side = min(right - left, bottom - top)
            right, bottom = left + side, top + side
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def blank(self) -> np.ndarray:
        """The plotting area alone, oversampled: uint8 `[h, w, 3]`, white."""
        left, top, right, bottom = self.box
        return np.full(((bottom - top) * _OVERSAMPLING, (right - left) * _OVERSAMPLING, 3), 255, np.uint8)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Data coordinates `[N, 2]` to oversampled (column, row) in the plotting area."""
        left, top, right, bottom = self.box
        across = (points[:, 0] - self.x[0]) / (self.x[1] - self.x[0]) * (right - left)
        down = (self.y[1] - points[:, 1]) / (self.y[1] - self.y[0]) * (bottom - top)
        return np.stack([across, down], axis=1) * _OVERSAMPLING

    def finish(self, area: Image.Image, legend: Sequence[tuple[str, Color]], title: str) -> Picture:
        """The plotting area at its size, with frame, ticks, legend and title."""
        left, top, right, bottom = self.box
        page = Image.new("RGB", self.size, (255, 255, 255))
        page.paste(area.resize((right - left, bottom - top), Image.Resampling.BOX), (left, top))
        draw, font = ImageDraw.Draw(page), ImageFont.load_default()
        draw.rectangle((left, top, right, bottom), outline=_INK)
        for value in _ticks(self.x):
            at, text = left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (right - left), f"{value:g}"
            draw.line((at, bottom, at, bottom + 3), fill=_INK)
            draw.text((at - draw.textlength(text, font=font) / 2, bottom + 4), text, fill=_INK, font=font)
        for value in _ticks(self.y):
            at, text = top + (self.y[1] - value) / (self.y[1] - self.y[0]) * (bottom - top), f"{value:g}"
            draw.line((left - 3, at, left, at), fill=_INK)
            draw.text((left - 5 - draw.textlength(text, font=font), at - 6), text, fill=_INK, font=font)
        draw.text((left, 5), title, fill=_INK, font=font)
        row = top + 4
        for name, color in legend:
            draw.rectangle(
                (left + 4, row, left + 20 + draw.textlength(name, font=font), row + 12), fill="white"
            )
            draw.rectangle((left + 6, row + 3, left + 14, row + 9), fill=color)
            draw.text((left + 18, row), name, fill=_INK, font=font)
            row += 13
        return np.asarray(page)


def _stamp(canvas: np.ndarray, frame: _Frame, points: np.ndarray, color: Color) -> int:
    """Blends a small disc for each point into `canvas`, denser where more lie; returns how many lie outside."""
    height, width = canvas.shape[:2]
    finite = points[np.isfinite(points).all(axis=1)]
    at = frame.pixels(finite)
    inside = (at >= 0).all(axis=1) & (at[:, 0] < width) & (at[:, 1] < height)
    column, row = np.floor(at[inside]).astype(np.int64).T
    radius = 2 * _OVERSAMPLING if len(points) <= 500 else _OVERSAMPLING
    counts = np.zeros(height * width)
    for down in range(-radius, radius + 1):
        for across in range(-radius, radius + 1):
            if down * down + across * across <= radius * radius:
                r, c = row + down, column + across
                held = (r >= 0) & (r < height) & (c >= 0) & (c < width)
                counts += np.bincount(r[held] * width + c[held], minlength=height * width)
    opacity = 0.8 if len(points) <= 500 else 0.4
    cover = (1.0 - (1.0 - opacity) ** counts).reshape(height, width, 1)
    canvas[:] = np.round(canvas * (1.0 - cover) + np.asarray(color) * cover)
    return len(points) - int(inside.sum())


def _fill_steps(
    image: Image.Image, frame: _Frame, edges: np.ndarray, heights: np.ndarray, color: Color
) -> Image.Image:
    x, y = np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(heights, 2), [0.0]])
    outline = [tuple(p) for p in frame.pixels(np.stack([x, y], axis=1)).tolist()]
    filled = image.copy()
    ImageDraw.Draw(filled).polygon(outline, fill=color)
    image = Image.blend(image, filled, 0.35)
    ImageDraw.Draw(image).line(outline, fill=color, width=_OVERSAMPLING)
    return image


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    counts, _ = np.histogram(finite, edges)
    return counts / (max(len(finite), 1) * (edges[1] - edges[0]))


def _unbroken(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    finite = np.isfinite(x) & np.isfinite(y)
    cuts = np.flatnonzero(np.diff(finite.astype(np.int8))) + 1
    pieces = np.split(np.stack([x, y], axis=1), cuts)
    return [piece for piece in pieces if len(piece) > 1 and np.isfinite(piece).all()]


def _pairs(points: Any, name: str) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"A scatter plot takes points [N, 2], got {name} of shape {points.shape}.")
    return points


def _flat(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(-1)


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
    return _widened(_span(finite[:, 0]), 0.15), _widened(_span(finite[:, 1]), 0.15)


def _widened(limits: Limits, share: float) -> Limits:
    margin = share * (limits[1] - limits[0])
    return limits[0] - margin, limits[1] + margin


def _square(limits: tuple[Limits, Limits]) -> tuple[Limits, Limits]:
    half = max(high - low for low, high in limits) / 2
    (x, y) = ((low + high) / 2 for low, high in limits)
    return (x - half, x + half), (y - half, y + half)


def _ticks(limits: Limits) -> list[float]:
    """Between three and six round numbers inside `limits`: multiples of 1, 2 or 5 times a power of ten."""
    low, high = limits
    power = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next((m * power for m in (5, 2, 1) if (high - low) / (m * power) >= 3), power)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]
