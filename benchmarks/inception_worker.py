"""The standard FID network on images of 32 pixels, ours or one of two in PyTorch, as a worker.

PyTorch's sides need PyTorch, numpy and nothing of the project but this folder; pytorch-fid's own network needs that
package and torchvision too.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import harness

Run = Callable[[np.ndarray], np.ndarray]
"""Images `[N, H, W, 3]` uint8 to features `[N, 2048]`."""


def seeded_arrays(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights of a network that neither explodes nor dies, each array from a seed made of its name."""
    arrays = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("conv.weight") or name == "fc.weight":
            arrays[name] = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(("bn.weight", "running_var")):
            arrays[name] = rng.uniform(0.5, 1.5, size=shape)
        else:
            arrays[name] = 0.1 * rng.normal(size=shape)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def seeded_images(number: int, size: int) -> np.ndarray:
    """Noise, `[number, size, size, 3]` uint8."""
    return np.random.default_rng(0).integers(256, size=(number, size, size, 3), dtype=np.uint8)


def ours(spec: Mapping[str, Any]) -> Run:
    """The features of `gan_jax.metrics.inception_extractor`, as comparisons extract them."""
    from gan_jax.metrics import extract, inception_extractor
    from gan_jax.metrics.features import BATCH
    from gan_jax.metrics.inception import expected_shapes

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "weights.npz")
        np.savez(path, allow_pickle=False, **seeded_arrays(expected_shapes()))
        extractor = inception_extractor(path)
    size = spec.get("batch", BATCH)
    return lambda images: extract(extractor, images, batch_size=size).features


def torchs(spec: Mapping[str, Any]) -> Run:
    """pytorch-fid's network, at its default of 50 images at a time."""
    import torch

    # The network needs none of torchvision's compiled operators, which wheels for another PyTorch do not bring.
    with mock.patch.object(torch.library, "register_fake", return_value=lambda function: function):
        from pytorch_fid import inception

    model = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    shapes = {n: tuple(a.shape) for n, a in model.state_dict().items() if "num_batches" not in n}
    arrays = {n: torch.from_numpy(a) for n, a in seeded_arrays(shapes).items()}
    arrays |= {n: torch.tensor(0) for n in model.state_dict() if "num_batches" in n}
    inception.load_state_dict_from_url = lambda *args, **kwargs: arrays
    network = inception.InceptionV3([3], resize_input=True).eval()
    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    if spec["channels_last"]:
        network = network.to(memory_format=torch.channels_last)

    def run(images: np.ndarray) -> np.ndarray:
        found = []
        with torch.no_grad():
            for start in range(0, len(images), 50):
                part = torch.from_numpy(images[start : start + 50]).permute(0, 3, 1, 2).float() / 255
                found.append(network(part)[0][:, :, 0, 0].numpy())
        return np.concatenate(found)

    return run


def folded(spec: Mapping[str, Any]) -> Run:
    """`torch_inception.InceptionV3` in channels-last memory and float32, `spec["batch"]` images at a time or 50."""
    import torch
    from torch.nn import functional as F

    from benchmarks.torch_inception import InceptionV3

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # as metrics have it here
    network = InceptionV3().eval()
    network.load(seeded_arrays(network.file_shapes()))
    network = network.to(spec["device"], memory_format=torch.channels_last)
    size = spec.get("batch", 50)
    if spec["threads"]:
        torch.set_num_threads(spec["threads"])

    def run(images: np.ndarray) -> np.ndarray:
        found = []
        with torch.inference_mode():
            for start in range(0, len(images), size):
                part = torch.from_numpy(images[start : start + size]).to(spec["device"])
                x = part.permute(0, 3, 1, 2).float() / 127.5 - 1
                x = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
                found.append(network(x))
            return torch.cat(found).cpu().numpy()

    return run


def main() -> None:
    """Serves passes over the images."""
    spec = json.loads(sys.argv[1])
    run = {"ours": ours, "torch": torchs, "folded": folded}[spec["who"]](spec)
    images = seeded_images(spec["images"], spec["size"])

    def play(rounds: int) -> dict[str, Any]:
        for _ in range(rounds):
            found = run(images)
        return {"mean": float(found.mean())}

    def features(number: int) -> dict[str, Any]:
        return {"features": run(images[:number]).tolist()}

    harness.serve({"who": spec["who"]}, play, features=features)


if __name__ == "__main__":
    main()
