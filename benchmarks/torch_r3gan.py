"""PyTorch's side of R3GAN (Huang et al. 2024, arXiv:2501.05441): its networks and its rounds, from the formulas.

    block(x) = x + W3 a(b2 + W2 *g a(b1 + W1 x)),   a(x) = max(x, 0.2 x)

The scores and both penalties come from one call of the critic on real and fake, and one `autograd.grad` by its
input.
"""

from __future__ import annotations

import dataclasses
import math
import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.torch_convolution import Resample, conv2d, slopes
from benchmarks.torch_play import TorchGame

SLOPE = 0.2


class Conv(nn.Module):
    """A convolution with weights from N(0, gain^2 / fan in), of a size that keeps the image's."""

    def __init__(
        self, inputs: int, outputs: int, size: int, *, groups: int = 1, gain: float = 1.0, bias: bool = False
    ) -> None:
        super().__init__()
        fan_in = inputs // groups * size * size
        self.weight = nn.Parameter(
            gain / math.sqrt(fan_in) * torch.randn(outputs, inputs // groups, size, size)
        )
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.groups, self.padding = groups, size // 2

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, padding=self.padding, groups=self.groups)


class Block(nn.Module):
    """See `gan_jax.networks.R3GANBlock`; `blocks` is the number of a network's blocks."""

    def __init__(self, width: int, group_size: int, blocks: int) -> None:
        super().__init__()
        inside, gain = 2 * width, math.sqrt(2 / (1 + SLOPE**2)) * blocks**-0.25
        self.widen = Conv(width, inside, 1, gain=gain, bias=True)
        self.spatial = Conv(inside, inside, 3, groups=inside // min(group_size, inside), gain=gain, bias=True)
        self.narrow = Conv(inside, width, 1, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.widen(x), SLOPE, inplace=True)
        h = F.leaky_relu(self.spatial(h), SLOPE, inplace=True)
        return x + self.narrow(h)


class Network(nn.Module):
    """What both networks have."""

    def flax_name(self, name: str) -> str:
        """The path in `gan_jax`'s network of one of this network's parameters."""
        name = re.sub(r"^blocks\.(\d+)\.(\w+)\.bias$", r"R3GANBlock_\1/\2_bias", name)
        name = re.sub(r"^blocks\.(\d+)\.(\w+)\.weight$", r"R3GANBlock_\1/\2/kernel", name)
        return re.sub(r"\.weight$", "/kernel", name)


class Generator(Network):
    """z to images; see `gan_jax.networks.R3GANGenerator`."""

    def __init__(
        self, latent: int, sizes: list[int], channels: int, width: int, blocks: int, group_size: int
    ) -> None:
        super().__init__()
        self.latent = nn.Linear(latent, width, bias=False)
        nn.init.normal_(self.latent.weight, std=latent**-0.5)
        self.basis = nn.Parameter(torch.randn(width, sizes[0], sizes[0]))
        count = blocks * len(sizes)
        self.blocks = nn.ModuleList([Block(width, group_size, count) for _ in range(count)])
        self.up = Resample(width, up=True, gain=2.0)
        self.image = Conv(width, channels, 1)
        self.per_stage = blocks

    def forward(self, z: Tensor) -> Tensor:
        scale = self.latent(z)[:, :, None, None]
        h = (scale * self.basis.to(scale.dtype)).contiguous(memory_format=torch.channels_last)
        for place, block in enumerate(self.blocks):
            h = block(self.up(h) if place and place % self.per_stage == 0 else h)
        return self.image(h).float()


class Critic(Network):
    """Images to scores `[B]`; see `gan_jax.networks.R3GANCritic`."""

    def __init__(self, sizes: list[int], channels: int, width: int, blocks: int, group_size: int) -> None:
        super().__init__()
        count = blocks * len(sizes)
        self.image = Conv(channels, width, 1)
        self.blocks = nn.ModuleList([Block(width, group_size, count) for _ in range(count)])
        self.down = Resample(width, down=2)
        self.basis = nn.Parameter(torch.randn(width, 1, sizes[0], sizes[0]) / sizes[0])
        self.score = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.score.weight, std=width**-0.5)
        self.per_stage = blocks

    def flax_name(self, name: str) -> str:
        """The path in `gan_jax`'s network of one of this network's parameters."""
        return "basis/kernel" if name == "basis" else super().flax_name(name)

    def forward(self, x: Tensor) -> Tensor:
        h = self.image(x)
        for place, block in enumerate(self.blocks):
            h = block(self.down(h) if place and place % self.per_stage == 0 else h)
        # A depthwise convolution over the whole image is a sum over its pixels.
        return self.score((h * self.basis[:, 0]).sum((2, 3)))[:, 0].float()


@dataclasses.dataclass
class R3GANGame(TorchGame):
    """Relativistic pairing with R1 and R2 of one weight, `r1`; both turns draw real examples."""

    def critic_turn(self) -> Tensor:
        """One step of the critic; returns its loss."""
        real = self.real()
        with torch.no_grad():
            fake = self.generator(self.latent())
        x = torch.cat([real, fake]).requires_grad_(True)
        scores = self.critic(x)
        slope = slopes(scores, x)
        of_real, of_fake = scores.chunk(2)
        # The means over real and over fake, each half of x, are together twice the mean over x.
        penalties = 2 * slope.square().sum((1, 2, 3)).mean()
        loss = F.softplus(of_fake - of_real).mean() + self.r1 / 2 * penalties
        self._step(self.optimizers[1], loss)
        return loss.detach()

    def generator_turn(self) -> Tensor:
        """One step of the generator against a frozen critic; returns its loss."""
        self.critic.requires_grad_(False)
        with torch.no_grad():
            of_real = self.critic(self.real())
        of_fake = self.critic(self.generator(self.latent()))
        loss = F.softplus(of_real - of_fake).mean()
        self._step(self.optimizers[0], loss)
        self.critic.requires_grad_(True)
        return loss.detach()
