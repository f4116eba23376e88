"""The games that are compared, as numbers: what both sides build, and the useful arithmetic of a round."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks import flops
from benchmarks.flops import Multiplications

OBJECTIVES = ("non_saturating", "wgan", "wgan_gp", "hinge", "pix2pix")


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
    def flops(self) -> int:
        """The useful arithmetic of a round."""
        return self.n_critic * self.turns["critic"] + self.turns["generator"]

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
        while sizes[-1] > 7:
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
