"""Flax modules that GANs are made of; `from_linen` turns any Flax module into a `Network`."""

from gan_jax.networks.convolution import Conv, ConvTranspose, conv, conv_transpose, forward_mode
from gan_jax.networks.dcgan import DCGANCritic, DCGANGenerator
from gan_jax.networks.layers import (
    Dense,
    EqualizedWeight,
    GaussianNoise,
    Normalize,
    NormalizedWeight,
    SpectralWeight,
    initializer,
    maxout,
)
from gan_jax.networks.linen import from_linen
from gan_jax.networks.mlp import MLPCritic, MLPGenerator

__all__ = [
    "Conv",
    "ConvTranspose",
    "DCGANCritic",
    "DCGANGenerator",
    "Dense",
    "EqualizedWeight",
    "GaussianNoise",
    "MLPCritic",
    "MLPGenerator",
    "Normalize",
    "NormalizedWeight",
    "SpectralWeight",
    "conv",
    "conv_transpose",
    "forward_mode",
    "from_linen",
    "initializer",
    "maxout",
]
