"""Convolution layers over `networks.convolution`: strided, transposed, and fused with resampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from gan_jax.functional.channels import over_channels
from gan_jax.networks.convolution import Padding, conv, conv_transpose, pair
from gan_jax.networks.initializers import Initializer, initializer
from gan_jax.types import Array


class _Convolution(nn.Module):
    """The base of the layers: their parameters and dtypes.

    Attributes:
      features: channels out.
      kernel_size: a pair, or a number for a square kernel.
      strides: a pair or a number.
      padding: `"SAME"`, `"VALID"` or pairs.
      use_bias: whether to add a bias.
      dtype: the dtype of the computation; `None` infers it from input and parameters.
      param_dtype: of the parameters.
      kernel_init: initialiser of the kernel.
      bias_init: initialiser of the bias.
      weight: builds a module that maps the kernel to the one used (`SpectralWeight`, `NormalizedWeight`,
        `EqualizedWeight`); `None` uses the kernel itself.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = initializer("lecun")
    bias_init: Callable[..., Array] = nn.initializers.zeros_init()
    weight: Callable[[], nn.Module] | None = None

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """`[B, H, W, I]` to `[B, H', W', features]`."""
        size = pair(self.kernel_size, "kernel_size")
        shape = (*size, self._inputs_of_each_output(inputs.shape[-1]), self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = (
            self.param("bias", self.bias_init, (self.features,), self.param_dtype) if self.use_bias else None
        )
        if self.weight is not None:
            kernel = self.weight()(kernel)
        inputs, kernel, bias = nn.dtypes.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        out = self._convolve(inputs, kernel)
        return out if bias is None else out + over_channels(bias, out.shape)

    @nn.nowrap
    def _inputs_of_each_output(self, channels: int) -> int:
        return channels

    def _convolve(self, x: Array, w: Array) -> Array:
        raise NotImplementedError


class Conv(_Convolution):
    """A strided convolution; parameters and outputs are `flax.linen.Conv`'s.

    Attributes:
      groups: runs of neighbouring channels that are convolved independently, `feature_group_count` in Flax; a
        divisor of the channels in and out. With as many as channels in, the convolution is depthwise.

    >>> import jax
    >>> layer, x = Conv(8, (3, 3), strides=2), jnp.ones((1, 7, 7, 3))
    >>> out, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    >>> out.shape, variables["params"]["kernel"].shape
    ((1, 4, 4, 8), (3, 3, 3, 8))
    """

    groups: int = 1

    @nn.nowrap
    def _inputs_of_each_output(self, channels: int) -> int:
        if self.groups < 1 or channels % self.groups or self.features % self.groups:
            raise ValueError(
                f"Conv(groups={self.groups}): groups must divide the channels in, {channels}, and out, "
                f"{self.features}."
            )
        return channels // self.groups

    def _convolve(self, x: Array, w: Array) -> Array:
        strides = pair(self.strides, "strides")
        return conv(x, w, strides=strides, padding=self.padding, groups=self.groups)


class ConvTranspose(_Convolution):
    """A strided transposed convolution; parameters and outputs are `flax.linen.ConvTranspose`'s.

    >>> import jax
    >>> layer, x = ConvTranspose(8, (4, 4), strides=2), jnp.ones((1, 7, 7, 3))
    >>> out, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    >>> out.shape, variables["params"]["kernel"].shape
    ((1, 14, 14, 8), (4, 4, 3, 8))
    """

    def _convolve(self, x: Array, w: Array) -> Array:
        return conv_transpose(x, w, strides=pair(self.strides, "strides"), padding=self.padding)


class UpsampleConv(_Convolution):
    """A convolution of an image whose height and width were doubled, each pixel repeated four times.

    Its results and parameters are those of `Conv` for the doubled image (the generator blocks of Gulrajani et al.
    2017). The kernel's entries for equal neighbours are added first: it is a transposed convolution with a kernel
    that is one larger, with 16 / 36 of the multiplications for 3 x 3 kernels.

    Raises:
      ValueError: for a kernel of even size, strides or another padding than `"SAME"`.

    >>> import jax
    >>> layer, x = UpsampleConv(8, 3), jnp.ones((1, 7, 7, 3))
    >>> out, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    >>> out.shape, variables["params"]["kernel"].shape
    ((1, 14, 14, 8), (3, 3, 3, 8))
    """

    def _convolve(self, x: Array, w: Array) -> Array:
        _check_resampling(self, w)
        return conv_transpose(x, _over_neighbours(w), strides=2, padding="SAME")


class ConvMeanPool(_Convolution):
    """A convolution whose results are averaged over each 2 x 2 pixels; height and width are even.

    The same numbers and parameters as the mean of `Conv` (Gulrajani et al. 2017's critic blocks). The kernel is
    averaged instead: a convolution with stride 2 and a kernel that is one larger, with 16 / 36 of the
    multiplications for 3 x 3 kernels.

    Raises:
      ValueError: for an image of odd size, a kernel of even size, strides or another padding than `"SAME"`.

    >>> import jax
    >>> layer, x = ConvMeanPool(8, 3), jnp.ones((1, 14, 14, 3))
    >>> out, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    >>> out.shape, variables["params"]["kernel"].shape
    ((1, 7, 7, 8), (3, 3, 3, 8))
    """

    def _convolve(self, x: Array, w: Array) -> Array:
        _check_resampling(self, w)
        if x.shape[1] % 2 or x.shape[2] % 2:
            raise ValueError(f"ConvMeanPool halves images of even size, got {x.shape}.")
        padding = [(size // 2, size // 2) for size in w.shape[:2]]
        return conv(x, _over_neighbours(w) / 4, strides=2, padding=padding)


def _check_resampling(layer: _Convolution, w: Array) -> None:
    even = w.shape[0] % 2 == 0 or w.shape[1] % 2 == 0
    if even or pair(layer.strides, "strides") != (1, 1) or layer.padding != "SAME":
        raise ValueError(
            f"{type(layer).__name__} takes kernels of odd size, strides=1 and padding='SAME', got "
            f"{w.shape[:2]}, {layer.strides} and {layer.padding!r}."
        )


def _over_neighbours(w: Array) -> Array:
    """Adds a kernel at 2 x 2 neighbouring positions: `[h, w, I, O]` to `[h + 1, w + 1, I, O]`."""
    none = (0, 0)
    w = jnp.pad(w, ((0, 1), none, none, none)) + jnp.pad(w, ((1, 0), none, none, none))
    return jnp.pad(w, (none, (0, 1), none, none)) + jnp.pad(w, (none, (1, 0), none, none))
