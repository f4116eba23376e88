"""Where batches come from: toys that draw, arrays on the device, images."""

from gan_jax.data.arrays import decode, encode, from_arrays
from gan_jax.data.errors import DataError
from gan_jax.data.images import Dataset
from gan_jax.data.source import Source
from gan_jax.data.specs import load, load_dataset, open_source
from gan_jax.data.toy import Toy, from_toy

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
