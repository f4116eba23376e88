"""The networks of StyleGAN2: a mapping network, a skip generator of modulated convolutions, a residual critic.

    w = f(z / rms(z)),   s = A w + b,   y_j = sum_ik s_i w_ijk * x_i / sqrt(sum_ik (s_i w_ijk)^2 + 1e-8)

Weights are N(0, 1) and scaled at run time (equalised learning rate), leaky ReLUs are multiplied by sqrt 2, and
resampling is filtered by [1, 3, 3, 1]. Images may have sides of different sizes: the shorter one is 4 to 7 times a
power of two, 8 pixels or more, and that power divides the other (64 x 64, 96 x 96, 96 x 128).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_jax.functional.batch import flatten, over_batch
from gan_jax.functional.channels import materialize, over_channels
from gan_jax.functional.path_length import AVERAGE, OFFSET, W
from gan_jax.functional.precision import at_least_float32
from gan_jax.network import Network
from gan_jax.networks.conv_layers import Conv
from gan_jax.networks.convolution import Pair, conv, conv_transpose, pair
from gan_jax.networks.heads import BaseCritic, ScoreHead, condition_vector, with_conditions
from gan_jax.networks.initializers import initializer
from gan_jax.networks.layer_noise import constant_noise, noise_source
from gan_jax.networks.layers import EqualizedWeight, MinibatchStddev
from gan_jax.networks.linen import from_linen
from gan_jax.networks.resampling import BINOMIAL, fir_downsample, fir_resample, fir_upsample, normalized
from gan_jax.types import Array

EPSILON = 1e-8
SMALLEST = 8
"""The shortest side of an image, in pixels."""


def stage_sizes(size: int | Pair) -> tuple[Pair, ...]:
    """The sizes of the networks' stages for an image, the image's first.

    Args:
      size: the side of square images, or height and width, in pixels.

    Raises:
      ValueError: unless the shorter side is 4 to 7 times a power of two that divides the other, 8 pixels or more.

    >>> stage_sizes(32), stage_sizes((24, 32))
    (((32, 32), (16, 16), (8, 8), (4, 4)), ((24, 32), (12, 16), (6, 8)))
    """
    sides = pair(size, "size")
    shorter = min(sides)
    halvings = int(math.log2(shorter / 4)) if shorter >= SMALLEST else 0
    if not halvings or any(side % 2**halvings for side in sides):
        raise ValueError(
            f"StyleGAN2's images have a shorter side of 4 to 7 times a power of two, {SMALLEST} pixels or more, "
            f"and another side that this power divides (32 x 32, 96 x 96, 96 x 128); got {sides}."
        )
    return tuple((sides[0] >> k, sides[1] >> k) for k in range(halvings + 1))


def stage_widths(width: int, most: int, stages: int) -> tuple[int, ...]:
    """The number of channels at each stage, the image's first: doubled at each halving up to `most`.

    >>> stage_widths(64, 256, 4)
    (64, 128, 256, 256)
    """
    return tuple(min(most, width * 2**stage) for stage in range(stages))


def scaled_leaky_relu(x: Array) -> Array:
    """The leaky ReLU of slope .2 times sqrt 2, which keeps the variance of weights that are scaled at run time."""
    return math.sqrt(2) * nn.leaky_relu(materialize(x), 0.2)


def normalize_second_moment(x: Array) -> Array:
    """x / sqrt(mean x^2 + 1e-8) over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + EPSILON)


def over_pixels(v: Array, shape: tuple[int, ...]) -> Array:
    """`v [B, C]` for each pixel of images of a shape `(B, H, W, C)`."""
    return jax.vmap(lambda one: over_channels(one, shape[1:]))(v)


def modulated_conv(
    x: Array, kernel: Array, scales: Array, *, demodulate: bool = True, up: bool = False
) -> Array:
    """A convolution whose kernel is multiplied by a scale for each example and channel in, then normalised.

    Scaling an example's kernel is scaling its input, and normalising the kernel of a channel out is scaling that
    channel: all examples share one convolution.

    Args:
      x: `[B, H, W, I]`.
      kernel: `[k, k, I, O]`.
      scales: s, `[B, I]`.
      demodulate: whether each channel out is divided by the norm of its kernel.
      up: whether height and width are doubled, by a transposed convolution filtered by [1, 3, 3, 1].

    Returns:
      `[B, H, W, O]`, or `[B, 2 H, 2 W, O]`.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, equations (1) and (3)
      (arXiv:1912.04958).

    >>> x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((1, 1, 2, 1))
    >>> print(modulated_conv(x, kernel, jnp.array([[3.0, 4.0]]))[0, 0, 0])  # (3 + 4) / 5
    [1.4]
    """
    scaled = x * over_pixels(scales.astype(x.dtype), x.shape)
    if up:
        raised = conv_transpose(scaled, kernel.astype(x.dtype), strides=2, padding=((2, 2), (2, 2)))
        out = fir_resample(raised, normalized(BINOMIAL, 2), padding=(1, 1))
    else:
        out = conv(scaled, kernel.astype(x.dtype))
    if not demodulate:
        return out
    squares = jnp.sum(jnp.square(at_least_float32(kernel)), axis=(0, 1))
    norms = jnp.einsum("bi,io->bo", jnp.square(at_least_float32(scales)), squares) + EPSILON
    return out * over_pixels(jax.lax.rsqrt(norms).astype(out.dtype), out.shape)


class EqualizedDense(nn.Module):
    """A linear layer with an equalised learning rate: `[B, I]` to `[B, features]`.

    Attributes:
      features: units out.
      multiplier: of the learning rate of kernel and bias.
      bias: the initial value of the bias.
      dtype: of the computation.
    """

    features: int
    multiplier: float = 1.0
    bias: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = initializer("normal", 1 / self.multiplier)
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.constant(self.bias / self.multiplier), (self.features,))
        kernel, bias = kernel * (self.multiplier / math.sqrt(x.shape[-1])), bias * self.multiplier
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        out = x @ kernel
        return out + over_channels(bias, out.shape)


class MappingNetwork(nn.Module):
    """From a latent z `[B, d]` and a label to w `[B, width]`; without a latent, from a label only.

    Both are normalised to a mean square of 1, the label after a linear layer.

    Attributes:
      width: the size of w.
      layers: their number.
      multiplier: of the learning rate.
    """

    width: int = 512
    layers: int = 8
    multiplier: float = 0.01

    @nn.compact
    def __call__(self, z: Array | None, condition: Array | None = None) -> Array:
        parts = [] if z is None else [normalize_second_moment(at_least_float32(z))]
        if condition is not None:
            embedded = EqualizedDense(self.width, name="label")(at_least_float32(condition))
            parts.append(normalize_second_moment(embedded))
        h = jnp.concatenate(parts, axis=-1)
        for place in range(self.layers):
            h = EqualizedDense(self.width, self.multiplier, name=f"layer_{place}")(h)
            h = scaled_leaky_relu(h)
        return h


class ModulatedConv(nn.Module):
    """A modulated convolution with an affine map from w `[B, D]` to its scales; see `modulated_conv`.

    Attributes:
      features: channels out.
      kernel_size: of a square kernel.
      demodulate, up: see `modulated_conv`.
      dtype: of the convolution.
    """

    features: int
    kernel_size: int = 3
    demodulate: bool = True
    up: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        scales = EqualizedDense(x.shape[-1], bias=1.0, name="affine")(w)
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", initializer("normal"), shape) / math.sqrt(math.prod(shape[:3]))
        x = x.astype(self.dtype or x.dtype)
        return modulated_conv(x, kernel, scales, demodulate=self.demodulate, up=self.up)


class NoiseInput(nn.Module):
    """Adds one normal number to all channels of a pixel, times a strength that starts at 0.

    With a stream `noise` the numbers are new for every example; without one, or if not `random`, they are constant.
    In a `noise_from` they are those of its source.

    Attributes:
      place: the layer's, which determines the constant numbers.
      random: whether a stream is used.
    """

    place: int
    random: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, height, width, _ = x.shape
        strength = self.param("strength", nn.initializers.zeros_init(), ())
        source = noise_source()
        if self.random and source is not None:
            noise = source(self.place, height * width)
        elif self.random and self.has_rng("noise"):
            drawn = jax.random.normal(self.make_rng("noise"), (batch, height * width))
            noise = drawn if self.is_initializing() else over_batch(drawn)
        else:
            noise = constant_noise(self.place, height * width)
        return x + (strength * noise).reshape(-1, height, width, 1).astype(x.dtype)


class StyledConv(nn.Module):
    """A modulated convolution, noise, a bias and a scaled leaky ReLU.

    Attributes:
      features: channels out.
      place: the layer's, from 0.
      up: whether height and width are doubled.
      random: see `NoiseInput`.
      dtype: of the computation.
    """

    features: int
    place: int
    up: bool = False
    random: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        h = ModulatedConv(self.features, up=self.up, dtype=self.dtype, name="conv")(x, w)
        h = NoiseInput(self.place, self.random, name="noise")(h)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return scaled_leaky_relu(h + over_channels(bias.astype(h.dtype), h.shape))


class StyleGAN2Generator(nn.Module):
    """StyleGAN2's generator, from a latent `[B, d]` and conditions to images `[B, height, width, channels]`.

    Images are unbounded in training and clipped to [-1, 1] in evaluation. The mean of w is tracked in the
    collection `w_average` wherever that may be written, that is in the generator's own turns.

    Attributes:
      size: the side of square images, or height and width; see the module.
      channels: the number of channels of the images.
      width: channels next to the image, doubled at each halving up to `most`; the paper has 16384 / size.
      most: the largest number of channels.
      style: the size of w.
      layers: of the mapping network.
      mixing: the probability in training of a second latent for the layers from a random one on; it takes a key.
      psi: truncation in evaluation: w is moved to its average plus psi times its distance.
      beta: the decay of w's average.
      constant_noise: whether noise is constant in evaluation, with a key too.
      num_classes: the number of classes of integer labels, if the generator is conditional.
      dtype: the dtype of the convolutions.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020 (arXiv:1912.04958).

    >>> generator = StyleGAN2Generator(size=(12, 16), channels=1, width=4, style=8, num_classes=3)
    >>> z, y = jax.ShapeDtypeStruct((2, 5), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    >>> out, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), z, y)
    >>> out.shape
    (2, 12, 16, 1)
    """

    size: int | Pair = 64
    channels: int = 3
    width: int = 256
    most: int = 512
    style: int = 512
    layers: int = 8
    mixing: float = 0.9
    psi: float = 1.0
    beta: float = 0.995
    constant_noise: bool = False
    num_classes: int | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, z: Array, *conditions: Array, train: bool = False) -> Array:
        sizes = stage_sizes(self.size)[::-1]
        mapping = MappingNetwork(self.style, self.layers, name="mapping")
        condition = condition_vector(conditions, self.num_classes)
        w = mapping(flatten(z), condition)
        average = self._average(w, train)
        # A stage's map to an image shares its w with the first convolution of the next stage.
        layers = 2 * len(sizes)
        if self.has_variable(OFFSET, W):
            w = w + self.get_variable(OFFSET, W)
        elif train and self.mixing and self.has_rng("noise") and not self.is_initializing():
            return self._synthesis(self._mixed(w, mapping, z, condition, layers), sizes, train)
        elif not train and self.psi != 1:
            w = average + self.psi * (w - average)
        image = self._synthesis([w] * layers, sizes, train)
        return image if train else jnp.clip(image, -1, 1)

    def _average(self, w: Array, train: bool) -> Array:
        """The average of w, after this call's where it may be written."""
        average = self.variable(AVERAGE, W, jnp.zeros, (self.style,))
        if train and self.is_mutable_collection(AVERAGE) and not self.is_initializing():
            mean = jax.lax.stop_gradient(jnp.mean(w, axis=0))
            average.value = self.beta * average.value + (1 - self.beta) * mean
        return average.value

    def _mixed(
        self, w: Array, mapping: nn.Module, z: Array, condition: Array | None, layers: int
    ) -> list[Array]:
        """The w of every layer: from a random layer on that of a second latent, with the probability `mixing`."""
        drawn = over_batch(jax.random.normal(self.make_rng("noise"), flatten(z).shape))
        other = mapping(drawn, condition)
        u = over_batch(jax.random.uniform(self.make_rng("noise"), (w.shape[0], 2)))
        first = jnp.where(u[:, 0] < self.mixing, 1 + jnp.floor(u[:, 1] * (layers - 1)), layers)
        return [jnp.where((layer < first)[:, None], w, other) for layer in range(layers)]

    def _synthesis(self, styles: list[Array], sizes: Sequence[Pair], train: bool) -> Array:
        widths = stage_widths(self.width, self.most, len(sizes))[::-1]
        shared = {"random": train or not self.constant_noise, "dtype": self.dtype}
        learned = self.param("constant", initializer("normal"), (*sizes[0], widths[0]))
        h = jnp.broadcast_to(
            learned.astype(self.dtype or learned.dtype), (styles[0].shape[0], *learned.shape)
        )
        image: Array | None = None
        for stage, features in enumerate(widths):
            layer = 2 * stage - 1
            if stage > 0:
                h = StyledConv(features, layer, up=True, name=f"up_{stage}", **shared)(h, styles[layer])
            h = StyledConv(features, layer + 1, name=f"conv_{stage}", **shared)(h, styles[layer + 1])
            shown = self._to_image(h, styles[layer + 2], stage)
            image = shown if image is None else fir_upsample(image) + shown
        assert image is not None
        return image

    def _to_image(self, h: Array, w: Array, stage: int) -> Array:
        convolution = ModulatedConv(
            self.channels, 1, demodulate=False, dtype=self.dtype, name=f"image_{stage}"
        )
        bias = self.param(f"image_bias_{stage}", nn.initializers.zeros_init(), (self.channels,))
        image = at_least_float32(convolution(h, w))
        return image + over_channels(bias, image.shape)


class _Latents(nn.Module):
    """The mapping of a generator, under its names."""

    generator: StyleGAN2Generator

    @nn.compact
    def __call__(self, z: Array, *conditions: Array, train: bool = False) -> Array:
        made = self.generator
        mapping = MappingNetwork(made.style, made.layers, name="mapping")
        return mapping(flatten(z), condition_vector(conditions, made.num_classes))


class _Images(StyleGAN2Generator):
    """A generator without its mapping."""

    @nn.compact
    def __call__(self, w: Array, train: bool = False) -> Array:  # type: ignore[override]
        sizes = stage_sizes(self.size)[::-1]
        image = self._synthesis([w] * (2 * len(sizes)), sizes, train)
        return image if train else jnp.clip(image, -1, 1)


def stylegan2_generator(module: StyleGAN2Generator, *example_inputs: Any) -> Network:
    """A generator as a network that knows its two halves, so that its samples are truncated in w.

    Args:
      module: the generator; its `psi` is that of the network, and the halves have none.
      *example_inputs: the latent and the conditions, arrays or `jax.ShapeDtypeStruct`s, as for `from_linen`.

    >>> module = StyleGAN2Generator(size=8, channels=1, width=4, most=4, style=6)
    >>> network = stylegan2_generator(module, jax.ShapeDtypeStruct((2, 5), jnp.float32))
    >>> params, model_state = network.init(jax.random.key(0))
    >>> mapping, synthesis = network.halves
    >>> w, _ = mapping(params, model_state, jnp.ones((3, 5)))
    >>> w.shape, jax.jit(synthesis)(params, model_state, w)[0].shape
    ((3, 6), (3, 8, 8, 1))
    """
    fields = {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name")
    }
    w = jax.ShapeDtypeStruct((example_inputs[0].shape[0], module.style), jnp.float32)
    mapping = from_linen(_Latents(module), *example_inputs)
    synthesis = from_linen(_Images(**fields), w)
    return dataclasses.replace(from_linen(module, *example_inputs), halves=(mapping.apply, synthesis.apply))


class StyleGAN2Critic(BaseCritic):
    """StyleGAN2's residual critic, from images `[B, H, W, C]` and conditions to the score `[B]`, or to heads.

    A label enters by the product of the last layer with a mapped label, divided by the root of its size; other
    conditions are appended to the image.

    Attributes:
      width: channels next to the image, doubled at each halving up to `most`; the paper has 16384 / size.
      most: the largest number of channels.
      layers: of the mapping network of labels.
      group: with `minibatch="stddev"` the last stage is shown the standard deviation of so many examples, or of the
        most that divide the batch; penalties of single examples then need `coupled=True`.
      norm: has to be `none`.
      heads, features, num_classes, ...: see `BaseCritic`.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020 (arXiv:1912.04958).

    >>> critic = StyleGAN2Critic(width=4, num_classes=3)
    >>> x, y = jax.ShapeDtypeStruct((4, 12, 16, 1), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)
    >>> out, _ = jax.eval_shape(critic.init_with_output, jax.random.key(0), x, y)
    >>> out.shape
    (4,)
    """

    width: int = 256
    most: int = 512
    layers: int = 8
    group: int = 4
    minibatch: str = "stddev"
    conditioning: str = "projection"

    @nn.compact
    def __call__(self, x: Array, *conditions: Array, train: bool = False) -> Any:
        if x.ndim != 4:
            raise ValueError(f"StyleGAN2's critic takes images [B, H, W, C], got {x.shape}.")
        if self.norm != "none":
            raise ValueError(f"StyleGAN2's critic has no normalisation, got norm={self.norm!r}.")
        widths = stage_widths(self.width, self.most, len(stage_sizes((x.shape[1], x.shape[2]))))
        projects = self.num_classes is not None and self.projects()
        h = x if projects else with_conditions(x, conditions, self.num_classes)
        h = scaled_leaky_relu(self._conv(widths[0], 1, name="image")(h))
        for stage, (features, wider) in enumerate(itertools.pairwise(widths)):
            h = self._block(h, features, wider, stage)
        if self.minibatch != "none":
            h = self._compared(h)
        h = scaled_leaky_relu(self._conv(widths[-1], 3, name="last")(h))
        h = scaled_leaky_relu(EqualizedDense(widths[-1], dtype=self.dtype, name="dense")(flatten(h)))
        return self._outputs(at_least_float32(h), conditions if projects else ())

    @nn.nowrap
    def _conv(self, features: int, size: int, **options: Any) -> Conv:
        return Conv(
            features,
            size,
            kernel_init=initializer("normal"),
            weight=functools.partial(EqualizedWeight, gain=1.0),
            dtype=self.dtype,
            **options,
        )

    def _block(self, x: Array, features: int, wider: int, stage: int) -> Array:
        h = scaled_leaky_relu(self._conv(features, 3, name=f"conv_{stage}")(x))
        # One pixel more than twice the result, for a convolution of stride 2 without padding.
        h = fir_resample(h, normalized(BINOMIAL), padding=(2, 2))
        h = self._conv(wider, 3, strides=2, padding="VALID", name=f"down_{stage}")(h)
        skip = self._conv(wider, 1, use_bias=False, name=f"skip_{stage}")(fir_downsample(x))
        return (scaled_leaky_relu(h) + skip) * math.sqrt(0.5)

    def _compared(self, h: Array) -> Array:
        if self.minibatch != "stddev":
            raise ValueError(f"StyleGAN2's critic has minibatch='stddev' or 'none', got {self.minibatch!r}.")
        group = max(n for n in range(1, min(self.group, len(h)) + 1) if len(h) % n == 0)
        return MinibatchStddev(group)(h)

    def _outputs(self, h: Array, labels: tuple[Array, ...]) -> Any:
        out = ScoreHead(
            heads=self.heads,
            features=self.features,
            score_from=self.score_from,
            kernel_init=initializer("normal"),
            weight=functools.partial(EqualizedWeight, gain=1.0),
            name="scores",
        )(h)
        if not labels:
            return out
        condition = condition_vector(labels, self.num_classes)
        mapped = normalize_second_moment(
            MappingNetwork(h.shape[-1], self.layers, name="mapping")(None, condition)
        )
        projected = EqualizedDense(h.shape[-1], name="projection")(h)
        product = jnp.sum(projected * mapped, axis=-1) / math.sqrt(h.shape[-1])
        return {**out, "score": out["score"] + product} if isinstance(out, Mapping) else out + product
