"""Latent codes that a critic's head recovers from a sample (InfoGAN)."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import over_batch
from gan_jax.functional.priors import Prior, gaussian
from gan_jax.keys import named_key
from gan_jax.types import Array, Key


@dataclasses.dataclass(frozen=True)
class Code:
    """A code c of independent parts: uniform categories, and numbers uniform in [-1, 1].

    As an array it is `[B, size]`: the one-hot categories, then the numbers. A head that recovers it is
    `[B, head_size]`: the categories' logits, the numbers' means, and the logarithms of their standard deviations.

    Attributes:
      categories: the number of classes of each categorical part, at least 2 each.
      continuous: the number of continuous parts.

    Raises:
      ValueError: if there is no part, or a size is not possible.

    >>> code = Code(categories=(10,), continuous=2)
    >>> code.size, code.head_size, round(code.entropy, 3)  # log 10 + 2 log 2
    (12, 14, 3.689)
    """

    categories: tuple[int, ...] = (10,)
    continuous: int = 0

    def __post_init__(self) -> None:
        if not self.categories and self.continuous == 0:
            raise ValueError("A code needs at least one part: pass categories, continuous, or both.")
        if self.continuous < 0 or any(k < 2 for k in self.categories):
            raise ValueError(
                f"A categorical part needs at least 2 categories, and continuous must be at least 0; got {self}."
            )

    @property
    def size(self) -> int:
        """The length of the code."""
        return sum(self.categories) + self.continuous

    @property
    def head_size(self) -> int:
        """The length of the head that recovers the code."""
        return sum(self.categories) + 2 * self.continuous

    @property
    def entropy(self) -> float:
        """The entropy H(c) in nats."""
        return sum(math.log(k) for k in self.categories) + self.continuous * math.log(2.0)

    def draw(self, key: Key, n: int) -> Array:
        """Draws n codes, `[n, size]`."""
        parts = [
            jax.nn.one_hot(jax.random.randint(named_key(key, f"category/{i}"), (n,), 0, k), k)
            for i, k in enumerate(self.categories)
        ]
        if self.continuous:
            numbers = jax.random.uniform(
                named_key(key, "continuous"), (n, self.continuous), minval=-1.0, maxval=1.0
            )
            parts.append(numbers)
        return over_batch(jnp.concatenate(parts, axis=1))

    def prior(self, noise: Prior | int) -> Prior:
        """A prior of the latent (c, z) `[n, size + d]`; an int `noise` is the dimension d of a Gaussian z."""
        draw_noise = gaussian(noise) if isinstance(noise, int) else noise

        def draw(key: Key, n: int) -> Array:
            parts = [self.draw(named_key(key, "code"), n), draw_noise(named_key(key, "noise"), n)]
            return over_batch(jnp.concatenate(parts, axis=1))

        return draw

    def of(self, latent: Array) -> Array:
        """The code `[B, size]` in a latent that `prior` drew."""
        return latent[:, : self.size]

    def log_likelihood(self, head: Array, code: Array) -> Array:
        """log Q(c | x) from the head `[B, head_size]`: `[B]`.

        Raises:
          ValueError: if the head has another size.
        """
        if head.shape[-1] != self.head_size:
            raise ValueError(
                f"A code of {self.categories} categories and {self.continuous} numbers is read by a head of size "
                f"{self.head_size} (logits, means, log standard deviations), got {head.shape[-1]}."
            )
        total, start = jnp.zeros(head.shape[0]), 0
        for k in self.categories:
            part = slice(start, start + k)
            total = total + jnp.sum(code[:, part] * jax.nn.log_softmax(head[:, part]), axis=1)
            start += k
        means, log_deviation = jnp.split(head[:, start:], 2, axis=1)
        # Clipped so that a batch predicted exactly does not make the density infinite.
        log_deviation = jnp.clip(log_deviation, -6.0, 3.0)
        scaled = (code[:, start:] - means) * jnp.exp(-log_deviation)
        density = -jnp.square(scaled) / 2 - log_deviation - math.log(2 * math.pi) / 2
        return total + jnp.sum(density, axis=1)
