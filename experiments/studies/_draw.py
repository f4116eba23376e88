"""Figures of several panels, made of the library's pictures."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from experiments.studies._study import interval
from gan_jax.pictures.grids import PALETTE, Picture, chart

_INK = (60, 60, 60)
_GREYS = "0123456789abcdefghijklmnopqrstuvwxyz"
COLORS = 96
"""A study's picture is stored with so many colours: a third of the bytes."""


def row(*pictures: Picture, gap: int = 6) -> Picture:
    """Pictures side by side on white, aligned at the top."""
    height = max(len(picture) for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + gap * (len(pictures) - 1)
    page = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for picture in pictures:
        page[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return page


def column(*pictures: Picture, gap: int = 6) -> Picture:
    """Pictures one below the other on white, aligned at the left."""
    return row(*(picture.swapaxes(0, 1) for picture in pictures), gap=gap).swapaxes(0, 1)


def rows(pictures: Sequence[Picture], columns: int, gap: int = 6) -> Picture:
    """Pictures in reading order."""
    starts = range(0, len(pictures), columns)
    return column(*(row(*pictures[start : start + columns], gap=gap) for start in starts), gap=gap)


def titled(picture: Picture, title: str) -> Picture:
    """A picture under a line of text."""
    page = Image.new("RGB", (picture.shape[1], 18), (255, 255, 255))
    ImageDraw.Draw(page).text((4, 3), title, fill=_INK, font=ImageFont.load_default())
    return column(np.asarray(page), rgb(picture), gap=0)


def rgb(picture: Picture) -> Picture:
    """One channel as three."""
    return np.broadcast_to(picture, (*picture.shape[:2], 3)) if picture.shape[2] == 1 else picture


def curves(
    given: Mapping[str, tuple[Any, Any]], *, size: tuple[int, int] = (300, 260), title: str = ""
) -> Picture:
    """A chart whose legend has a place above the curves: a point that no line reaches raises the top.

    Args:
      given: name -> (x `[M]`, y `[M]`).
      size: width and height in pixels.
      title: a line above.
    """
    heights = np.concatenate([np.asarray(y, np.float64).reshape(-1) for _, y in given.values()])
    low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
    legend = min(13 * len(given) / (size[1] - 50), 0.6)
    top = high + legend / (1 - legend) * ((high - low) or 1.0)
    first, (x, y) = next(iter(given.items()))
    raised = {first: (np.r_[x, np.nan, x[0]], np.r_[y, np.nan, top])}
    return chart({**given, **raised}, size=size, title=title)


def surface(
    values: Any,
    points: Any = None,
    *,
    extent: float = 1.0,
    size: int = 200,
    title: str = "",
    levels: int = 12,
) -> Picture:
    """A function on the square `[-extent, extent]^2` as level bands, blue to red, with points over it.

    Args:
      values: `[n, n]`, rows from top (y = extent) to bottom; scaled to their own range.
      points: `[N, 2]`, drawn in black, or none.
      extent: half the square's side.
      size: width in pixels.
      title: a line above.
      levels: how many bands.
    """
    array = np.asarray(values, np.float64)
    low, high = float(np.nanmin(array)), float(np.nanmax(array))
    share = (array - low) / (high - low) if high > low else np.full_like(array, 0.5)
    band = np.clip(np.floor(share * levels), 0, levels - 1) / max(levels - 1, 1)
    blue, white, red = np.array([49, 104, 180]), np.array([246, 246, 246]), np.array([200, 60, 40])
    lower = blue + (white - blue) * np.clip(2 * band, 0, 1)[..., None]
    upper = white + (red - white) * np.clip(2 * band - 1, 0, 1)[..., None]
    colors = np.where((band <= 0.5)[..., None], lower, upper)
    image = Image.fromarray(np.round(colors).astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
    picture = np.array(image)
    if points is not None:
        at = (np.asarray(points, np.float64) * [1, -1] + extent) / (2 * extent) * size
        column_, row_ = np.floor(at[((at >= 0) & (at < size)).all(axis=1)]).astype(int).T
        picture[row_, column_] = (0, 0, 0)
    return titled(picture, title)


def dots(
    groups: Mapping[str, Sequence[float]], *, title: str = "", width: int = 420, lines: Sequence[float] = ()
) -> Picture:
    """Every seed's value as a dot, one line of the picture for each group, with the mean as a bar.

    Args:
      groups: name -> the seeds' values; what is not finite is left out.
      title: a line above.
      width: in pixels.
      lines: values marked by a vertical line, a claim's bound for instance.
    """
    font, left, step, top = ImageFont.load_default(), 120, 18, 22
    values = np.array([value for group in groups.values() for value in group] + list(lines), np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    low, high = low - margin, high + margin
    height = top + step * len(groups) + 20
    page = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(page)

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 12)

    bottom = height - 18
    draw.rectangle((left, top - 2, width - 12, bottom), outline=_INK)
    draw.text((4, 4), title, fill=_INK, font=font)
    for value in lines:
        draw.line((across(value), top - 2, across(value), bottom), fill=(150, 150, 150), width=1)
    for value in _round_numbers(low, high):
        text = f"{value:.6g}"
        draw.text(
            (across(value) - draw.textlength(text, font=font) / 2, bottom + 4), text, fill=_INK, font=font
        )
    for place, (name, group) in enumerate(groups.items()):
        middle = top + step * place + step / 2 - 2
        color = PALETTE[place % len(PALETTE)]
        draw.text((4, middle - 6), name, fill=_INK, font=font)
        seen = [value for value in group if np.isfinite(value)]
        for value in seen:
            x = across(value)
            draw.ellipse((x - 3, middle - 3, x + 3, middle + 3), fill=color)
        if seen:
            x = across(float(np.mean(seen)))
            draw.line((x, middle - 7, x, middle + 7), fill=color, width=2)
    return np.asarray(page)


def table(rows: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> Picture:
    """Means over the seeds with the half width of their 95 % intervals, as numbers.

    Args:
      rows: name of the row -> name of the column -> the seeds' values; what is not finite is left out.
      title: a line above.
    """
    font, left, step, width = ImageFont.load_default(), 100, 16, 118
    names = list(next(iter(rows.values())))
    page = Image.new("RGB", (left + width * len(names), step * (len(rows) + 2) + 6), (255, 255, 255))
    pen = ImageDraw.Draw(page)
    pen.text((4, 3), title, fill=_INK, font=font)
    for place, name in enumerate(names):
        pen.text((left + width * place, 3 + step), name, fill=_INK, font=font)
    for line, (row_name, values) in enumerate(rows.items(), start=2):
        pen.text((4, 3 + step * line), row_name, fill=_INK, font=font)
        for place, name in enumerate(names):
            pen.text((left + width * place, 3 + step * line), _cell(values[name]), fill=_INK, font=font)
    return np.asarray(page)


def _cell(values: Sequence[float]) -> str:
    """The mean of what is finite, and the half width of its interval.

    >>> _cell([1.0, 2.0, 3.0]), _cell([float("nan")])
    ('2 +- 2.5', '-')
    """
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return "-"
    mean, _, high = interval(finite)
    few = "" if len(finite) == len(values) else f" ({len(finite)} seeds)"
    return f"{mean:.3g}{f' +- {high - mean:.2g}' if len(finite) > 1 else ''}{few}"


def _round_numbers(low: float, high: float) -> list[float]:
    """Two to six multiples of 1, 2 or 5 times a power of ten between the ends."""
    power = 10.0 ** np.floor(np.log10((high - low) / 2))
    step = next((m * power for m in (5, 2, 1) if (high - low) / (m * power) >= 2), power)
    return [float(i * step) for i in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def few_greys(picture: Picture) -> Picture:
    """32 levels, black and white among them: what is stored has so few colours that curves would lose theirs."""
    return np.round(np.round(picture / 255 * 31) / 31 * 255).astype(np.uint8)


def as_text(images: Any) -> list[str]:
    """Grey images in [-1, 1], `[N, ...]`, as a line of 36 grey levels each: what a JSON file keeps of them."""
    flat = np.clip(np.asarray(images, np.float64), -1, 1).reshape(len(images), -1)
    levels = np.floor((flat + 1) / 2 * (len(_GREYS) - 1) + 0.5).astype(int)
    return ["".join(_GREYS[level] for level in line) for line in levels.tolist()]


def from_text(lines: Sequence[str], side: int) -> np.ndarray:
    """The images of `as_text`, `[N, side, side, 1]`, to half a grey level.

    >>> from_text(as_text([[-1.0, 1.0, 0.99, -0.99]]), 2).ravel().tolist()
    [-1.0, 1.0, 1.0, -1.0]
    """
    levels = np.array([[_GREYS.index(level) for level in line] for line in lines], np.float64)
    return (2 * levels / (len(_GREYS) - 1) - 1).reshape(-1, side, side, 1)


def save(path: pathlib.Path, picture: Picture) -> None:
    """Writes a picture as a small PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    few = Image.fromarray(picture).quantize(COLORS, dither=Image.Dither.NONE)
    few.save(file, "PNG", optimize=True)
    path.write_bytes(file.getvalue())
