"""Numbers of a training recipe as functions of the images seen, and R3GAN's by data set.

A round shows the critic `batch_size` real images, so the images seen before round t are t `batch_size`. A
schedule is a function `round -> number`, which penalties, moving averages, augmentations and optimisers take in
place of a number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax.numpy as jnp
import optax

from gan_jax.functional.options import check_count, check_number
from gan_jax.optim import ema_half_life
from gan_jax.types import Array

Range: TypeAlias = tuple[float, float]
"""A number before the ramp, and after it."""


def cosine_ramp(start: float, end: float, *, images: float, batch_size: int) -> Callable[[Array], Array]:
    """Half a cosine from one number to another over so many images, then constant: `round -> number`.

    Args:
      start: the number in round 0.
      end: the number from `images` on.
      images: the length of the ramp, more than 0.
      batch_size: images a round.

    Raises:
      ValueError: if a number is not finite, or a size not positive.

    References:
      Loshchilov & Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, equation (5)
      (arXiv:1608.03983).

    >>> gamma = cosine_ramp(2.0, 0.0, images=400, batch_size=100)
    >>> [round(float(gamma(jnp.array(t))), 4) for t in (0, 1, 2, 4, 9)]  # 1 + cos(pi t / 4)
    [2.0, 1.7071, 1.0, 0.0, 0.0]
    """
    check_number("cosine_ramp", "start", start)
    check_number("cosine_ramp", "end", end)
    check_number("cosine_ramp", "images", images, above=0)
    check_count("cosine_ramp", "batch_size", batch_size)

    def value(step: Array) -> Array:
        progress = jnp.minimum(jnp.asarray(step, jnp.float32) * (batch_size / images), 1.0)
        return start + (end - start) * (1 - jnp.cos(math.pi * progress)) / 2

    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSchedules:
    """How R3GAN is trained on a data set: everything ramps by half a cosine over the same images, then stays.

    Attributes:
      batch_size: images a round.
      images: the length of the ramps.
      gamma: weight of R1 and R2.
      half_life: of the moving average of the generator, in images, at the end of the ramp; 0 at its beginning.
      augment: probability of augmentation at the end of the ramp; 0 at its beginning.
      learning_rate: of Adam, for both players.
      b2: Adam's beta2; beta1 is 0.

    Raises:
      ValueError: if a number is out of its range.

    References:
      Huang et al., The GAN is dead; long live the GAN! A Modern GAN Baseline, 2024 (arXiv:2501.05441).

    >>> schedules = SCHEDULES["cifar10"]
    >>> [round(float(schedules.weight()(jnp.array(20_000_000 // 512 * n))), 4) for n in (0, 2)]
    [0.05, 0.005]
    """

    batch_size: int
    images: float = 20e6
    gamma: Range
    half_life: float
    augment: float = 0.0
    learning_rate: Range = (2e-4, 5e-5)
    b2: Range = (0.9, 0.99)

    def __post_init__(self) -> None:
        check_count("ImageSchedules", "batch_size", self.batch_size)
        for name in ("images", "half_life"):
            check_number("ImageSchedules", name, getattr(self, name), above=0)
        check_number("ImageSchedules", "augment", self.augment, least=0, most=1)
        for name in ("gamma", "learning_rate", "b2"):
            for number in getattr(self, name):
                check_number("ImageSchedules", name, number, least=0, below=1 if name == "b2" else math.inf)

    def over(self, images: float) -> ImageSchedules:
        """The same schedules with ramps of another length, and a half-life that is the same share of it.

        >>> SCHEDULES["cifar10"].over(1e6).half_life
        250000.0
        """
        check_number("ImageSchedules.over", "images", images, above=0)
        return dataclasses.replace(self, images=images, half_life=self.half_life * images / self.images)

    def weight(self) -> Callable[[Array], Array]:
        """gamma by round, for `r3gan(gamma=...)`."""
        return self._ramp(*self.gamma)

    def average(self) -> Callable[[Array], Array]:
        """The decay of the generator's moving average by round, for `Player.ema`."""
        return ema_half_life(self._ramp(0.0, self.half_life), self.batch_size, ramp=None)

    def probability(self) -> Callable[[Array], Array]:
        """The probability of augmentation by round, for `diff_augment(probability=...)`."""
        return self._ramp(0.0, self.augment)

    def optimizer(self, turns: int = 1) -> optax.GradientTransformation:
        """Adam with beta1 = 0, and the learning rate and beta2 of the ramp.

        Args:
          turns: of the player in a round: the optimiser counts turns.
        """
        check_count("ImageSchedules.optimizer", "turns", turns)
        rate, b2 = self._ramp(*self.learning_rate), self._ramp(*self.b2)
        return optax.inject_hyperparams(optax.adam)(
            learning_rate=lambda count: rate(count // turns),
            b1=0.0,
            b2=lambda count: b2(count // turns),
            eps=1e-8,
        )

    def _ramp(self, start: float, end: float) -> Callable[[Array], Array]:
        return cosine_ramp(start, end, images=self.images, batch_size=self.batch_size)


SCHEDULES: Mapping[str, ImageSchedules] = {
    "cifar10": ImageSchedules(batch_size=512, gamma=(0.05, 0.005), half_life=5e6, augment=0.55),
    "ffhq64": ImageSchedules(batch_size=256, gamma=(2.0, 0.2), half_life=0.5e6, augment=0.3),
    "ffhq256": ImageSchedules(batch_size=256, gamma=(150.0, 15.0), half_life=0.5e6, augment=0.3),
    "imagenet32": ImageSchedules(
        batch_size=4096, images=200e6, gamma=(0.5, 0.05), half_life=50e6, augment=0.5
    ),
    "imagenet64": ImageSchedules(
        batch_size=4096, images=200e6, gamma=(1.0, 0.1), half_life=50e6, augment=0.4
    ),
}
"""The paper's schedules by data set; `networks.r3gan.PRESETS` has the networks."""


def gamma_for(size: int) -> Range:
    """gamma of R3GAN's penalties for images of a size that the paper does not have, before and after the ramp.

    A power law through the paper's values for the faces of FFHQ, 2 at 64 pixels and 150 at 256, so gamma grows by
    8.7 with each doubling; after the ramp it is a tenth. At 32 pixels it gives .23, between the paper's .05 for
    CIFAR-10 and .5 for ImageNet, and smaller images, of which the paper has none, get that too.

    >>> [tuple(round(number, 3) for number in gamma_for(size)) for size in (8, 32, 64, 256)]
    [(0.231, 0.023), (0.231, 0.023), (2.0, 0.2), (150.0, 15.0)]
    """
    check_count("gamma_for", "size", size)
    start = 2.0 * 75.0 ** (math.log2(max(size, 32) / 64) / 2)
    return start, start / 10
