"""Layers that GANs are built of: normalisations, weight reparametrisations, noise, minibatch statistics.

A normalisation acts on activations (`Normalize`); a weight reparametrisation acts on a kernel before it is used
(`Dense`, `Conv` and `ConvTranspose` take one as `weight`). Networks ask for either by name, or for one of each,
`"batch+spectral"`. Power iterations and running averages live in statistics and are written only where
`Network.apply` is called with `train=True`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.functional.batch import batch_is_sharded, flatten, over_batch
from gan_jax.functional.channels import channel_sum, over_channels
from gan_jax.functional.precision import at_least_float32
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.precision import at_highest_precision
from gan_jax.types import Array, Size

Activation = str | Callable[[Array], Array]
Norm = str | Callable[..., nn.Module]
"""A name, two names joined by `+`, or what builds a module called as `module(x, train=...)`."""

ACTIVATION_NORMS = ("none", "batch", "layer", "instance", "group")
WEIGHT_NORMS = ("spectral", "weight", "equalized")

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


def sides(size: Size) -> tuple[int, int]:
    """Height and width of images.

    >>> sides(64), sides((48, 64))
    ((64, 64), (48, 64))
    """
    return (size, size) if isinstance(size, int) else (size[0], size[1])


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


class SpectralWeight(nn.Module):
    """Divides a kernel by an estimate of its largest singular value (Miyato et al. 2018, Algorithm 1).

    The kernel is read as a matrix `[everything else, out]`. A singular vector is carried in the
    collection `spectral` and improved by power iteration where that may be written, that is on the turn of the
    player who owns it; elsewhere the carried vector is used as it is. No gradient flows through the
    vectors, only through the kernel in `sigma = v W u`. The products have the highest precision on every platform:
    they are few, and an error of sigma is one of the whole layer's scale.

    Attributes:
      steps: power iterations for each call that trains.
      epsilon: smallest norm divided by.
    """

    steps: int = 1
    epsilon: float = 1e-12

    @nn.compact
    @at_highest_precision
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

    @nn.nowrap
    def _random_unit(self, size: int, dtype: Any) -> Array:
        return self._unit(jax.random.normal(self.make_rng("params"), (size,), dtype))

    @nn.nowrap
    def _unit(self, vector: Array) -> Array:
        return vector / jnp.maximum(jnp.linalg.norm(vector), self.epsilon)


class NormalizedWeight(nn.Module):
    """Weight normalisation, `w = g v / ||v||` for each output unit (Salimans & Kingma 2016, equation 2).

    Attributes:
      scale: initial value of g; `None` starts at `||v||`, where the layer is as if it were not normalised.
      train_scale: whether g is a parameter; `False` keeps every unit's weight at norm `scale`.
    """

    scale: float | None = None
    train_scale: bool = True

    @nn.compact
    def __call__(self, kernel: Array) -> Array:
        norm = jnp.sqrt(jnp.sum(jnp.square(kernel), tuple(range(kernel.ndim - 1))) + 1e-12)
        if self.train_scale:
            start = norm if self.scale is None else jnp.full_like(norm, self.scale)
            return kernel * (self.param("scale", lambda _: start) / norm)
        if self.scale is None:
            raise ValueError("NormalizedWeight(train_scale=False) needs the norm to keep: scale=...")
        return kernel * (self.scale / norm)


class EqualizedWeight(nn.Module):
    """Equalised learning rate: the kernel times `gain / sqrt(fan in)` at run time (Karras et al. 2018, 4.1).

    The kernel is initialised N(0, 1), which networks that ask for `equalized` by name do themselves: Adam's
    steps are then of one size relative to every layer's weights.
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


def batch_groups(norm: Norm) -> int | None:
    """The groups of a batch normalisation, n of `batch:n`; `None` where a norm has none.

    >>> batch_groups("batch"), batch_groups("batch:8+spectral"), batch_groups("layer")
    (1, 8, None)
    """
    found = None if callable(norm) else re.search(r"(?:^|\+)batch(?::([1-9]\d*))?(?:$|\+)", norm)
    return int(found[1] or 1) if found else None


def split_norm(norm: Norm) -> tuple[Norm, str | None]:
    """A norm's two halves: what normalises activations, and what reparametrises weights.

    Raises:
      ValueError: for an unknown name, or two names of one kind.

    >>> split_norm("batch+spectral"), split_norm("spectral"), split_norm("layer")
    (('batch', 'spectral'), ('none', 'spectral'), ('layer', None))
    """
    if callable(norm):
        return norm, None
    names = norm.split("+")
    activations = [name for name in names if name in ACTIVATION_NORMS or batch_groups(name)]
    weights = [name for name in names if name in WEIGHT_NORMS]
    if len(activations) + len(weights) < len(names) or len(activations) > 1 or len(weights) > 1:
        raise ValueError(
            f"Unknown norm {norm!r}: use one of {ACTIVATION_NORMS} ('batch:8' has 8 groups), one of "
            f"{WEIGHT_NORMS}, or one of each joined by '+'."
        )
    return activations[0] if activations else "none", weights[0] if weights else None


def weight_for(norm: Norm) -> Callable[[], nn.Module] | None:
    """The weight reparametrisation that a norm asks for, `None` where it asks for none.

    >>> weight_for("spectral").__name__, weight_for("batch")
    ('SpectralWeight', None)
    """
    weight = split_norm(norm)[1]
    return None if weight is None else _WEIGHTS[weight]


def kernel_init_for(norm: Norm, given: Initializer) -> Initializer:
    """The kernel's initialiser: the given one, except where an equalised learning rate prescribes N(0, 1)."""
    return initializer("normal") if split_norm(norm)[1] == "equalized" else given


def centers(norm: Norm) -> bool:
    """Whether a norm adds a bias of its own, so that the layer before it needs none."""
    return split_norm(norm)[0] != "none"


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015); with `groups=1` the same numbers as `flax.linen.BatchNorm`.

    Under `jit` the mean is over the global batch however it is sharded, under `pmap` over each replica's own.

    Mean and variance are found in one pass, from sums of x - s and of its square. In float32 the variance has a
    relative error of about 1e-6 (mean - s)^2 / variance, so s is near the mean: it is the mean of the batch's first
    example, whose share of the batch's variance bounds that by 1e-6 B whatever the data are. Where a batch is
    shared between devices, s is the running mean, which every device has: there activations whose mean is hundreds
    of standard deviations from zero are normalised badly until the running mean has followed them.

    Attributes:
      groups: the batch is normalised in so many runs of neighbours, each by its own mean and variance: with
        the number of devices, what each replica would do under `pmap`, without communication. A smaller batch is
        one group.
      axis_name: under `pmap`, the axis over which to average, for a global batch.
      affine: whether to scale and shift.
      momentum: of the running averages, used where `train` is false.
      epsilon: added to the variance.
      dtype: of the result; statistics and parameters are float32.

    Raises:
      ValueError: if `groups` does not divide the batch.
    """

    groups: int = 1
    axis_name: str | None = None
    affine: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        features = (x.shape[-1],)
        mean_average = self.variable("batch_stats", "mean", jnp.zeros, features)
        variance_average = self.variable("batch_stats", "var", jnp.ones, features)
        grouped = self._in_groups(x, train)
        shift = self._shift(grouped, mean_average.value, train)
        centred = grouped - shift.reshape(-1, *(1,) * (x.ndim - 1), x.shape[-1])
        if train:
            mean, variance = self._statistics(centred)
            if not self.is_initializing():
                for average, value in ((mean_average, shift + mean), (variance_average, variance)):
                    now = jnp.mean(value, 0)
                    average.value = self.momentum * average.value + (1 - self.momentum) * now
        else:
            mean, variance = jnp.zeros_like(shift), variance_average.value[None]
        factor = jax.lax.rsqrt(variance + self.epsilon)
        if self.affine:
            factor = factor * self.param("scale", nn.initializers.ones_init(), features)
        offset = -mean * factor
        if self.affine:
            offset = offset + self.param("bias", nn.initializers.zeros_init(), features)
        out = centred * _over_groups(factor, centred) + _over_groups(offset, centred)
        return out.reshape(x.shape).astype(self.dtype or x.dtype)

    @nn.nowrap
    def _in_groups(self, x: Array, train: bool) -> Array:
        """`x` in float32 or wider as `[groups, B / groups, ..., C]`; one group where no statistics are needed."""
        groups = self.groups if train and not self.is_initializing() and x.shape[0] >= self.groups else 1
        if x.shape[0] % groups:
            raise ValueError(
                f"BatchNorm(groups={groups}) needs a batch of a multiple of that, got {x.shape[0]}."
            )
        return at_least_float32(x).reshape(groups, -1, *x.shape[1:])

    @nn.nowrap
    def _shift(self, grouped: Array, running_mean: Array, train: bool) -> Array:
        """What is near the mean of each group, `[groups or 1, C]`, and the same on every device that shares it."""
        shared = self.axis_name is not None or (len(grouped) == 1 and batch_is_sharded())
        if not train or shared:
            return running_mean[None]
        first = grouped[:, 0]
        return jax.lax.stop_gradient(jax.vmap(channel_sum)(first) / first[0, ..., 0].size)

    @nn.nowrap
    def _statistics(self, centred: Array) -> tuple[Array, Array]:
        """Means and variances `[groups, C]` of `centred [groups, B / groups, ..., C]`."""
        count = centred[0, ..., 0].size
        mean = jax.vmap(channel_sum)(centred) / count
        square = jax.vmap(channel_sum)(jnp.square(centred)) / count
        if self.axis_name is not None and not self.is_initializing():
            mean, square = jax.lax.pmean((mean, square), self.axis_name)
        return mean, jnp.maximum(square - jnp.square(mean), 0.0)


def _over_groups(v: Array, grouped: Array) -> Array:
    """`v [groups, C]` for each of the groups' examples and pixels."""
    return jax.vmap(lambda one: over_channels(one, grouped.shape[1:]))(v)


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation whose scale and shift depend on a condition (Dumoulin et al. 2017; SNGAN, SAGAN).

    Called with a condition `[B, D]`, one-hot labels for a scale and a shift of each class. It starts as plain batch
    normalisation, unless `kernel_init` is given.

    Attributes:
      groups, axis_name, momentum, dtype: see `BatchNorm`.
      kernel_init: initialiser of the two linear functions of the condition, zero by default.
      weight: reparametrisation of their kernels, see `Dense`.
    """

    groups: int = 1
    axis_name: str | None = None
    momentum: float = 0.9
    dtype: Any = None
    kernel_init: Initializer = nn.initializers.zeros_init()
    weight: Callable[[], nn.Module] | None = None

    @nn.compact
    def __call__(self, x: Array, condition: Array, *, train: bool) -> Array:
        normed = BatchNorm(
            groups=self.groups,
            axis_name=self.axis_name,
            affine=False,
            momentum=self.momentum,
            dtype=self.dtype,
        )(x, train=train)
        shape = (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])

        def per_example(name: str) -> Array:
            linear = Dense(
                x.shape[-1],
                use_bias=False,
                kernel_init=self.kernel_init,
                weight=self.weight,
                dtype=self.dtype,
                name=name,
            )
            return linear(condition).reshape(shape)

        return normed * (1 + per_example("scale")) + per_example("bias")


class Normalize(nn.Module):
    """Normalises activations as `norm` says; the identity for `none` and for names that reparametrise weights.

    `batch` is `BatchNorm`, and `batch:8` with 8 groups; `layer` normalises over all axes of an example with a scale
    for each channel (as in WGAN-GP), `instance` over height and width, `group` over groups of at least 4 channels,
    32 groups at most. These three are Flax's, with its fast variance E x^2 - (E x)^2, of which float32 keeps two
    digits at a mean of 100 standard deviations and none at 1,000.

    Attributes:
      norm: a name, or what builds a module called as `module(x, train=...)`.
      dtype: of the result; statistics and parameters are float32.

    Raises:
      ValueError: for an unknown name, and for `instance` on vectors.
    """

    norm: Norm
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        kind, _ = split_norm(self.norm)
        if callable(kind):
            return kind()(x, train=train)
        if groups := batch_groups(kind):
            return BatchNorm(groups=groups, dtype=self.dtype)(x, train=train)
        if kind == "layer":
            return nn.LayerNorm(reduction_axes=tuple(range(1, x.ndim)), dtype=self.dtype)(x)
        if kind == "group":
            return nn.GroupNorm(num_groups=math.gcd(32, max(1, x.shape[-1] // 4)), dtype=self.dtype)(x)
        if kind == "instance":
            if x.ndim < 3:
                raise ValueError(
                    f"Instance normalisation needs images, got shape {x.shape}: use 'layer' for vectors."
                )
            return nn.InstanceNorm(dtype=self.dtype)(x)
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
    kernel_init: Initializer = initializer("lecun")
    weight: Callable[[], nn.Module] | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)) if self.use_bias else None
        if self.weight is not None:
            kernel = self.weight()(kernel)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        out = x @ kernel
        return out if bias is None else out + over_channels(bias, out.shape)


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
        # Drawn as a matrix: see `initializers`.
        noise = jax.random.normal(self.make_rng("noise"), flatten(x).shape, x.dtype)
        noise = noise if self.is_initializing() else over_batch(noise)
        return x + self.sigma * noise.reshape(x.shape)


class Dropout(nn.Module):
    """Zeroes a share `rate` of the units where `train` is true, from the stream `dropout`.

    Attributes:
      rate: share of units that are dropped; the others are scaled by `1 / (1 - rate)`.
      always: drop whenever `apply` has a key, in evaluation too (pix2pix, where dropout is the noise).
    """

    rate: float
    always: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        active = train or (self.always and self.has_rng("dropout"))
        if not active or self.rate == 0.0:
            return x
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, flatten(x).shape)
        keep = keep if self.is_initializing() else over_batch(keep)
        return jnp.where(keep.reshape(x.shape), x / (1 - self.rate), 0).astype(x.dtype)


class MinibatchDiscrimination(nn.Module):
    """Appends each example's closeness to the others of its batch: `[B, D]` to `[B, D + kernels]`.

    `o_b(x_i) = sum_j exp(-||M_ib - M_jb||_1)`, where `M_i = f(x_i) T` (Salimans et al. 2016, section 3.2).

    Attributes:
      kernels: how many closenesses, the paper's B.
      dimensions: of the space of each, the paper's C.
    """

    kernels: int = 100
    dimensions: int = 5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        tensor = self.param(
            "tensor", nn.initializers.normal(0.05), (x.shape[-1], self.kernels, self.dimensions)
        )
        rows = jnp.einsum("nd,dkc->nkc", at_least_float32(x), tensor)
        distance = jnp.abs(rows[:, None] - rows[None, :]).sum(-1)
        return jnp.concatenate([x, jnp.exp(-distance).sum(1).astype(x.dtype)], axis=-1)


class MinibatchStddev(nn.Module):
    """Appends the mean standard deviation of the features over a group as one feature (Karras et al. 2018, 3).

    `[B, D]` becomes `[B, D + 1]`, `[B, H, W, C]` becomes `[B, H, W, C + 1]`. Groups are neighbours in the batch.

    Attributes:
      group: examples in a group; a smaller batch is one group.

    Raises:
      ValueError: if the group does not divide the batch.
    """

    group: int = 4

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size = min(self.group, x.shape[0])
        if x.shape[0] % size:
            raise ValueError(
                f"MinibatchStddev(group={size}) needs a multiple of that, got a batch of {x.shape[0]}."
            )
        grouped = at_least_float32(x).reshape(-1, size, *x.shape[1:])
        deviation = jnp.sqrt(jnp.var(grouped, axis=1, keepdims=True) + 1e-8)
        mean = deviation.mean(tuple(range(2, grouped.ndim)), keepdims=True)
        plane = jnp.broadcast_to(mean, (*grouped.shape[:-1], 1)).reshape(*x.shape[:-1], 1)
        return jnp.concatenate([x, plane.astype(x.dtype)], axis=-1)


_MINIBATCH: dict[str, Callable[[], nn.Module]] = {
    "discrimination": MinibatchDiscrimination,
    "stddev": MinibatchStddev,
}


def minibatch_layer(name: str) -> Callable[[], nn.Module] | None:
    """The layer by which a critic looks at a bag of samples: `none`, `discrimination` or `stddev`.

    Raises:
      ValueError: for an unknown name.
    """
    if name != "none" and name not in _MINIBATCH:
        raise ValueError(f"Unknown minibatch layer {name!r}: use 'none', 'discrimination' or 'stddev'.")
    return _MINIBATCH.get(name)
