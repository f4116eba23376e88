"""The largest memory of extracting Inception's features of many images, in a process of its own.

    python -m tests.evaluation.inception_memory 3000            # prints MiB
    python -m tests.evaluation.inception_memory 64 --size=299   # at the size of the published network

The network is complete, with random weights; by default it takes images of 75 pixels in place of 299, which makes
it 16 times as fast, and its features are as wide.
"""

import argparse
import dataclasses
import pathlib
import resource
import tempfile

import jax
import numpy as np

from gan_jax.data.image_sets import from_array
from gan_jax.metrics import inception_extractor
from gan_jax.metrics.inception import InceptionV3, expected_shapes
from gan_jax.metrics.summaries import summarize

KEPT = 2_000
"""Images whose features are kept, so that they do not count."""


def extractor(size):
    """The FID extractor with random weights, for images of `size` pixels."""
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.uniform(0.5, 1.5, shape) if name.endswith("running_var") else 0.05 * rng.normal(size=shape)
        for name, shape in expected_shapes().items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "weights.npz")
        np.savez(path, **{name: array.astype(np.float32) for name, array in arrays.items()})
        made = inception_extractor(path)

    def apply(params, x):
        resized = jax.image.resize(x, (len(x), size, size, 3), "linear", antialias=False)
        return InceptionV3().apply({"params": params}, resized)

    return dataclasses.replace(made, apply=apply, stable=False)


def main():
    """Extracts, and prints the process's largest memory in MiB."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=int, help="how many images")
    parser.add_argument("--size", type=int, default=75, help="the pixels that the network takes them at")
    flags = parser.parse_args()
    images = np.random.default_rng(1).integers(256, size=(flags.images, 8, 8, 3), dtype=np.uint8)
    found = summarize(extractor(flags.size), from_array(images, "noise"), kept=KEPT)
    assert found.number == flags.images
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10)


if __name__ == "__main__":
    main()
