"""Makes r3gan.npz: what PyTorch makes of R3GAN's block between a reduction and an enlargement, and of its penalty.

    pip install torch==2.13.0
    python tests/networks/reference/make_r3gan.py

The weights and images are drawn again by the test, from the same seeds: see `seeded_arrays`.
"""

import pathlib
import zlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
CHANNELS, INSIDE, GROUPS = 8, 16, 2
SHAPES = {
    "x": (2, CHANNELS, 8, 12),
    "widen": (INSIDE, CHANNELS, 1, 1),
    "widen_bias": (INSIDE,),
    "spatial": (INSIDE, INSIDE // GROUPS, 3, 3),
    "spatial_bias": (INSIDE,),
    "narrow": (CHANNELS, INSIDE, 1, 1),
}
"""In PyTorch's order: images [B, C, H, W], kernels [O, I, h, w]."""


def seeded_arrays():
    """Images and weights, each array from a seed made of its name."""
    return {
        name: np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32) / 2
        for name, shape in SHAPES.items()
    }


def main():
    """Writes the output, and the penalty of the score sum tanh(output) with its gradients."""
    import torch
    from torch.nn import functional

    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    filters = torch.outer(taps, taps).expand(CHANNELS, 1, 4, 4)

    def block(p, x):
        h = functional.conv2d(x, p["widen"])
        h = functional.leaky_relu(h + p["widen_bias"][:, None, None], 0.2)
        h = functional.conv2d(h, p["spatial"], padding=1, groups=GROUPS)
        h = functional.leaky_relu(h + p["spatial_bias"][:, None, None], 0.2)
        return x + functional.conv2d(h, p["narrow"])

    def network(p, x):
        h = functional.conv2d(x, filters, stride=2, padding=1, groups=CHANNELS)
        return functional.conv_transpose2d(block(p, h), 4 * filters, stride=2, padding=1, groups=CHANNELS)

    arrays = {name: torch.tensor(array, requires_grad=True) for name, array in seeded_arrays().items()}
    out = network(arrays, arrays["x"])
    score = torch.sum(torch.tanh(out))
    (slope,) = torch.autograd.grad(score, arrays["x"], create_graph=True)
    penalty = torch.sum(slope**2) / 2
    gradients = torch.autograd.grad(penalty, list(arrays.values()))
    found = {"out": out, "penalty": penalty, **dict(zip((f"by_{n}" for n in arrays), gradients, strict=True))}
    np.savez_compressed(HERE / "r3gan.npz", **{name: t.detach().numpy() for name, t in found.items()})


if __name__ == "__main__":
    main()
