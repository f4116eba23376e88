"""The games that are compared, as numbers: what both sides build, and the useful arithmetic of a round."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

from benchmarks import flops
from benchmarks.flops import Multiplications

OBJECTIVES = ("non_saturating", "wgan", "wgan_gp", "hinge", "pix2pix", "r3gan", "stylegan2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """What every game has.

    Attributes:
      objective: one of `OBJECTIVES`; `wgan` is that of clipping.
      n_critic: critic turns a round.
      batch_size, latent: B and the dimensions of z.
      r1: weight of the penalty on the critic's gradient at real samples.
      ema: decay of the generator's average; 0 keeps none.
      learning_rate: Adam's.
      seed: of draws and parameters.
      per_dispatch: our rounds in one dispatch.
      threads: PyTorch's; 0 takes what is faster of one and all.
      torch_optimizer: which of PyTorch's implementations, see `torch_play.OPTIMIZERS`.
      devices, parallelism: ours; more than one device are virtual ones that share the batch.
    """

    objective: str
    n_critic: int = 1
    batch_size: int
    latent: int
    r1: float = 0.0
    ema: float = 0.0
    learning_rate: float = 1e-4
    seed: int = 0
    per_dispatch: int = 100
    threads: int = 0
    torch_optimizer: str = "default"
    devices: int = 1
    parallelism: str = "jit"

    @property
    def label(self) -> str:
        """The game's name in tables and for `--only`."""
        return f"{self.objective}:{self.n_critic}"

    @property
    def multiplications(self) -> Multiplications:
        """Of the two networks."""
        raise NotImplementedError

    @property
    def turns(self) -> dict[str, int]:
        """The useful arithmetic of one turn of each player."""
        layers, products = self.multiplications, flops.critic_turn(self.multiplications)
        if self.objective == "wgan_gp":
            products += flops.interpolate_penalty(layers)
        if self.r1:
            products += flops.real_penalty(layers)
        return {
            "critic": 2 * self.batch_size * products,
            "generator": 2 * self.batch_size * flops.generator_turn(layers),
        }

    @property
    def flops(self) -> float:
        """The useful arithmetic of a round, in the mean over its schedule."""
        return self.n_critic * self.turns["critic"] + self.turns["generator"]

    @property
    def period(self) -> int:
        """The number of rounds after which the schedule begins again."""
        return 1

    @property
    def replayable(self) -> Spec:
        """The game without the draws that `jax_worker.replay` does not hand out."""
        return self

    def to_json(self) -> dict[str, Any]:
        """What a worker is started with."""
        return {"kind": type(self).__name__, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ring(Spec):
    """Gaussians on a circle, perceptrons of two hidden layers with ReLU."""

    batch_size: int = 256
    latent: int = 2
    width: int = 128
    modes: int = 8
    radius: float = 2.0
    sigma: float = 0.02

    @property
    def multiplications(self) -> Multiplications:
        """Of the two networks."""
        return Multiplications(
            generator=flops.dense_stack(self.latent, self.width, self.width, 2),
            critic=flops.dense_stack(2, self.width, self.width, 1),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Digits(Spec):
    """The default experiment: 8 x 8 digits, perceptrons, batch normalisation in the generator, R1, an average."""

    objective: str = "non_saturating"
    batch_size: int = 64
    latent: int = 32
    width: int = 256
    r1: float = 1.0
    ema: float = 0.995
    learning_rate: float = 5e-4

    @property
    def multiplications(self) -> Multiplications:
        """Of the two networks."""
        return Multiplications(
            generator=flops.dense_stack(self.latent, self.width, self.width, 64),
            critic=flops.dense_stack(64, self.width, self.width, 1),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DCGAN(Spec):
    """Strided and transposed 4 x 4 convolutions; batch normalisation but in the critic of a gradient penalty.

    Attributes:
      size, channels: of the images.
      width: channels beside the image.
      examples: how many images the data set has.
      convolutions: ours: `own`, or `flax` for Flax's stock layers.
    """

    batch_size: int = 64
    latent: int = 128
    per_dispatch: int = 10
    size: int = 32
    channels: int = 3
    width: int = 64
    examples: int = 5000
    convolutions: str = "own"

    @property
    def label(self) -> str:
        """The game's name in tables and for `--only`."""
        return f"{self.size}x{self.size}x{self.channels}:{super().label}"

    @property
    def critic_norm(self) -> str:
        """A penalty is per example, so its critic must not couple the batch."""
        return "none" if self.objective == "wgan_gp" else "batch"

    def to_json(self) -> dict[str, Any]:
        """What a worker is started with."""
        return {**super().to_json(), "critic_norm": self.critic_norm, "sizes": self.sizes}

    @property
    def sizes(self) -> list[int]:
        """The sizes that an image passes through."""
        sizes = [self.size]
        while sizes[-1] > 7 or len(sizes) < 3:
            sizes.append((sizes[-1] + 1) // 2)
        return sizes

    @property
    def multiplications(self) -> Multiplications:
        """Of the two networks."""
        small = self.sizes[1:]
        channels = [self.channels, *(self.width * 2**stage for stage in range(len(small)))]
        pairs = list(zip(small, channels[:-1], channels[1:], strict=True))
        convolutions = [flops.convolution(size, 4, a, b) for size, a, b in pairs]
        flat = small[-1] ** 2 * channels[-1]
        return Multiplications(
            generator=[flops.dense(self.latent, flat), *reversed(convolutions)],
            critic=[*convolutions, flops.dense(flat, 1)],
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SNGAN(Spec):
    """Residual networks of Miyato et al. (2018) for 32 x 32: hinge, spectral normalisation in the critic."""

    objective: str = "hinge"
    batch_size: int = 32
    latent: int = 128
    learning_rate: float = 2e-4
    per_dispatch: int = 5
    size: int = 32
    channels: int = 3
    width: int = 64
    examples: int = 2000

    @property
    def label(self) -> str:
        """The game's name in tables and for `--only`."""
        return f"resnet:{self.width}:{super().label}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pix2Pix(Spec):
    """A U-Net down to one pixel against the 70 x 70 PatchGAN, on 64 x 64 images with a grey condition."""

    objective: str = "pix2pix"
    batch_size: int = 16
    latent: int = 0
    learning_rate: float = 2e-4
    per_dispatch: int = 5
    size: int = 64
    channels: int = 3
    width: int = 32
    examples: int = 500

    @property
    def label(self) -> str:
        """The game's name in tables and for `--only`."""
        return f"unet:{self.width}:{super().label}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class R3GAN(Spec):
    """Huang et al. (2024): residual blocks of grouped convolutions, relativistic pairing, both gradient penalties.

    Attributes:
      width: channels of all stages.
      blocks: residual blocks of a stage.
      group_size: channels in a group of the 3 x 3 convolutions.
    """

    objective: str = "r3gan"
    batch_size: int = 16
    latent: int = 64
    r1: float = 0.05
    learning_rate: float = 2e-4
    per_dispatch: int = 5
    size: int = 32
    channels: int = 3
    width: int = 64
    blocks: int = 2
    group_size: int = 16
    examples: int = 2000

    @property
    def label(self) -> str:
        """The game's name in tables and for `--only`."""
        return f"r3gan:{self.width}:{self.size}x{self.size}x{self.channels}"

    @property
    def sizes(self) -> list[int]:
        """The sizes of the stages' images, the smallest first."""
        return _halved(self.size)[::-1]

    def to_json(self) -> dict[str, Any]:
        """What a worker is started with."""
        return {**super().to_json(), "sizes": self.sizes}

    @property
    def multiplications(self) -> Multiplications:
        """Of the two networks: dense layers and convolutions, a group's channels being all that a channel reads.

        The filters of the resampling are constants and do not count.
        """
        inside, smallest = 2 * self.width, self.sizes[0]
        blocks = [
            layer
            for size in self.sizes
            for _ in range(self.blocks)
            for layer in (
                flops.convolution(size, 1, self.width, inside),
                flops.convolution(size, 3, min(self.group_size, inside), inside),
                flops.convolution(size, 1, inside, self.width),
            )
        ]
        image = flops.convolution(self.size, 1, self.channels, self.width)
        basis = flops.convolution(1, smallest, 1, self.width)
        return Multiplications(
            generator=[flops.dense(self.latent, self.width), *blocks, image],
            critic=[image, *blocks[::-1], basis, flops.dense(self.width, 1)],
        )

    @property
    def turns(self) -> dict[str, int]:
        """The useful arithmetic of a turn of each player: two penalties, and real examples in both turns."""
        layers = self.multiplications
        critic = flops.critic_turn(layers) + 2 * flops.real_penalty(layers)
        generator = flops.generator_turn(layers) + sum(layers.critic)
        return {"critic": 2 * self.batch_size * critic, "generator": 2 * self.batch_size * generator}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StyleGAN2(Spec):
    """Karras et al. (2020), the whole recipe: R1 and path lengths in optimiser steps of their own, style mixing.

    Attributes:
      width: channels beside the image, doubled at each halving up to `most`.
      style: the size of w.
      layers: of the mapping network.
      mixing: the probability of a second latent for the last layers.
      path: the weight of path lengths.
      r1_every, path_every: the rounds from one regularisation step to the next.
    """

    objective: str = "stylegan2"
    batch_size: int = 16
    latent: int = 128
    r1: float = 0.0512
    ema: float = 0.998
    learning_rate: float = 0.002
    per_dispatch: int = 16
    size: int = 64
    channels: int = 3
    width: int = 32
    most: int = 256
    style: int = 128
    layers: int = 8
    mixing: float = 0.9
    path: float = 2.0
    r1_every: int = 16
    path_every: int = 4
    examples: int = 500

    @property
    def label(self) -> str:
        """The game's name in tables and for `--only`."""
        return f"stylegan2:{self.width}:{self.size}x{self.size}x{self.channels}"

    @property
    def sizes(self) -> list[int]:
        """The sizes of the stages' images, the largest first."""
        return _halved(self.size)

    @property
    def widths(self) -> list[int]:
        """The channels of the stages, beside the image first."""
        return [min(self.most, self.width * 2**stage) for stage in range(len(self.sizes))]

    @property
    def period(self) -> int:
        """The number of rounds after which the schedule begins again."""
        return math.lcm(self.r1_every, self.path_every)

    @property
    def replayable(self) -> StyleGAN2:
        """The game without the draws that `jax_worker.replay` does not hand out."""
        return dataclasses.replace(self, mixing=0.0)

    def to_json(self) -> dict[str, Any]:
        """What a worker is started with."""
        return {**super().to_json(), "sizes": self.sizes, "widths": self.widths}

    @property
    def mapping(self) -> list[int]:
        """Multiply-adds of the layers from z to w."""
        return flops.dense_stack(self.latent, *self.layers * [self.style])

    @property
    def synthesis(self) -> list[int]:
        """Multiply-adds of the layers from w to the image: those from w to the scales, and the convolutions.

        The norms of the scaled kernels and the constant filters of the resampling do not count. A convolution that
        enlarges its image is a transposed one.
        """
        stages = list(zip(self.sizes, self.widths, strict=True))[::-1]
        convolutions, narrower = [], None
        for size, width in stages:
            if narrower is not None:
                convolutions.append((narrower[0], 3, narrower[1], width))
            convolutions += [(size, 3, width, width), (size, 1, width, self.channels)]
            narrower = (size, width)
        return [
            layer
            for size, kernel, inputs, outputs in convolutions
            for layer in (flops.dense(self.style, inputs), flops.convolution(size, kernel, inputs, outputs))
        ]

    @property
    def multiplications(self) -> Multiplications:
        """Of the two networks, with one latent for all layers."""
        critic = [flops.convolution(self.size, 1, self.channels, self.width)]
        stages = zip(itertools.pairwise(self.sizes), itertools.pairwise(self.widths), strict=True)
        for (size, smaller), (width, wider) in stages:
            critic.append(flops.convolution(size, 3, width, width))
            critic += [flops.convolution(smaller, kernel, width, wider) for kernel in (3, 1)]
        last, smallest = self.widths[-1], self.sizes[-1]
        critic += [
            flops.convolution(smallest, 3, last + 1, last),
            flops.dense(smallest**2 * last, last),
            flops.dense(last, 1),
        ]
        return Multiplications(generator=[*self.mapping, *self.synthesis], critic=critic)

    @property
    def turns(self) -> dict[str, int]:
        """The useful arithmetic of a turn of each player and of a step of each regulariser.

        Style mixing maps a second latent. R1 is `flops.real_penalty` on a batch that the critic has to see first;
        the deviation over the batch is not piecewise linear, so that the penalty is differentiated by the
        activations before it too, two products of each of those layers. The slope of an image by w is a product
        of activations with scales: its square is differentiated by the slope behind every layer, by every layer's
        activations, and both times by the kernel, so that path lengths cost six products of a layer of the
        synthesis and three of the mapping, on half of the batch.
        """
        layers, mapping = self.multiplications, self.mapping
        second = sum(mapping) if self.mixing else 0
        seen = layers.critic[:-3]
        critic = flops.critic_turn(layers) + second
        generator = flops.generator_turn(layers) + (3 * second - mapping[0] if self.mixing else 0)
        r1 = flops.interpolate_penalty(layers) + 2 * sum(seen) - seen[0]
        path = (6 * sum(self.synthesis) + 3 * sum(mapping) - mapping[0]) / 2
        counts = {"critic": critic, "r1": r1, "generator": generator, "path_length": path}
        return {name: int(2 * self.batch_size * count) for name, count in counts.items()}

    @property
    def flops(self) -> float:
        """The useful arithmetic of a round, in the mean over its schedule."""
        turns = self.turns
        return super().flops + turns["r1"] / self.r1_every + turns["path_length"] / self.path_every


def _halved(size: int) -> list[int]:
    """The sizes from that of the image down to 4 to 7 pixels, each half of the one before.

    >>> _halved(32)
    [32, 16, 8, 4]
    """
    sizes = [size]
    while sizes[-1] > 7:
        sizes.append(sizes[-1] // 2)
    return sizes
