"""The networks of Salimans et al. 2016 for MNIST with few labels (Improved Techniques for Training GANs)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from gan_jax.functional.batch import flatten
from gan_jax.networks.heads import with_conditions
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.networks.layers import (
    Activation,
    BatchNorm,
    Dense,
    GaussianNoise,
    NormalizedWeight,
    activation,
    at_least_float32,
)
from gan_jax.types import Array


class SemiSupervisedCritic(nn.Module):
    """A critic from samples `[B, ...]` to `{"score": [B], "classes": [B, K], "features": [B, widths[-1]]}`.

    `classes` are K logits, one for each real class; the logit of the class of generated samples is fixed at 0, so
    that `score = logsumexp(classes)` is the log-odds of being real. `features` is the last hidden layer before its
    noise, for feature matching. Weights are normalised; the norm is sqrt 2 in the hidden layers, which preserves
    the magnitude of activations through a ReLU, and a parameter in the last.

    Attributes:
      num_classes: K.
      widths: units of the hidden layers.
      input_noise: standard deviation of the noise added to the input while training.
      noise: standard deviation of the noise added to each hidden layer while training.
      kernel_init: initialiser of the kernels.
      dtype: the dtype of the computation; parameters and outputs stay float32.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    >>> keys = {name: jax.random.key(0) for name in ("params", "noise")}
    >>> out, _ = jax.eval_shape(SemiSupervisedCritic().init_with_output, keys, x)
    >>> {name: head.shape for name, head in out.items()}
    {'classes': (2, 10), 'features': (2, 250), 'score': (2,)}
    """

    num_classes: int = 10
    widths: Sequence[int] = (1000, 500, 250, 250, 250)
    input_noise: float = 0.3
    noise: float = 0.5
    kernel_init: Initializer = initializer("normal", 0.1)
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> dict[str, Array]:
        h = noisy = GaussianNoise(self.input_noise)(flatten(x), train=train)
        hidden = functools.partial(NormalizedWeight, scale=math.sqrt(2.0), train_scale=False)
        for width in self.widths:
            h = nn.relu(Dense(width, weight=hidden, kernel_init=self.kernel_init, dtype=self.dtype)(noisy))
            noisy = GaussianNoise(self.noise)(h, train=train)
        last = functools.partial(NormalizedWeight, scale=1.0)
        logits = Dense(
            self.num_classes, weight=last, kernel_init=self.kernel_init, dtype=self.dtype, name="classes"
        )(noisy)
        logits = at_least_float32(logits)
        score = nn.logsumexp(logits, axis=-1)
        return {"score": score, "classes": logits, "features": at_least_float32(h)}


class SemiSupervisedGenerator(nn.Module):
    """A generator from a latent `[B, d]`, uniform on [0, 1]^100 in the paper, to samples `[B, *output_shape]`.

    It has softplus layers with batch normalisation, and a last layer whose units have weights of norm 1.

    Attributes:
      output_shape: the shape of a sample.
      widths: units of the hidden layers.
      output_activation: `tanh` for images in [-1, 1]; the paper's images are in [0, 1] and end in a `sigmoid`.
      num_classes: the number of classes of integer labels, if the generator is conditional.
      kernel_init: initialiser of the kernels.
      dtype: the dtype of the computation.

    >>> import jax, jax.numpy as jnp
    >>> z = jax.ShapeDtypeStruct((2, 100), jnp.float32)
    >>> out, _ = jax.eval_shape(SemiSupervisedGenerator().init_with_output, jax.random.key(0), z)
    >>> out.shape
    (2, 28, 28, 1)
    """

    output_shape: Sequence[int] = (28, 28, 1)
    widths: Sequence[int] = (500, 500)
    output_activation: Activation = "tanh"
    num_classes: int | None = None
    kernel_init: Initializer = initializer("glorot")
    dtype: Any = None

    @nn.compact
    def __call__(self, z: Array, *conditions: Array, train: bool = False) -> Array:
        h = with_conditions(flatten(z), conditions, self.num_classes)
        for width in self.widths:
            h = Dense(width, use_bias=False, kernel_init=self.kernel_init, dtype=self.dtype)(h)
            h = nn.softplus(BatchNorm(dtype=self.dtype)(h, train=train))
        last = functools.partial(NormalizedWeight, scale=1.0, train_scale=False)
        size = math.prod(self.output_shape)
        out = Dense(size, weight=last, kernel_init=self.kernel_init, dtype=self.dtype, name="out")(h)
        return activation(self.output_activation)(at_least_float32(out)).reshape(-1, *self.output_shape)
