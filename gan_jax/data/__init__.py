"""Where batches come from: toys that draw, arrays on the device, images."""

from typing import TYPE_CHECKING

from gan_jax._lazy import imported_when_used
from gan_jax.data.arrays import decode, encode, from_arrays
from gan_jax.data.errors import DataError
from gan_jax.data.source import Source
from gan_jax.data.toy import Toy, from_toy

if TYPE_CHECKING:
    from gan_jax.data.images import Dataset
    from gan_jax.data.specs import load, load_dataset, open_source

__getattr__ = imported_when_used(
    __name__,
    {
        "gan_jax.data.images": ["Dataset"],
        "gan_jax.data.specs": ["load", "load_dataset", "open_source"],
    },
)

__all__ = [
    "DataError",
    "Dataset",
    "Source",
    "Toy",
    "decode",
    "encode",
    "from_arrays",
    "from_toy",
    "load",
    "load_dataset",
    "open_source",
]
