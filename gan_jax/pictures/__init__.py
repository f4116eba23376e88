"""Grids of images with Pillow, and charts with matplotlib, which is imported for the first figure."""

from gan_jax.pictures.charts import (
    Chart,
    curves,
    dot_plot,
    histogram,
    image,
    scatter,
    surface,
    table,
)
from gan_jax.pictures.figures import Row, figure, save, to_array
from gan_jax.pictures.grids import Picture, image_grid, opaque, to_png, to_uint8

__all__ = [
    "Chart",
    "Picture",
    "Row",
    "curves",
    "dot_plot",
    "figure",
    "histogram",
    "image",
    "image_grid",
    "opaque",
    "save",
    "scatter",
    "surface",
    "table",
    "to_array",
    "to_png",
    "to_uint8",
]
