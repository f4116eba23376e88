"""Data on a surface: two dimensions, bent into fifty."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data.toy import Toy
from gan_jax.network import Network
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.types import Array, Key

AMBIENT, LATENT = 50, 2


@functools.cache
def surface() -> Toy:
    """`tanh(tanh(u A) B) C` of u uniform on a square, standardised; the maps are fixed."""
    draw = np.random.default_rng(0)
    sizes = ((LATENT, 32), (32, 32), (32, AMBIENT))
    maps = [jnp.asarray(draw.normal(size=size) * 1.5 / np.sqrt(size[0]), jnp.float32) for size in sizes]

    def bend(u: Array) -> Array:
        return jnp.tanh(jnp.tanh(u @ maps[0]) @ maps[1]) @ maps[2]

    many = bend(jnp.asarray(draw.uniform(-2, 2, size=(20_000, LATENT)), jnp.float32))
    center, scale = many.mean(axis=0), many.std()

    def sample(key: Key, n: int) -> Array:
        return (bend(jax.random.uniform(key, (n, LATENT), minval=-2.0, maxval=2.0)) - center) / scale

    return Toy(sample=sample, dim=AMBIENT)


def networks(width: int = 128) -> dict[str, Network]:
    """A generator of surfaces and a critic, two hidden layers each."""
    critic = MLPCritic(widths=(width, width))
    generator = MLPGenerator(output_shape=(AMBIENT,), widths=(width, width), activation="leaky_relu")
    return {
        "critic": from_linen(critic, jnp.zeros((2, AMBIENT))),
        "generator": from_linen(generator, jnp.zeros((2, LATENT))),
    }
