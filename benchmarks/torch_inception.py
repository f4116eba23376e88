"""The FID Inception network's forward pass in PyTorch, of the same parameters by the same names as pytorch-fid's.

Batch normalisation is folded into the convolutions, as in `gan_jax.metrics.inception`, which describes the network.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-3
"""Of batch normalisation."""


class Unit(nn.Module):
    """A convolution with its batch normalisation folded in, and a ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x), inplace=True)


def chain(block: nn.Module, names: list[str], x: Tensor) -> Tensor:
    """x through the named units of a block, one after the other."""
    for name in names:
        x = getattr(block, name)(x)
    return x


def average(x: Tensor) -> Tensor:
    """The 3 x 3 mean pool that excludes the padding."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Parallel(nn.Module):
    """Branches whose results are joined on the channels.

    Args:
      units: by name.
      branches: the names of each branch's units in their order.
      pool: the name of the unit after a pool, if there is one.
      shrinks: whether a maximum pool that halves the image is the last branch.
      max_pooled: whether the pool before the unit is a maximum.
    """

    def __init__(
        self,
        units: Mapping[str, Unit],
        branches: list[list[str]],
        *,
        pool: str | None = None,
        shrinks: bool = False,
        max_pooled: bool = False,
    ) -> None:
        super().__init__()
        for name, unit in units.items():
            self.add_module(name, unit)
        self.branches, self.pool, self.shrinks, self.max_pooled = branches, pool, shrinks, max_pooled

    def forward(self, x: Tensor) -> Tensor:
        parts = [chain(self, names, x) for names in self.branches]
        if self.pool is not None:
            pooled = F.max_pool2d(x, 3, 1, 1) if self.max_pooled else average(x)
            parts.append(getattr(self, self.pool)(pooled))
        if self.shrinks:
            parts.append(F.max_pool2d(x, 3, 2))
        return torch.cat(parts, 1)


def block_a(inputs: int, pooled: int) -> Parallel:
    """35 x 35: branches of 1, 5 and 3 + 3."""
    units = {
        "branch1x1": Unit(inputs, 64),
        "branch5x5_1": Unit(inputs, 48),
        "branch5x5_2": Unit(48, 64, 5, padding=2),
        "branch3x3dbl_1": Unit(inputs, 64),
        "branch3x3dbl_2": Unit(64, 96, 3, padding=1),
        "branch3x3dbl_3": Unit(96, 96, 3, padding=1),
        "branch_pool": Unit(inputs, pooled),
    }
    thrice = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    return Parallel(units, [["branch1x1"], ["branch5x5_1", "branch5x5_2"], thrice], pool="branch_pool")


def block_b(inputs: int) -> Parallel:
    """35 x 35 to 17 x 17."""
    units = {
        "branch3x3": Unit(inputs, 384, 3, 2),
        "branch3x3dbl_1": Unit(inputs, 64),
        "branch3x3dbl_2": Unit(64, 96, 3, padding=1),
        "branch3x3dbl_3": Unit(96, 96, 3, 2),
    }
    names = list(units)
    return Parallel(units, [names[:1], names[1:]], shrinks=True)


def block_c(inputs: int, width: int) -> Parallel:
    """17 x 17: branches of 1 x 7 and 7 x 1."""

    def across(a: int, b: int) -> Unit:
        return Unit(a, b, (1, 7), padding=(0, 3))

    def down(a: int, b: int) -> Unit:
        return Unit(a, b, (7, 1), padding=(3, 0))

    units = {
        "branch1x1": Unit(inputs, 192),
        "branch7x7_1": Unit(inputs, width),
        "branch7x7_2": across(width, width),
        "branch7x7_3": down(width, 192),
        "branch7x7dbl_1": Unit(inputs, width),
        "branch7x7dbl_2": down(width, width),
        "branch7x7dbl_3": across(width, width),
        "branch7x7dbl_4": down(width, width),
        "branch7x7dbl_5": across(width, 192),
        "branch_pool": Unit(inputs, 192),
    }
    names = list(units)
    return Parallel(units, [names[:1], names[1:4], names[4:9]], pool="branch_pool")


def block_d(inputs: int) -> Parallel:
    """17 x 17 to 8 x 8."""
    units = {
        "branch3x3_1": Unit(inputs, 192),
        "branch3x3_2": Unit(192, 320, 3, 2),
        "branch7x7x3_1": Unit(inputs, 192),
        "branch7x7x3_2": Unit(192, 192, (1, 7), padding=(0, 3)),
        "branch7x7x3_3": Unit(192, 192, (7, 1), padding=(3, 0)),
        "branch7x7x3_4": Unit(192, 192, 3, 2),
    }
    names = list(units)
    return Parallel(units, [names[:2], names[2:]], shrinks=True)


class BlockE(nn.Module):
    """8 x 8: branches that end in 1 x 3 and 3 x 1."""

    def __init__(self, inputs: int, *, max_pooled: bool) -> None:
        super().__init__()
        across, down = ((1, 3), (0, 1)), ((3, 1), (1, 0))
        self.branch1x1 = Unit(inputs, 320)
        self.branch3x3_1 = Unit(inputs, 384)
        self.branch3x3_2a = Unit(384, 384, across[0], padding=across[1])
        self.branch3x3_2b = Unit(384, 384, down[0], padding=down[1])
        self.branch3x3dbl_1 = Unit(inputs, 448)
        self.branch3x3dbl_2 = Unit(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Unit(384, 384, across[0], padding=across[1])
        self.branch3x3dbl_3b = Unit(384, 384, down[0], padding=down[1])
        self.branch_pool = Unit(inputs, 192)
        self.max_pooled = max_pooled

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.max_pooled else average(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice), self.branch_pool(pooled)]
        return torch.cat(parts, 1)


class InceptionV3(nn.Module):
    """Images `[B, 3, H, W]` in [-1, 1] to the last pool's features `[B, 2048]`."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Unit(64, 80)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = block_a(192, 32), block_a(256, 64), block_a(288, 64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b, self.Mixed_6c = block_c(768, 128), block_c(768, 160)
        self.Mixed_6d, self.Mixed_6e = block_c(768, 160), block_c(768, 192)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, max_pooled=False), BlockE(2048, max_pooled=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = getattr(self, f"Mixed_{name}")(x)
        return x.mean((2, 3))

    def file_shapes(self) -> dict[str, tuple[int, ...]]:
        """The arrays of pytorch-fid's file that this forward pass reads: `{name: shape}`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, module in self.named_modules():
            if isinstance(module, Unit):
                parts = ("weight", "bias", "running_mean", "running_var")
                shapes[f"{name}.conv.weight"] = tuple(module.conv.weight.shape)
                shapes |= {f"{name}.bn.{part}": (module.conv.out_channels,) for part in parts}
        return shapes

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes the arrays of `file_shapes`, and folds batch normalisation into the convolutions."""
        with torch.no_grad():
            for name, module in self.named_modules():
                if isinstance(module, Unit):
                    norm = {
                        part: torch.as_tensor(arrays[f"{name}.bn.{part}"], dtype=torch.float64)
                        for part in ("weight", "bias", "running_mean", "running_var")
                    }
                    scale = norm["weight"] / (norm["running_var"] + EPSILON).sqrt()
                    kernel = torch.as_tensor(arrays[f"{name}.conv.weight"], dtype=torch.float64)
                    module.conv.weight.copy_(scale[:, None, None, None] * kernel)
                    assert module.conv.bias is not None
                    module.conv.bias.copy_(norm["bias"] - scale * norm["running_mean"])
