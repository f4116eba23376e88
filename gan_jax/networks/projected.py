"""Critics that see images through a frozen network's features (Sauer et al. 2021).

A pretrained network gives maps F_1 to F_L of an image, the finest first. Random convolutions that are never trained
mix them, over channels by 1 x 1 kernels and over scales by 3 x 3 kernels whose results are enlarged:

    P_L = C_L * F_L,   P_l = C_l * F_l + up(S_l * P_{l+1}),

and each P_l has a small critic of its own. A game's loss is the mean over all their logits. What is frozen is model
state: it is saved with a run, it has no gradient and no average, and gradients of images pass through it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.network import Network
from gan_jax.networks.conv_layers import Conv
from gan_jax.networks.convolution import conv
from gan_jax.networks.heads import condition_vector
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.networks.layers import Dense, Norm, Normalize, at_least_float32, kernel_init_for, weight_for
from gan_jax.networks.linen import from_linen
from gan_jax.types import Array, Tree

LOGITS = 4
"""Each critic has 4 x 4 logits."""


class Features(Protocol):
    """A frozen network, such as `gan_jax.metrics.extractor_named` gives.

    Attributes:
      name: for messages.
      apply: `(params, images [B, H, W, C] in [-1, 1]) -> {"pyramid": maps}`, a sequence of `[B, H_l, W_l, C_l]`,
        the finest first; differentiable by the images.
      params: its weights.
      weights: a digest of them.
    """

    @property
    def name(self) -> str: ...
    @property
    def apply(self) -> Callable[[Tree, Array], Mapping[str, Any]]: ...
    @property
    def params(self) -> Tree: ...
    @property
    def weights(self) -> str: ...


class MixedFeatures(nn.Module):
    """Maps of a frozen network, mixed by random convolutions that are never trained.

    Images `[B, H, W, C]` become a list of maps `[B, H_l, W_l, expansion C_l]`, the finest first. Maps with a side
    of less than 4 pixels are left out.

    Attributes:
      features: the frozen network.
      mix: `none` leaves the maps as they are, `channels` mixes each over its channels, `scales` also from the
        coarsest to the finest.
      expansion: channels of a mixed map, as a multiple of those of the map.
      dtype: the dtype of the convolutions; `None` is that of the maps.

    Raises:
      ValueError: for features without a pyramid, or whose maps are all smaller than 4 pixels; for an unknown mix.
    """

    features: Features
    mix: str = "scales"
    expansion: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        if self.mix not in ("none", "channels", "scales"):
            raise ValueError(f"Unknown mix {self.mix!r}: use 'none', 'channels' or 'scales'.")
        frozen = self.variable("features", "weights", lambda: jax.tree.map(jnp.asarray, self.features.params))
        made = self.features.apply(frozen.value, x)
        if "pyramid" not in made:
            raise ValueError(
                f"The features {self.features.name!r} have no maps of an image to give a critic, only vectors: use "
                "classifier:DATA, vgg16:FILE or inception:FILE."
            )
        maps = [h for h in made["pyramid"] if min(h.shape[1:3]) >= LOGITS]
        if not maps:
            raise ValueError(f"The maps of {self.features.name!r} are smaller than 4 x 4 for {x.shape}.")
        if self.mix == "none":
            return maps
        mixed: list[Array] = []
        for place in reversed(range(len(maps))):
            h = maps[place]
            channels = self.expansion * h.shape[-1]
            out = self._random_conv(h, channels, 1, f"channels_{place}")
            if self.mix == "scales" and mixed:
                coarser = self._random_conv(mixed[0], channels, 3, f"scales_{place}")
                size = (len(h), *h.shape[1:3], channels)
                out = out + jax.image.resize(at_least_float32(coarser), size, "linear").astype(out.dtype)
            mixed.insert(0, out)
        return mixed

    def _random_conv(self, x: Array, features: int, size: int, name: str) -> Array:
        """A convolution by a kernel N(0, 2 / fan in) that stays as it is drawn."""
        shape = (size, size, x.shape[-1], features)
        drawn = self.variable("projections", name, lambda: initializer("he")(self.make_rng("params"), shape))
        dtype = self.dtype or x.dtype
        return conv(x.astype(dtype), drawn.value.astype(dtype))


class ProjectedCritic(nn.Module):
    """A critic from images `[B, H, W, C]` and conditions to the score `[B, 4, 4, L]`, of L maps of features.

    Each map's critic halves it by convolutions of 4 x 4 with stride 2 down to 4 to 7 pixels, and a last convolution
    of 3 x 3 gives a logit for each pixel; where these are not 4 x 4 they are interpolated. With a label every logit
    has the term <embedding(y), hidden pixel> (Miyato & Koyama 2018), as in `BaseCritic`'s `projection`.

    Attributes:
      features, mix, expansion: see `MixedFeatures`; the paper mixes scales.
      width: channels of the critics' first convolution, doubled at each halving up to 8 times.
      norm: see `BaseCritic`; the authors have `batch+spectral`.
      num_classes: the number of classes of integer labels, if the critic is conditional.
      kernel_init: initialiser of the critics' kernels.
      dtype: the dtype of the computation; parameters and logits are float32.

    Raises:
      ValueError: as `MixedFeatures`; for inputs that are no images.

    References:
      Sauer et al., Projected GANs Converge Faster, 2021, section 3 (arXiv:2111.01007).
    """

    features: Features
    mix: str = "scales"
    expansion: int = 1
    width: int = 64
    norm: Norm = "spectral"
    num_classes: int | None = None
    kernel_init: Initializer = initializer("lecun")
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, *conditions: Array, train: bool = False) -> Array:
        if x.ndim != 4:
            raise ValueError(f"The projected critic takes images [B, H, W, C], got {x.shape}.")
        condition = condition_vector(conditions, self.num_classes)
        maps = MixedFeatures(self.features, self.mix, self.expansion, self.dtype, name="mixed")(x)
        logits = [self._logits(h, condition, f"scale_{place}", train) for place, h in enumerate(maps)]
        return jnp.stack(logits, axis=-1)

    def _logits(self, h: Array, condition: Array | None, name: str, train: bool) -> Array:
        """`[B, H, W, C]` to logits `[B, 4, 4]`."""
        shared: dict[str, Any] = {
            "weight": weight_for(self.norm),
            "kernel_init": kernel_init_for(self.norm, self.kernel_init),
            "dtype": self.dtype,
        }
        width = self.width
        h = nn.leaky_relu(Conv(width, 3, **shared, name=f"{name}_in")(h), 0.2)
        place = 0
        while min(h.shape[1:3]) >= 2 * LOGITS:
            width = min(2 * width, 8 * self.width)
            h = Conv(width, 4, strides=2, **shared, name=f"{name}_down_{place}")(h)
            h = nn.leaky_relu(Normalize(self.norm, dtype=self.dtype)(h, train=train), 0.2)
            place += 1
        logits = at_least_float32(Conv(1, 3, **shared, name=f"{name}_out")(h)[..., 0])
        if condition is not None:
            embed = Dense(h.shape[-1], use_bias=False, **shared, name=f"{name}_embedding")
            logits = logits + jnp.einsum(
                "bhwc,bc->bhw", at_least_float32(h), at_least_float32(embed(condition))
            )
        if logits.shape[1:] != (LOGITS, LOGITS):
            logits = jax.image.resize(logits, (len(logits), LOGITS, LOGITS), "linear")
        return logits


def projected_critic(module: ProjectedCritic, *example_inputs: Any) -> Network:
    """A projected critic as a network that says which features it was given.

    A score by the same features would measure what the critic was trained to see: evaluations mark it.

    Args:
      module: the critic.
      *example_inputs: images and conditions, arrays or `jax.ShapeDtypeStruct`s, as for `from_linen`.
    """
    network = from_linen(module, *example_inputs)
    return dataclasses.replace(network, frozen_features=(module.features.weights,))
