"""Resampling of images by a separable FIR filter: up and down by whole factors.

Along each axis zeros are put between the pixels, the result is convolved with the filter's taps, and every
`down`-th number is kept. Neither the zeros nor the dropped numbers are computed: each phase of the output is a
sum of slices of the input, one for each tap. The transpose of a resampling is a resampling with `up` and `down`
exchanged and the taps reversed, so derivatives of every order are as fast as the value. Beyond the border images
are zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.networks.convolution import forward_mode_is_on
from gan_jax.types import Array

BINOMIAL = (1.0, 3.0, 3.0, 1.0)
"""[1, 2, 1] convolved with [1, 1], the filter of StyleGAN2 and of R3GAN, before it is normalised."""


class _Axis(NamedTuple):
    """A resampling along one axis: out[n] = sum_j taps[j] x[(down n + j - before) / up], over whole indices."""

    taps: tuple[float, ...]
    up: int
    down: int
    before: int
    size_in: int
    size_out: int

    def transposed(self) -> _Axis:
        before = len(self.taps) - 1 - self.before
        return _Axis(self.taps[::-1], self.down, self.up, before, self.size_out, self.size_in)


def fir_resample(
    x: Array,
    taps: Sequence[float],
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
) -> Array:
    """Resamples height and width: `up - 1` zeros after each pixel, padding, convolution, every `down`-th pixel.

    Args:
      x: `[B, H, W, C]`.
      taps: the filter along either axis, `[K]`, used as they are; taps whose sum is `up` keep the mean of an image
        that grows.
      up: the factor by which the image grows before the filter.
      down: the interval of the pixels that are kept after it.
      padding: zeros before and after the image that has grown, along either axis; negative amounts crop.

    Returns:
      `[B, H', W', C]` in x's dtype, where H' is `(up H + before + after - K) // down + 1`.

    Raises:
      ValueError: for images of another rank, without taps, for factors below 1, or if nothing would remain.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020 (arXiv:1912.04958).

    >>> row = jnp.array([1.0, 0.0, 2.0]).reshape(1, 1, 3, 1)
    >>> fir_resample(jnp.ones((1, 3, 3, 1)), (0.5, 0.5), down=2).shape
    (1, 1, 1, 1)
    >>> print(fir_resample(row * jnp.ones((1, 3, 1, 1)), (1.0, 1.0), up=2, padding=(1, 0))[0, 0, :, 0])
    [1. 1. 0. 0. 2. 2.]
    """
    if x.ndim != 4 or not len(taps):
        raise ValueError(f"Expected images [B, H, W, C] and taps [K], got {x.shape} and {tuple(taps)}.")
    if up < 1 or down < 1:
        raise ValueError(f"The factors of a resampling are 1 or more, got up={up} and down={down}.")
    before, after = padding
    # A convolution turns its filter round.
    turned = tuple(float(tap) for tap in reversed(taps))
    sizes = [(up * size + before + after - len(turned)) // down + 1 for size in x.shape[1:3]]
    if min(sizes) < 1:
        raise ValueError(
            f"A filter of {len(turned)} taps does not fit into an image of {x.shape[1:3]} with up={up} and "
            f"padding={padding}."
        )
    rows, lines = (_Axis(turned, up, down, before, *size) for size in zip(x.shape[1:3], sizes, strict=True))
    return (_resample_now if forward_mode_is_on() else _resample)(x, (rows, lines))


def fir_upsample(x: Array, taps: Sequence[float] = BINOMIAL, factor: int = 2) -> Array:
    """Enlarges images `[B, H, W, C]` to `[B, factor H, factor W, C]` with a filter that keeps their mean.

    The taps are divided by their sum; each axis is multiplied by `factor`, since that share of its pixels is not
    zero. An even number of taps has the pixels' centres where nearest-neighbour enlargement has them.

    >>> print(fir_upsample(jnp.ones((1, 4, 4, 1)))[0, 4, :, 0])  # beyond the border images are zero
    [0.75 1.   1.   1.   1.   1.   1.   0.75]
    """
    before, after = same_padding(len(taps), up=factor)
    return fir_resample(x, normalized(taps, factor), up=factor, padding=(before, after))


def fir_downsample(x: Array, taps: Sequence[float] = BINOMIAL, factor: int = 2) -> Array:
    """Reduces images `[B, H, W, C]` to `[B, H / factor, W / factor, C]` with a filter that keeps their mean.

    Raises:
      ValueError: if the factor does not divide the size.

    >>> print(fir_downsample(jnp.ones((1, 8, 8, 1)))[0, 2, :, 0])
    [0.875 1.    1.    0.875]
    """
    if x.ndim == 4 and (x.shape[1] % factor or x.shape[2] % factor):
        raise ValueError(f"A reduction by {factor} needs images of a multiple of it, got {x.shape}.")
    return fir_resample(x, normalized(taps), down=factor, padding=same_padding(len(taps), down=factor))


def normalized(taps: Sequence[float], gain: float = 1.0) -> tuple[float, ...]:
    """Taps whose sum is `gain`.

    >>> normalized((1, 3, 3, 1))
    (0.125, 0.375, 0.375, 0.125)
    """
    return tuple(gain * float(tap) / sum(taps) for tap in taps)


def same_padding(taps: int, *, up: int = 1, down: int = 1) -> tuple[int, int]:
    """The padding of `fir_resample` with which the size changes by exactly `up / down`.

    The filter's centre lies at the centre of the pixels that it joins or splits.

    >>> same_padding(4, up=2), same_padding(4, down=2), same_padding(3)
    ((2, 1), (1, 1), (1, 1))
    """
    total = taps - down
    before = (total + up) // 2
    return before, total - before


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _resample(x: Array, axes: tuple[_Axis, _Axis]) -> Array:
    return _resample_now(x, axes)


def _resample_forward(x: Array, axes: tuple[_Axis, _Axis]) -> tuple[Array, None]:
    return _resample(x, axes), None


def _resample_backward(axes: tuple[_Axis, _Axis], residuals: None, g: Array) -> tuple[Array]:
    rows, lines = axes
    return (_resample(g, (rows.transposed(), lines.transposed())),)


_resample.defvjp(_resample_forward, _resample_backward)


def _resample_now(x: Array, axes: Sequence[_Axis]) -> Array:
    for place, axis in enumerate(axes, start=1):
        x = _resample_axis(x, place, axis)
    return x


def _resample_axis(x: Array, place: int, axis: _Axis) -> Array:
    """One axis, phase by phase: outputs at intervals of `phases` read inputs at intervals of `stride`."""
    taps, up, down, before, size_in, size = axis
    phases = up // math.gcd(up, down)
    stride, count = phases * down // up, -(-size // phases)
    reads = [
        [
            (tap, (down * phase + j - before) // up)
            for j, tap in enumerate(taps)
            if (down * phase + j - before) % up == 0 and tap != 0
        ]
        for phase in range(phases)
    ]
    starts = [start for phase in reads for _, start in phase]
    low = max(0, -min(starts, default=0))
    high = max(0, max(starts, default=0) + (count - 1) * stride + 1 - size_in)
    widths = [(0, 0, 0)] * x.ndim
    widths[place] = (low, high, 0)
    padded = lax.pad(x, jnp.zeros((), x.dtype), widths)
    reach = (count - 1) * stride + 1

    def phase_sum(phase: Sequence[tuple[float, int]]) -> Array:
        parts = [
            tap * lax.slice_in_dim(padded, low + start, low + start + reach, stride, place)
            for tap, start in phase
        ]
        shape = (*x.shape[:place], count, *x.shape[place + 1 :])
        return functools.reduce(jnp.add, parts) if parts else jnp.zeros(shape, x.dtype)

    sums = [phase_sum(phase) for phase in reads]
    if phases == 1:
        return sums[0]
    interleaved = jnp.stack(sums, axis=place + 1)
    merged = interleaved.reshape(*x.shape[:place], count * phases, *x.shape[place + 1 :])
    return lax.slice_in_dim(merged, 0, size, axis=place)
