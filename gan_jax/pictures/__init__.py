"""Grids of images with Pillow, and charts with matplotlib, which is imported for the first figure."""

from typing import TYPE_CHECKING

from gan_jax._lazy import imported_when_used
from gan_jax.pictures.grids import Picture, image_grid, opaque, side_by_side, to_png, to_uint8

if TYPE_CHECKING:
    from gan_jax.pictures.charts import (
        Chart,
        curves,
        dot_plot,
        histogram,
        image,
        interval_plot,
        scatter,
        surface,
        table,
    )
    from gan_jax.pictures.figures import Row, figure, save, to_array

__getattr__ = imported_when_used(
    __name__,
    {
        "gan_jax.pictures.charts": [
            "Chart",
            "curves",
            "dot_plot",
            "histogram",
            "image",
            "interval_plot",
            "scatter",
            "surface",
            "table",
        ],
        "gan_jax.pictures.figures": ["Row", "figure", "save", "to_array"],
    },
)

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
    "interval_plot",
    "opaque",
    "save",
    "scatter",
    "side_by_side",
    "surface",
    "table",
    "to_array",
    "to_png",
    "to_uint8",
]
