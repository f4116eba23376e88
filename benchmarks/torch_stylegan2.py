"""PyTorch's side of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958): its networks and rounds, from the formulas.

    w = f(z / rms(z)),   s = A w + b,   y_j = sum_ik s_i w_ijk * x_i / sqrt(sum_ik (s_i w_ijk)^2 + 1e-8)

A modulated convolution scales its input, convolves all examples by one kernel and scales its output. Constant
factors of activations (the root of 2 of the activations, that of .5 of the residual blocks, a weight's scale) are
multiplied into kernels, biases and scales, which are smaller. Both latents of style mixing are mapped in one call.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import swa_utils

from benchmarks.torch_convolution import Resample, conv2d, conv_transpose2d, slopes
from benchmarks.torch_play import Move, Rounds

SLOPE, EPSILON = 0.2, 1e-8
BETA, DECAY = 0.995, 0.01
"""The decay of w's average, and the share of a batch's mean path length in the next average."""
MULTIPLIER = 0.01
"""Of the mapping network's learning rate."""
GROUP = 4
"""The examples whose deviation the critic is shown."""


def normalized(z: Tensor) -> Tensor:
    """z / rms(z)."""
    return z * (z.square().mean(1, keepdim=True) + EPSILON).rsqrt()


class Linear(nn.Module):
    """A linear layer with an equalised learning rate."""

    def __init__(self, inputs: int, outputs: int, multiplier: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / multiplier))
        self.multiplier, self.scale = multiplier, multiplier / math.sqrt(inputs)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        return torch.addmm(self.bias, x, self.weight.T, beta=gain * self.multiplier, alpha=gain * self.scale)


def activated(x: Tensor) -> Tensor:
    """The leaky ReLU of what has been multiplied by the root of 2; overwrites x."""
    return F.leaky_relu(x, SLOPE, inplace=True)


def in_float32(x: Tensor) -> torch.autocast:
    """A context without autocast, on x's device."""
    return torch.autocast(x.device.type, enabled=False)


class Mapping(nn.Module):
    """z to w, in float32."""

    def __init__(self, latent: int, style: int, layers: int) -> None:
        super().__init__()
        sizes = itertools.pairwise([latent, *layers * [style]])
        self.layers = nn.ModuleList([Linear(a, b, MULTIPLIER) for a, b in sizes])

    def forward(self, z: Tensor) -> Tensor:
        h = normalized(z)
        with in_float32(z):
            for layer in self.layers:
                h = activated(layer(h, math.sqrt(2)))
        return h


class ModulatedConv(nn.Module):
    """A convolution whose kernel is scaled by w; `up` doubles height and width."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        style: int,
        size: int = 3,
        *,
        up: bool = False,
        normalizes: bool = True,
    ) -> None:
        super().__init__()
        self.affine = Linear(style, inputs, bias=1.0)
        shape = (inputs, outputs) if up else (outputs, inputs)
        self.weight = nn.Parameter(torch.randn(*shape, size, size))
        self.blur = Resample(outputs, gain=2.0) if up else None
        self.scale, self.padding, self.normalizes = (inputs * size * size) ** -0.5, size // 2, normalizes

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        with in_float32(x):
            scales = self.affine(w, self.scale)
        scaled = x * scales.to(x.dtype)[:, :, None, None]
        if self.blur is None:
            out = conv2d(scaled, self.weight, padding=self.padding)
        else:
            out = self.blur(conv_transpose2d(scaled, self.weight, stride=2))
        if not self.normalizes:
            return out
        squares = self.weight.square().sum((2, 3))
        with in_float32(x):
            norms = scales.square() @ (squares.T if self.blur is None else squares) + EPSILON
        return out * (gain * norms.rsqrt()).to(out.dtype)[:, :, None, None]


class StyledConv(nn.Module):
    """A modulated convolution, noise, a bias and an activation."""

    def __init__(self, inputs: int, outputs: int, style: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, style, up=up)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
        h = self.conv(x, w, math.sqrt(2))
        h = h + (math.sqrt(2) * self.strength * noise(h)).to(h.dtype)
        return activated(h.add_((math.sqrt(2) * self.bias).to(h.dtype)[:, None, None]))


def fresh_noise(place: int, h: Tensor) -> Tensor:
    """A normal number for every pixel of every example, `[B, 1, H, W]`."""
    return torch.randn(len(h), 1, *h.shape[2:])


class Generator(nn.Module):
    """z to images; see `gan_jax.networks.StyleGAN2Generator`.

    Args:
      latent, style: the sizes of z and w.
      sizes, widths: of the stages, the image's first.
      channels: of the images.
      layers: of the mapping network.
      mixing: the probability of a second latent for the layers from a random one on.
    """

    average: Tensor

    def __init__(
        self,
        latent: int,
        style: int,
        sizes: Sequence[int],
        widths: Sequence[int],
        channels: int,
        layers: int,
        mixing: float,
    ) -> None:
        super().__init__()
        widths = widths[::-1]
        self.mapping = Mapping(latent, style, layers)
        self.constant = nn.Parameter(torch.randn(widths[0], sizes[-1], sizes[-1]))
        pairs = itertools.pairwise(widths)
        self.ups = nn.ModuleList([StyledConv(wider, width, style, up=True) for wider, width in pairs])
        self.convs = nn.ModuleList([StyledConv(width, width, style) for width in widths])
        self.images = nn.ModuleList(
            [ModulatedConv(width, channels, style, 1, normalizes=False) for width in widths]
        )
        self.image_biases = nn.ParameterList([nn.Parameter(torch.zeros(channels)) for _ in widths])
        self.enlarge = Resample(channels, up=True, gain=2.0)
        self.register_buffer("average", torch.zeros(style))
        self.mixing, self.noise = mixing, fresh_noise

    def forward(self, z: Tensor, *, track: bool = False) -> Tensor:
        """Images of `z [B, d]`; with `track` w is counted in its average."""
        places = 2 * len(self.convs)
        if not self.mixing:
            w = other = self.mapping(z)
        else:
            w, other = self.mapping(torch.cat([z, torch.randn_like(z)])).chunk(2)
        if track:
            self.average.lerp_(w.detach().mean(0), 1 - BETA)
        if not self.mixing:
            return self.synthesis(places * [w])
        mixed, start = torch.rand(2, len(z), 1)
        first = torch.where(mixed < self.mixing, 1 + (start * (places - 1)).floor(), places)
        return self.synthesis([torch.where(place < first, w, other) for place in range(places)])

    def synthesis(self, styles: Sequence[Tensor]) -> Tensor:
        """Images of the w `[B, D]` of every layer; a map to an image shares its with the next convolution."""
        h = self.constant.expand(len(styles[0]), *self.constant.shape)
        h = h.contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        for stage, conv in enumerate(self.convs):
            place = 2 * stage
            if stage:
                h = self.ups[stage - 1](h, styles[place - 1], self._noise_at(place - 1))
            h = conv(h, styles[place], self._noise_at(place))
            shown = self.images[stage](h, styles[place + 1]).float() + self.image_biases[stage][:, None, None]
            with in_float32(h):
                image = shown if image is None else self.enlarge(image) + shown
        assert image is not None
        return image

    def _noise_at(self, place: int) -> Callable[[Tensor], Tensor]:
        return lambda h: self.noise(place, h)

    def flax_name(self, name: str) -> str:
        """The path in `gan_jax`'s network of one of this network's parameters."""
        name = re.sub(r"^mapping\.layers\.(\d+)", r"mapping.layer_\1", name)
        name = re.sub(r"^ups\.(\d+)", lambda match: f"up_{int(match[1]) + 1}", name)
        name = re.sub(r"^(conv|image)s\.(\d+)", r"\1_\2", name)
        name = re.sub(r"^image_biases\.(\d+)", r"image_bias_\1", name)
        return name.replace("strength", "noise.strength").replace("weight", "kernel").replace(".", "/")


class Conv(nn.Module):
    """A convolution with an equalised learning rate and, unless it is linear, a bias and an activation.

    Args:
      inputs, outputs, size: of the kernel.
      stride: with one above 1 the image is not padded.
      gain: of the result.
      linear: whether it is without bias and activation.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        gain: float = math.sqrt(2),
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = None if linear else nn.Parameter(torch.zeros(outputs))
        self.gain, self.scale = gain, gain * (inputs * size * size) ** -0.5
        self.stride, self.padding = stride, size // 2 if stride == 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        options = {"stride": self.stride, "padding": self.padding}
        if self.bias is None:
            return conv2d(x, self.scale * self.weight, **options)
        return activated(conv2d(x, self.scale * self.weight, self.gain * self.bias, **options))


class Block(nn.Module):
    """A residual block of the critic, which halves height and width."""

    def __init__(self, width: int, wider: int) -> None:
        super().__init__()
        self.conv = Conv(width, width, 3)
        self.blur, self.shrink = Resample(width, padding=2), Resample(width, down=2)
        self.down = Conv(width, wider, 3, stride=2, gain=1.0)  # of root 2 and the root of .5
        self.skip = Conv(width, wider, 1, gain=math.sqrt(0.5), linear=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.blur(self.conv(x))) + self.skip(self.shrink(x))


class Critic(nn.Module):
    """Images to scores `[B]`; see `gan_jax.networks.StyleGAN2Critic`."""

    def __init__(self, sizes: Sequence[int], widths: Sequence[int], channels: int) -> None:
        super().__init__()
        last = widths[-1]
        self.image = Conv(channels, widths[0], 1)
        self.blocks = nn.ModuleList([Block(width, wider) for width, wider in itertools.pairwise(widths)])
        self.last = Conv(last + 1, last, 3)
        self.dense = Linear(sizes[-1] ** 2 * last, last)
        self.score = Linear(last, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.image(x)
        for block in self.blocks:
            h = block(h)
        h = self.last(self._compared(h)).permute(0, 2, 3, 1).flatten(1)
        return self.score(activated(self.dense(h, math.sqrt(2))))[:, 0].float()

    def _compared(self, h: Tensor) -> Tensor:
        """With the mean deviation of a group of examples as one more channel."""
        groups = h.float().unflatten(0, (-1, min(GROUP, len(h))))
        deviation = (groups.var(1, correction=0) + EPSILON).sqrt().mean((1, 2, 3))
        plane = deviation.repeat_interleave(groups.shape[1])[:, None, None, None].expand(-1, 1, *h.shape[2:])
        joined = torch.cat([h, plane.to(h.dtype)], dim=1)
        return joined.contiguous(memory_format=torch.channels_last)

    def flax_name(self, name: str) -> str:
        """The path in `gan_jax`'s network of one of this network's parameters."""
        name = re.sub(r"^blocks\.(\d+)\.(\w+)", r"\2_\1", name).replace("score", "scores.score")
        return name.replace("weight", "kernel").replace(".", "/")


def lazy_adam(network: nn.Module, learning_rate: float, every: int, **options: bool) -> torch.optim.Adam:
    """Adam for a player with a regularisation step every so many rounds: rate c lr, betas to the power c."""
    c = every / (every + 1)
    return torch.optim.Adam(network.parameters(), lr=c * learning_rate, betas=(0.0, 0.99**c), **options)


@dataclasses.dataclass
class StyleGAN2Game(Rounds):
    """-log D with R1 and path lengths in steps of their own.

    Attributes:
      generator, critic: the networks.
      optimizers: of the generator and of the critic.
      real: draws a batch of data.
      latent: draws a batch of z.
      direction: y of the path lengths, drawn for images of a shape.
      r1, path: the weights of the regularisers.
      r1_every, path_every: the rounds from one step of theirs to the next.
      ema: the decay of the generator's moving average.
    """

    generator: Generator
    critic: Critic
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]
    real: Callable[[], Tensor]
    latent: Callable[[], Tensor]
    r1: float
    path: float
    r1_every: int
    path_every: int
    ema: float
    direction: Callable[[Tensor], Tensor] = torch.randn_like

    def __post_init__(self) -> None:
        self.parameters = list(self.generator.parameters())
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.mix = swa_utils.get_ema_multi_avg_fn(self.ema)
        self.length = torch.zeros(())

    def moves(self) -> Sequence[Move]:
        """The turns of critic and generator, each before the step of its regulariser."""
        return (
            Move("critic/loss", self.critic_turn),
            Move("critic/r1", self.r1_step, self.r1_every),
            Move("generator/loss", self.generator_turn),
            Move("generator/path_length", self.path_step, self.path_every),
        )

    def critic_turn(self) -> Tensor:
        """One step of the critic on real and fake in one call; returns its loss."""
        real = self.real()
        with torch.no_grad():
            fake = self.generator(self.latent())
        of_real, of_fake = self.critic(torch.cat([real, fake])).chunk(2)
        loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
        self._step(self.optimizers[1], loss)
        return loss.detach()

    def r1_step(self) -> Tensor:
        """One step of the critic along half the squared slope at real examples, which it returns."""
        real = self.real().requires_grad_(True)
        slope = slopes(self.critic(real), real)
        penalty = slope.square().sum((1, 2, 3)).mean() / 2
        self._step(self.optimizers[1], self.r1_every * self.r1 * penalty)
        return penalty.detach()

    def generator_turn(self) -> Tensor:
        """One step of the generator against a frozen critic, and of its average; returns its loss."""
        self.critic.requires_grad_(False)
        loss = F.softplus(-self.critic(self.generator(self.latent(), track=True))).mean()
        self._step(self.optimizers[0], loss)
        self.critic.requires_grad_(True)
        with torch.no_grad():
            self.mix(self.averages, self.parameters, self.played)
        return loss.detach()

    def path_step(self) -> Tensor:
        """One step of the generator along the deviation of its path lengths, of half of the batch; returns it."""
        w = self.generator.mapping(self.latent()[::2])
        places = 2 * len(self.generator.convs)
        images = self.generator.synthesis(places * [w])
        scale = 1 / math.sqrt(images[0, 0].numel() * places)
        slope = slopes(images * (scale * self.direction(images)), w)
        lengths = slope.square().sum(1).sqrt()
        self.length.lerp_(lengths.detach().mean(), DECAY)
        penalty = (lengths - self.length).square().mean()
        self._step(self.optimizers[0], self.path_every * self.path * penalty)
        return penalty.detach()

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
