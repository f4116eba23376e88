"""Prints reference gradients of a modulated convolution that doubles its image, computed by PyTorch in float64.

    python tests/networks/torch_stylegan2.py

Each example has a kernel of its own and the convolutions are grouped by example, as the paper's formula reads.
`test_stylegan2.py` holds the numbers; PyTorch is not needed to run it.
"""

import json

import numpy as np


def inputs():
    """Images, kernel, scales and a direction, as float64."""
    shapes = ((2, 4, 4, 2), (3, 3, 2, 3), (2, 2), (2, 8, 8, 3))
    return [np.random.default_rng(seed).standard_normal(shape) for seed, shape in enumerate(shapes)]


def main():
    """The loss sum sin(y) g, its gradients, and those of the squared slope by the scales."""
    import torch
    import torch.nn.functional as F

    x, w, s, g = (torch.tensor(array, requires_grad=True) for array in inputs())
    fir = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])).double() / 16
    kernels = w[None] * s[:, None, None, :, None]
    kernels = kernels / torch.sqrt((kernels**2).sum((1, 2, 3), keepdim=True) + 1e-8)
    kernels = kernels.permute(0, 4, 3, 1, 2).reshape(6, 2, 3, 3)
    zeros = torch.zeros(2, 2, 7, 7, dtype=torch.float64).clone()
    zeros[:, :, ::2, ::2] = x.permute(0, 3, 1, 2)
    y = F.conv2d(zeros.reshape(1, 4, 7, 7), kernels, padding=2, groups=2)
    y = F.conv2d(F.pad(y.reshape(6, 1, 9, 9), (1, 1, 1, 1)), fir[None, None])
    y = y.reshape(2, 3, 8, 8).permute(0, 2, 3, 1)
    loss = (torch.sin(y) * g).sum()
    by_x, by_w, by_s = torch.autograd.grad(loss, (x, w, s), create_graph=True)
    second_w, second_x = torch.autograd.grad((by_s**2).sum(), (w, x))
    print(
        json.dumps(
            {
                "loss": loss.item(),
                "by_scales": by_s.tolist(),
                "squares": [(grad**2).sum().item() for grad in (by_x, by_w, second_w, second_x)],
                "entries": [by_x.sum().item(), by_w[0, 1, 1, 2].item(), second_w[2, 0, 1, 1].item()],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
