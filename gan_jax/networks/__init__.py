"""Flax modules that GANs are made of; `from_linen` and `from_nnx` turn any Flax module into a `Network`."""

from typing import TYPE_CHECKING

from gan_jax._lazy import imported_when_used
from gan_jax.networks.conv_layers import Conv, ConvMeanPool, ConvTranspose, UpsampleConv
from gan_jax.networks.convolution import conv, conv_transpose, forward_mode
from gan_jax.networks.dcgan import DCGANCritic, DCGANGenerator
from gan_jax.networks.heads import BaseCritic, ScoreHead
from gan_jax.networks.initializers import initializer
from gan_jax.networks.layers import (
    BatchNorm,
    ConditionalBatchNorm,
    Dense,
    Dropout,
    EqualizedWeight,
    GaussianNoise,
    MinibatchDiscrimination,
    MinibatchStddev,
    Normalize,
    NormalizedWeight,
    SpectralWeight,
    maxout,
)
from gan_jax.networks.linen import from_linen
from gan_jax.networks.mlp import MLPCritic, MLPGenerator
from gan_jax.networks.nnx import from_nnx

if TYPE_CHECKING:
    from gan_jax.networks.describe import describe_network, parameter_rows
    from gan_jax.networks.patchgan import PatchCritic
    from gan_jax.networks.projected import ProjectedCritic, projected_critic
    from gan_jax.networks.r3gan import R3GANBlock, R3GANCritic, R3GANGenerator
    from gan_jax.networks.resampling import fir_downsample, fir_resample, fir_upsample
    from gan_jax.networks.resnet import ResNetCritic, ResNetGenerator, SelfAttention
    from gan_jax.networks.semi_supervised import SemiSupervisedCritic, SemiSupervisedGenerator
    from gan_jax.networks.stylegan2 import (
        StyleGAN2Critic,
        StyleGAN2Generator,
        modulated_conv,
        stylegan2_generator,
    )
    from gan_jax.networks.unet import UNet

__getattr__ = imported_when_used(
    __name__,
    {
        "gan_jax.networks.describe": ["describe_network", "parameter_rows"],
        "gan_jax.networks.patchgan": ["PatchCritic"],
        "gan_jax.networks.projected": ["ProjectedCritic", "projected_critic"],
        "gan_jax.networks.r3gan": ["R3GANBlock", "R3GANCritic", "R3GANGenerator"],
        "gan_jax.networks.resampling": ["fir_downsample", "fir_resample", "fir_upsample"],
        "gan_jax.networks.resnet": ["ResNetCritic", "ResNetGenerator", "SelfAttention"],
        "gan_jax.networks.semi_supervised": ["SemiSupervisedCritic", "SemiSupervisedGenerator"],
        "gan_jax.networks.stylegan2": [
            "StyleGAN2Critic",
            "StyleGAN2Generator",
            "modulated_conv",
            "stylegan2_generator",
        ],
        "gan_jax.networks.unet": ["UNet"],
    },
)

__all__ = [
    "BaseCritic",
    "BatchNorm",
    "ConditionalBatchNorm",
    "Conv",
    "ConvMeanPool",
    "ConvTranspose",
    "DCGANCritic",
    "DCGANGenerator",
    "Dense",
    "Dropout",
    "EqualizedWeight",
    "GaussianNoise",
    "MLPCritic",
    "MLPGenerator",
    "MinibatchDiscrimination",
    "MinibatchStddev",
    "Normalize",
    "NormalizedWeight",
    "PatchCritic",
    "ProjectedCritic",
    "R3GANBlock",
    "R3GANCritic",
    "R3GANGenerator",
    "ResNetCritic",
    "ResNetGenerator",
    "ScoreHead",
    "SelfAttention",
    "SemiSupervisedCritic",
    "SemiSupervisedGenerator",
    "SpectralWeight",
    "StyleGAN2Critic",
    "StyleGAN2Generator",
    "UNet",
    "UpsampleConv",
    "conv",
    "conv_transpose",
    "describe_network",
    "fir_downsample",
    "fir_resample",
    "fir_upsample",
    "forward_mode",
    "from_linen",
    "from_nnx",
    "initializer",
    "maxout",
    "modulated_conv",
    "parameter_rows",
    "projected_critic",
    "stylegan2_generator",
]
