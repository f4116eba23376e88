"""Compares CLIP ViT-B/32, DINOv2 ViT-L/14 and VGG16 at full depth with other libraries on the same weights.

    python tests/metrics/reference/make_extractors.py FOLDER    # where PyTorch and transformers are installed
    python -m tests.metrics.full_depth FOLDER

Each feature agrees within 1e-4 of the largest. The small networks of test_extractors.py are the same code.
"""

import pathlib
import sys

import jax
import numpy as np

from gan_jax import metrics
from gan_jax.metrics import vision_inputs
from tests.metrics.reference.make_extractors import seeded_images


def main():
    folder = pathlib.Path(sys.argv[1])
    with np.load(folder / "features.npz") as archive:
        expected = dict(archive)
    # The networks' own statistics are put back, so that they see the seeded images.
    for name, file in [
        ("clip", "clip/model.safetensors"),
        ("dinov2", "dinov2/model.safetensors"),
        ("vgg16", "vgg16.pth"),
    ]:
        options = {"resize": "none"} | ({"positions": "transformers"} if name == "dinov2" else {})
        extractor = metrics.extractor_named(f"{name}:{folder / file}", **options)
        statistics = vision_inputs.CLIP if name == "clip" else vision_inputs.IMAGENET
        mean, deviation = np.array(statistics, np.float32)
        images = (seeded_images(224) * deviation + mean) * 2 - 1
        found = jax.jit(extractor.apply)(extractor.params, images)["features"]
        error = float(np.abs(found - expected[name]).max() / np.abs(expected[name]).max())
        print(
            f"{extractor.name}: {found.shape[1]} features, largest difference {error:.1e} of the largest feature"
        )
        assert error < 1e-4


if __name__ == "__main__":
    main()
