"""Layers that GANs are built of: normalisations, weight reparametrisations, noise, minibatch statistics.

A normalisation acts on activations and is asked for by name (`normalize`). A weight reparametrisation acts on a
kernel before it is used: `Dense`, `Conv` and `ConvTranspose` take one as `weight`. Power iterations and running
averages live in statistics and are written only where `Network.apply` is called with `train=True`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.types import Array

Activation = str | Callable[[Array], Array]
NORMS = ("none", "batch", "layer", "instance", "group", "spectral", "weight", "equalized")

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "softplus": nn.softplus,
    "elu": nn.elu,
    "swish": nn.swish,
    "identity": lambda x: x,
}


def activation(name: Activation) -> Callable[[Array], Array]:
    """An elementwise activation by name (`leaky_relu` has slope 0.2), or the callable that is given.

    Raises:
      ValueError: for an unknown name.

    >>> float(activation("leaky_relu")(jnp.array(-1.0)))
    -0.2...
    """
    if callable(name):
        return name
    if name not in _ACTIVATIONS:
        raise ValueError(f"Unknown activation {name!r}: use one of {sorted(_ACTIVATIONS)} or a callable.")
    return _ACTIVATIONS[name]


def initializer(name: str, scale: float) -> Callable[..., Array]:
    """`orthogonal` (of gain `scale`), `normal` (standard deviation `scale`) or `he` (`scale` * sqrt(2 / fan in)).

    Raises:
      ValueError: for an unknown name.

    >>> kernel = initializer("orthogonal", 0.8)(jax.random.key(0), (4, 4))
    >>> bool(jnp.allclose(kernel @ kernel.T, 0.64 * jnp.eye(4), atol=1e-6))
    True
    """
    if name == "orthogonal":
        return nn.initializers.orthogonal(scale)
    if name == "normal":
        return nn.initializers.normal(scale)
    if name == "he":
        return nn.initializers.variance_scaling(2.0 * scale**2, "fan_in", "normal")
    raise ValueError(f"Unknown initialiser {name!r}: use 'orthogonal', 'normal' or 'he'.")


def at_least_float32(x: Array) -> Array:
    """`x` in float32, or in float64 where it is that: what networks hand out whatever they compute in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class SpectralWeight(nn.Module):
    """Divides a kernel by an estimate of its largest singular value (Miyato et al. 2018, Algorithm 1).

    The kernel is read as a matrix `[everything else, out]`. The left singular vector is carried in the
    collection `spectral` and improved by power iteration where that may be written, that is on the turn of the
    player who owns it; elsewhere the carried vector is used as it is. No gradient flows through the
    vectors, only through the kernel in `sigma = v W u`.

    Attributes:
      steps: power iterations for each call that trains.
      epsilon: smallest norm divided by.
    """

    steps: int = 1
    epsilon: float = 1e-12

    @nn.compact
    def __call__(self, kernel: Array) -> Array:
        matrix = kernel.reshape(-1, kernel.shape[-1])
        carried = self.variable("spectral", "u", self._random_unit, matrix.shape[-1], matrix.dtype)
        frozen = jax.lax.stop_gradient(matrix)
        u = carried.value
        if self.is_mutable_collection("spectral") and not self.is_initializing():
            for _ in range(self.steps):
                u = self._unit(self._unit(frozen @ u) @ frozen)
            carried.value = u
        v = self._unit(frozen @ u)
        return kernel / jnp.maximum(v @ matrix @ u, self.epsilon)

    def _random_unit(self, size: int, dtype: Any) -> Array:
        return self._unit(jax.random.normal(self.make_rng("params"), (size,), dtype))

    def _unit(self, vector: Array) -> Array:
        return vector / jnp.maximum(jnp.linalg.norm(vector), self.epsilon)


class NormalizedWeight(nn.Module):
    """Weight normalisation, `w = g v / ||v||` for each output unit (Salimans & Kingma 2016, eq. 2).

    Attributes:
      train_scale: whether g is a parameter; `False` keeps every unit's weight at norm `scale`.
      scale: initial value of g.
    """

    train_scale: bool = True
    scale: float = 1.0

    @nn.compact
    def __call__(self, kernel: Array) -> Array:
        axes = tuple(range(kernel.ndim - 1))
        norm = jnp.sqrt(jnp.sum(jnp.square(kernel), axes) + 1e-12)
        gain: Any = self.scale
        if self.train_scale:
            gain = self.param("scale", nn.initializers.constant(self.scale), norm.shape, kernel.dtype)
        return kernel * (gain / norm)


class EqualizedWeight(nn.Module):
    """Equalised learning rate: the kernel times `gain / sqrt(fan in)` at run time (Karras et al. 2018, 4.1).

    Initialise the kernel with N(0, 1): Adam's steps are then of one size relative to every layer's weights.
    """

    gain: float = math.sqrt(2.0)

    @nn.compact
    def __call__(self, kernel: Array) -> Array:
        return kernel * (self.gain / math.sqrt(kernel[..., 0].size))


_WEIGHTS: dict[str, Callable[[], nn.Module]] = {
    "spectral": SpectralWeight,
    "weight": NormalizedWeight,
    "equalized": EqualizedWeight,
}


def weight_for(norm: str) -> Callable[[], nn.Module] | None:
    """The weight reparametrisation that a norm's name asks for, `None` where it normalises activations.

    Raises:
      ValueError: for an unknown name.

    >>> weight_for("spectral").__name__, weight_for("batch")
    ('SpectralWeight', None)
    """
    if norm not in NORMS:
        raise ValueError(f"Unknown norm {norm!r}: use one of {NORMS}.")
    return _WEIGHTS.get(norm)


def centers(norm: str) -> bool:
    """Whether a norm adds a bias of its own, so that the layer before it needs none."""
    return norm in ("batch", "layer", "instance", "group")


class Normalize(nn.Module):
    """Normalises activations as `norm` says; the identity for `none` and for names that reparametrise weights.

    `batch` normalises over the batch: global under `jit` whatever the sharding, each replica's own under `pmap`.
    `layer` normalises over all axes of an example with a scale for each channel (as in WGAN-GP),
    `instance` over height and width, `group` over groups of at least 4 channels, 32 at most.

    Attributes:
      norm: one of `NORMS`.
      dtype: of the result; statistics and parameters are float32.
      momentum: of batch normalisation's running averages.
    """

    norm: str
    dtype: Any = None
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        weight_for(self.norm)
        if self.norm == "batch":
            return nn.BatchNorm(use_running_average=not train, momentum=self.momentum, dtype=self.dtype)(x)
        if self.norm == "layer":
            return nn.LayerNorm(reduction_axes=tuple(range(1, x.ndim)), dtype=self.dtype)(x)
        if self.norm == "instance":
            return nn.InstanceNorm(dtype=self.dtype)(x)
        if self.norm == "group":
            return nn.GroupNorm(num_groups=math.gcd(32, max(1, x.shape[-1] // 4)), dtype=self.dtype)(x)
        return x


class Dense(nn.Module):
    """`flax.linen.Dense` with a reparametrised kernel: `[..., I]` to `[..., features]`.

    Attributes:
      features: units out.
      use_bias: whether to add a bias.
      dtype: of the computation.
      kernel_init: initialiser of the kernel `[I, features]`.
      weight: as in `Conv`.
    """

    features: int
    use_bias: bool = True
    dtype: Any = None
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    weight: Callable[[], nn.Module] | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        if self.weight is not None:
            kernel = self.weight()(kernel)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        out = x @ kernel
        return out if bias is None else out + bias


def maxout(x: Array, pieces: int) -> Array:
    """The largest of each `pieces` neighbours: `[..., pieces * D]` to `[..., D]` (Goodfellow et al. 2013).

    Raises:
      ValueError: if `pieces` does not divide the last axis.

    >>> maxout(jnp.array([1.0, 3.0, -2.0, -4.0]), 2)
    Array([ 3., -2.], dtype=float32)
    """
    if x.shape[-1] % pieces:
        raise ValueError(f"maxout of {pieces} pieces needs a multiple of {pieces} units, got {x.shape[-1]}.")
    return x.reshape(*x.shape[:-1], -1, pieces).max(-1)


class GaussianNoise(nn.Module):
    """Adds N(0, sigma^2) from the stream `noise` where `train` is true, and is the identity elsewhere."""

    sigma: float

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        if not train or self.sigma == 0.0:
            return x
        return x + self.sigma * jax.random.normal(self.make_rng("noise"), x.shape, x.dtype)
