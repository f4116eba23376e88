"""PyTorch's side of residual networks with spectral normalisation (SNGAN) and of pix2pix's U-Net and PatchGAN."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.torch_play import Move, Rounds

SLOPE, L1 = 0.2, 100.0


class UpBlock(nn.Module):
    """Doubles height and width; see `gan_jax.networks.ResNetGenerator`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.norms[0](x)), scale_factor=2)
        h = self.second(F.relu(self.norms[1](self.first(h))))
        return h + F.interpolate(self.shortcut(x), scale_factor=2)


class CriticBlock(nn.Module):
    """See `gan_jax.networks.ResNetCritic`; the first block has no activation before it."""

    def __init__(self, inputs: int, width: int, *, halves: bool, first: bool = False) -> None:
        super().__init__()
        self.halves, self.starts = halves, first
        self.first = spectral_norm(nn.Conv2d(inputs, width, 3, padding=1))
        self.second = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.shortcut = spectral_norm(nn.Conv2d(inputs, width, 1)) if halves else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.relu(self.first(x if self.starts else F.relu(x))))
        if self.shortcut is None:
            return h + x
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))


class ResNetGenerator(nn.Module):
    """z to images of 32 x 32."""

    def __init__(self, latent: int, width: int, channels: int) -> None:
        super().__init__()
        self.width = width
        self.dense = nn.Linear(latent, 16 * width)
        self.blocks = nn.Sequential(*(UpBlock(width) for _ in range(3)))
        self.norm, self.out = nn.BatchNorm2d(width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.dense(z).view(len(z), 4, 4, self.width).permute(0, 3, 1, 2)
        return torch.tanh(self.out(F.relu(self.norm(self.blocks(h)))))


class ResNetCritic(nn.Module):
    """Images of 32 x 32 to scores `[B]`."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            CriticBlock(channels, width, halves=True, first=True),
            CriticBlock(width, width, halves=True),
            CriticBlock(width, width, halves=False),
            CriticBlock(width, width, halves=False),
        )
        self.out = spectral_norm(nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.blocks(x)).sum((2, 3)))[:, 0]


class UNet(nn.Module):
    """Images of 64 x 64 and back; see `gan_jax.networks.UNet`."""

    def __init__(self, inputs: int, channels: int, width: int, depth: int = 6) -> None:
        super().__init__()
        features = [width * min(2**place, 8) for place in range(depth)]
        self.depth = depth
        self.down, self.down_norms = nn.ModuleList(), nn.ModuleList()
        for place, outputs in enumerate(features):
            normed = 0 < place < depth - 1
            self.down.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=not normed))
            self.down_norms.append(nn.BatchNorm2d(outputs) if normed else nn.Identity())
            inputs = outputs
        self.up, self.up_norms = nn.ModuleList(), nn.ModuleList()
        for place in reversed(range(1, depth)):
            outputs = features[place - 1]
            self.up.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False))
            self.up_norms.append(nn.BatchNorm2d(outputs))
            inputs = 2 * outputs
        self.out = nn.ConvTranspose2d(inputs, channels, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skips, h = [], x
        for place, (conv, norm) in enumerate(zip(self.down, self.down_norms, strict=True)):
            h = norm(conv(h if place == 0 else F.leaky_relu(h, SLOPE)))
            skips.append(h)
        skips.pop()
        for place, (conv, norm) in enumerate(zip(self.up, self.up_norms, strict=True)):
            h = norm(conv(F.relu(h)))
            h = F.dropout(h, 0.5) if place < 3 else h
            h = torch.cat([h, skips.pop()], dim=1)
        return torch.tanh(self.out(F.relu(h)))


def patch_critic(inputs: int, width: int, layers: int = 3) -> nn.Module:
    """Image and condition, on the channels, to patch logits; see `gan_jax.networks.PatchCritic`."""
    modules: list[nn.Module] = []
    for place in range(layers + 1):
        outputs, stride = min(2**place, 8) * width, 2 if place < layers else 1
        modules.append(nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=place == 0))
        modules += [nn.BatchNorm2d(outputs)] if place else []
        modules.append(nn.LeakyReLU(SLOPE))
        inputs = outputs
    return nn.Sequential(*modules, nn.Conv2d(inputs, 1, 4, padding=1))


@dataclasses.dataclass
class Pix2Pix(Rounds):
    """The image-to-image game: -log D on patches, and L1; the generator sees fresh pairs in its own turn.

    Attributes:
      generator, critic: a U-Net and a patch critic.
      optimizers: of the generator and of the critic.
      pairs: draws `(condition, x)`.
    """

    generator: nn.Module
    critic: nn.Module
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]
    pairs: Callable[[], tuple[Tensor, Tensor]]

    def moves(self) -> Sequence[Move]:
        """A turn of each."""
        return Move("critic/loss", self.critic_turn), Move("generator/loss", self.generator_turn)

    def critic_turn(self) -> Tensor:
        """One step of the critic; returns its loss."""
        condition, x = self.pairs()
        with torch.no_grad():
            fake = self.generator(condition)
        real_logits, fake_logits = (self.critic(torch.cat([y, condition], dim=1)) for y in (x, fake))
        loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        self._step(self.optimizers[1], loss)
        return loss.detach()

    def generator_turn(self) -> Tensor:
        """One step of the generator against a frozen critic; returns its loss."""
        condition, x = self.pairs()
        self.critic.requires_grad_(False)
        fake = self.generator(condition)
        loss = F.softplus(-self.critic(torch.cat([fake, condition], dim=1))).mean() + L1 * F.l1_loss(fake, x)
        self._step(self.optimizers[0], loss)
        self.critic.requires_grad_(True)
        return loss.detach()

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def channels_last(*networks: nn.Module) -> tuple[Any, ...]:
    """The networks with their kernels in channels-last memory."""
    return tuple(network.to(memory_format=torch.channels_last) for network in networks)
