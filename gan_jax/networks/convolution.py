"""Two-dimensional convolutions whose derivatives of every order are fast on a CPU.

A convolution, its gradient by the input and its gradient by the kernel are three bilinear operations. Each one's
derivatives are the other two:

    operation            by its first argument     by its second
    conv(x, w)           input_grad(g, w)          kernel_grad(x, g)
    input_grad(g, w)     conv(c, w)                kernel_grad(c, g)
    kernel_grad(x, g)    input_grad(g, v)          conv(x, v)

JAX derives the kernel's gradient of a dilated convolution (every transposed convolution, every second derivative
of a gradient penalty) as another dilated convolution, which XLA runs some thirty times slower on a CPU than a
plain one, and slower still inside a loop. The set above is closed under differentiation, and each operation has a
fast form: on a CPU with explicit transposes to plain NHWC and HWIO operands, elsewhere with the dimension numbers
of the native rules. If images have fewer pixels than the kernel has taps, XLA exchanges the operands and leaves its
fast path on a CPU; there such convolutions are matrix products (4 x 4 kernels between 2 x 2 and 4 x 4 images are
ten to a hundred times faster). So is the gradient by the input of a strided convolution, which XLA computes with
the zeros between the pixels of a dilated image: one product gives the contributions of all taps, which are added at
the taps' positions. If these contributions are too large for the caches, each phase of the strides is a plain
convolution with the taps that reach it. A plain convolution without padding leaves the fast path too and takes up
to four times as long: it gets one row of zeros, whose results are cut off.

Arrays are `x [B, H, W, I]`, `w [h, w, I / groups, O]`, `g [B, H', W', O]`; B may be symbolic, as in `jax.export`.
With groups, each of `groups` runs of neighbouring output channels reads the run of input channels in the same
place; with as many groups as channels the convolution is depthwise. XLA's own are slow on a CPU, the kernel's
gradient a hundred times: there each group is a convolution as above, and a depthwise one is a sum over taps.
Kernel dilation is not supported: use `flax.linen.Conv` for that. A mesh must have automatic axes
(`AxisType.Auto`), or be used through `shard_map`. The three operations have no forward mode; inside `with
forward_mode():` they are the native ones, which have it.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from gan_jax.types import Array

Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = str | Sequence[Pair]
Taps: TypeAlias = list[tuple[int, Pair]]
"""Taps along an axis, each with the padding that aligns its contributions."""
Operation: TypeAlias = Callable[[Array, Array], Array]
_PLAIN = ("NHWC", "HWIO", "NHWC")
COLUMNS_LIMIT = 2**24
"""The largest size in bytes of the contributions of all taps; beyond it they do not fit into caches."""
FEW_CHANNELS = 4
"""Up to this number of channels the limit does not apply, since plain convolutions with few channels are slow."""
UNROLLED_GROUPS = 16
"""Up to this number of groups a grouped convolution is written out on a CPU; more are computed in a loop."""
TYPICAL_BATCH = 64
"""The batch by which the form of an operation is chosen where its own is symbolic, as in `jax.export`."""

_native_everywhere = jax.make_user_context(default_value=False)


def forward_mode() -> Any:
    """A context in which the convolutions are the native ones, so that `jax.jvp` and `jax.hessian` work.

    Values and gradients are the same; on a CPU second derivatives are slow. A function compiled outside the context
    is compiled again inside.

    >>> x, w = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    >>> with forward_mode():
    ...     y, slope = jax.jvp(lambda scale: conv(scale * x, w).sum(), (1.0,), (1.0,))
    >>> float(y) == float(slope)
    True
    """
    return _native_everywhere(True)


def forward_mode_is_on() -> bool:
    """Tells whether this is called inside `forward_mode`."""
    return bool(_native_everywhere.value)


def conv(x: Array, w: Array, *, strides: int | Pair = 1, padding: Padding = "SAME", groups: int = 1) -> Array:
    """The strided convolution (cross-correlation) of `flax.linen.Conv`.

    Args:
      x: `[B, H, W, I]`.
      w: `[h, w, I / groups, O]`, of x's dtype.
      strides: the strides of the window.
      padding: `"SAME"`, `"VALID"` or `((top, bottom), (left, right))`.
      groups: a divisor of I and O; I for a depthwise convolution.

    Returns:
      `[B, H', W', O]`.

    Raises:
      ValueError: if the shapes do not match, or the groups do not divide the channels.

    >>> conv(jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 1, 2)), strides=2, padding="VALID").shape
    (1, 2, 2, 2)
    >>> conv(jnp.ones((1, 5, 5, 4)), jnp.ones((3, 3, 2, 6)), groups=2).shape
    (1, 5, 5, 6)
    """
    _check_operands(x, w, groups)
    strides = _positive(pair(strides, "strides"))
    padding = _explicit_padding(x.shape[1:3], w.shape[:2], strides, padding)
    if min(_conv_size(x.shape[1:3], w.shape[:2], strides, padding)) < 1:
        raise ValueError(
            f"A kernel of {w.shape[:2]} does not fit into an image of {x.shape[1:3]} with padding {padding}: "
            "use a smaller kernel or padding='SAME'."
        )
    if _native_everywhere.value:
        return _plain_conv(x, w, strides, padding, groups)
    return _conv(*_varying_alike(x, w), strides, padding, groups)


def conv_transpose(x: Array, w: Array, *, strides: int | Pair = 1, padding: Padding = "SAME") -> Array:
    """The transposed convolution of `flax.linen.ConvTranspose`, as `lax.conv_transpose` defines it.

    Args:
      x: `[B, H, W, I]`.
      w: `[h, w, I, O]`, of x's dtype.
      strides: the factors by which the image grows.
      padding: `"SAME"`, `"VALID"` (of the convolution that this transposes), or the padding of the dilated image.

    Returns:
      `[B, H', W', O]`; with `"SAME"` H' is `strides * H`.

    Raises:
      ValueError: if the shapes do not match.

    >>> conv_transpose(jnp.ones((1, 4, 4, 1)), jnp.ones((5, 5, 1, 2)), strides=2).shape
    (1, 8, 8, 2)
    """
    _check_operands(x, w)
    strides = _positive(pair(strides, "strides"))
    if isinstance(padding, str):
        outer = [_dilated_padding(k, s, padding) for k, s in zip(w.shape, strides, strict=False)]
    else:
        outer = list(_pairs(padding))
    if _native_everywhere.value:
        return lax.conv_transpose(x, w, strides, outer, dimension_numbers=_PLAIN)
    inner = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(w.shape, outer, strict=False))
    size = tuple(
        (n - 1) * s + 2 - k + low + high
        for n, s, k, (low, high) in zip(x.shape[1:3], strides, w.shape, outer, strict=False)
    )
    forward = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    return _input_grad(*_varying_alike(x, forward), strides, inner, size, 1)


def input_grad(
    g: Array, w: Array, *, strides: Pair, padding: tuple[Pair, Pair], size: Pair, groups: int = 1
) -> Array:
    """The gradient of `sum(g * conv(x, w))` by x, where x is `[B, *size, I]` and padding is explicit."""
    return _input_grad(*_varying_alike(g, w), strides, padding, size, groups)


def kernel_grad(
    x: Array, g: Array, *, strides: Pair, padding: tuple[Pair, Pair], kernel: Pair, groups: int = 1
) -> Array:
    """The gradient of `sum(g * conv(x, w))` by w, where w is `[*kernel, I / groups, O]` and padding is explicit."""
    return _kernel_grad(*_varying_alike(x, g), strides, padding, kernel, groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x: Array, w: Array, strides: Pair, padding: tuple[Pair, Pair], groups: int) -> Array:
    plain = functools.partial(_plain_conv, strides=strides, padding=padding)
    size = _conv_size(x.shape[1:3], w.shape[:2], strides, padding)
    small = _is_small(x.shape[0], size, w.shape[:2])
    if not small and groups == 1 and _is_padded(padding):
        return plain(x, w)

    def product(x: Array, w: Array) -> Array:
        return jnp.einsum("bhwkli,klio->bhwo", _patches(x, w.shape[:2], strides, padding), w)

    def depthwise(x: Array, w: Array) -> Array:
        return jnp.sum(_patches(x, w.shape[:2], strides, padding) * w[:, :, 0], (3, 4))

    fast = functools.partial(_cpu_conv, strides=strides, padding=padding)
    on_cpu = _by_group(product if small else fast, depthwise, groups, _is_depthwise(w, groups))
    return lax.platform_dependent(x, w, cpu=on_cpu, default=functools.partial(plain, groups=groups))


def _conv_forward(x, w, strides, padding, groups):
    return _conv(x, w, strides, padding, groups), (x, w)


def _conv_backward(strides, padding, groups, operands, g):
    x, w = operands
    return _input_grad(g, w, strides, padding, x.shape[1:3], groups), _kernel_grad(
        x, g, strides, padding, w.shape[:2], groups
    )


_conv.defvjp(_conv_forward, _conv_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _input_grad(
    g: Array, w: Array, strides: Pair, padding: tuple[Pair, Pair], size: Pair, groups: int
) -> Array:
    def phases(g: Array, w: Array) -> Array:
        return lax.optimization_barrier(_convolved_phases(g, w, strides, padding, size))

    def product(g: Array, w: Array) -> Array:
        columns = jnp.einsum("bhwo,klio->bhwkli", g, w, preferred_element_type=_wide(g))
        # Without the barrier XLA fuses the sums into their consumers, which compute them again.
        return lax.optimization_barrier(_sum_of_patches(columns, strides, padding, size).astype(g.dtype))

    def depthwise(g: Array, w: Array) -> Array:
        return _sum_of_patches(g[:, :, :, None, None] * w[:, :, 0], strides, padding, size)

    def native(g: Array, w: Array) -> Array:
        dilated = [
            (k - 1 - low, n + low - (m - 1) * s - 1)
            for n, m, k, s, (low, _) in zip(size, g.shape[1:3], w.shape, strides, padding, strict=False)
        ]
        flipped, dimensions = jnp.flip(w, (0, 1)), ("NHWC", "HWOI", "NHWC")
        return lax.conv_general_dilated(
            g,
            _exchanged(flipped, groups),
            (1, 1),
            dilated,
            lhs_dilation=strides,
            dimension_numbers=dimensions,
            feature_group_count=groups,
        )

    positions = _known(g.shape[0]) * math.prod(g.shape[1:3])
    columns = positions * math.prod(w.shape[:3]) * jnp.dtype(_wide(g)).itemsize
    strided = max(strides) > 1 and (columns <= COLUMNS_LIMIT or w.shape[2] <= FEW_CHANNELS)
    small = _is_small(g.shape[0], g.shape[1:3], w.shape[:2])
    on_cpu = _by_group(product if strided or small else phases, depthwise, groups, _is_depthwise(w, groups))
    return lax.platform_dependent(g, w, cpu=on_cpu, default=native)


def _input_grad_forward(g, w, strides, padding, size, groups):
    return _input_grad(g, w, strides, padding, size, groups), (g, w)


def _input_grad_backward(strides, padding, size, groups, operands, c):
    g, w = operands
    return _conv(c, w, strides, padding, groups), _kernel_grad(c, g, strides, padding, w.shape[:2], groups)


_input_grad.defvjp(_input_grad_forward, _input_grad_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _kernel_grad(
    x: Array, g: Array, strides: Pair, padding: tuple[Pair, Pair], kernel: Pair, groups: int
) -> Array:
    exact = [
        (low, k - n - low + (m - 1) * s)
        for n, m, k, s, (low, _) in zip(x.shape[1:3], g.shape[1:3], kernel, strides, padding, strict=True)
    ]

    def transposed(x: Array, g: Array) -> Array:
        # Without the barrier XLA computes the producers of x and g again, entry by entry against the memory order.
        x, g = lax.optimization_barrier((x, g))
        channels, taps = x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)
        return _cpu_conv(channels, taps, (1, 1), exact, dilation=strides).transpose(1, 2, 0, 3)

    def product(x: Array, g: Array) -> Array:
        patches = _patches(x, kernel, strides, padding)
        return jnp.einsum("bhwkli,bhwo->klio", patches, g)

    def depthwise(x: Array, g: Array) -> Array:
        patches = _patches(x, kernel, strides, padding)
        return jnp.sum(patches * g[:, :, :, None, None], (0, 1, 2))[:, :, None]

    def native(x: Array, g: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            g,
            (1, 1),
            exact,
            rhs_dilation=strides,
            dimension_numbers=("CHWN", "IHWO", "HWNC"),
            batch_group_count=groups,
        )

    small = _is_small(x.shape[0], g.shape[1:3], kernel)
    single = x.shape[3] == g.shape[3] == groups
    on_cpu = _by_group(product if small else transposed, depthwise, groups, single)
    return lax.platform_dependent(x, g, cpu=on_cpu, default=native)


def _kernel_grad_forward(x, g, strides, padding, kernel, groups):
    return _kernel_grad(x, g, strides, padding, kernel, groups), (x, g)


def _kernel_grad_backward(strides, padding, kernel, groups, operands, v):
    x, g = operands
    return _input_grad(g, v, strides, padding, x.shape[1:3], groups), _conv(x, v, strides, padding, groups)


_kernel_grad.defvjp(_kernel_grad_forward, _kernel_grad_backward)


def _by_group(operation: Operation, depthwise: Operation, groups: int, is_depthwise: bool) -> Operation:
    """A grouped form of one of the three operations: on a CPU XLA's grouped convolutions are slow.

    The last axes of the operands and of the result have the groups in turn. A few groups are computed one by one,
    many in a loop, which compiles in the time of one.
    """
    if groups == 1 or is_depthwise:
        return depthwise if groups > 1 else operation

    def in_turn(a: Array, b: Array) -> Array:
        if groups <= UNROLLED_GROUPS:
            parts = zip(jnp.split(a, groups, axis=-1), jnp.split(b, groups, axis=-1), strict=True)
            return jnp.concatenate([operation(*part) for part in parts], axis=-1)
        stacked = tuple(jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0) for x in (a, b))
        out = jnp.moveaxis(lax.map(lambda part: operation(*part), stacked), 0, -2)
        return out.reshape(*out.shape[:-2], -1)

    return in_turn


def _is_depthwise(w: Array, groups: int) -> bool:
    return w.shape[2] == 1 and w.shape[3] == groups


def _plain_conv(x: Array, w: Array, strides: Pair, padding: tuple[Pair, Pair], groups: int = 1) -> Array:
    return lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=_PLAIN, feature_group_count=groups
    )


def _cpu_conv(
    x: Array, w: Array, strides: Pair, padding: Sequence[Pair], *, dilation: Pair = (1, 1)
) -> Array:
    """A plain convolution that has padding: without any, XLA's takes up to four times as long on a CPU."""
    convolve = functools.partial(
        lax.conv_general_dilated, window_strides=strides, rhs_dilation=dilation, dimension_numbers=_PLAIN
    )
    if _is_padded(padding):
        return convolve(x, w, padding=padding)
    height = (x.shape[1] - (w.shape[0] - 1) * dilation[0] - 1) // strides[0] + 1
    return convolve(x, w, padding=[(0, strides[0]), (0, 0)])[:, :height]


def _is_padded(padding: Sequence[Pair]) -> bool:
    return any(side for axis in padding for side in axis)


def _exchanged(w: Array, groups: int) -> Array:
    """A kernel `[h, w, I / G, O]` as `[h, w, I, O / G]`: that of a convolution from O channels to I, "HWOI"."""
    if groups == 1:
        return w
    height, width, inputs, outputs = w.shape
    grouped = w.reshape(height, width, inputs, groups, outputs // groups).swapaxes(2, 3)
    return grouped.reshape(height, width, groups * inputs, outputs // groups)


def _is_small(batch: Any, size: Sequence[int], kernel: Sequence[int]) -> bool:
    """Tells whether the output of a convolution is so small that a matrix product is faster on a CPU.

    With fewer pixels than taps XLA's convolution leaves its fast path; with few rows the kernel dominates the cost.
    A kernel of one tap is a product anyway.
    """
    pixels, taps = math.prod(size), math.prod(kernel)
    return taps == 1 or pixels < taps or _known(batch) * pixels <= 64


def _known(batch: Any) -> int:
    """A batch's size, or a typical one where it is symbolic: the forms differ in speed and rounding only."""
    return batch if isinstance(batch, int) else TYPICAL_BATCH


def _patches(x: Array, kernel: Sequence[int], strides: Pair, padding: tuple[Pair, Pair]) -> Array:
    """The patches of an image at each position of a kernel: `[B, H, W, I]` to `[B, H', W', h, w, I]`."""
    size = _conv_size(x.shape[1:3], kernel, strides, padding)
    for axis in (1, 2):
        taps, stride, pads = kernel[axis - 1], strides[axis - 1], padding[axis - 1]
        x = _pad_axis(x, axis, *pads)
        reach = (size[axis - 1] - 1) * stride + 1
        slices = [lax.slice_in_dim(x, tap, tap + reach, stride, axis) for tap in range(taps)]
        x = jnp.stack(slices, axis=2 + axis)
    return x


def _sum_of_patches(columns: Array, strides: Pair, padding: Sequence[Pair], size: Pair) -> Array:
    """The transpose of `_patches`: adds the taps of `[B, H', W', h, w, I]` at their pixels of `[B, *size, I]`."""

    def phase(rows: Taps, lines: Taps) -> Array:
        parts = (
            _pad_axis(_pad_axis(columns[:, :, :, row, line], 1, *down), 2, *along)
            for row, down in rows
            for line, along in lines
        )
        return functools.reduce(jnp.add, parts)

    return _phase_by_phase(phase, columns.shape[1:3], columns.shape[3:5], strides, padding, size)


def _convolved_phases(g: Array, w: Array, strides: Pair, padding: Sequence[Pair], size: Pair) -> Array:
    """`input_grad` as one plain convolution for each phase of the strides, with the taps that reach it."""

    def phase(rows: Taps, lines: Taps) -> Array:
        # The last tap reads the first position.
        taps = w[rows[0][0] :: strides[0], lines[0][0] :: strides[1]]
        taps = lax.optimization_barrier(jnp.flip(taps, (0, 1)).swapaxes(2, 3))
        down, along = ((axis_taps[-1][1][0], axis_taps[0][1][1]) for axis_taps in (rows, lines))
        return _cpu_conv(g, taps, (1, 1), (down, along))

    return _phase_by_phase(phase, g.shape[1:3], w.shape[:2], strides, padding, size)


def _phase_by_phase(
    phase: Callable[[Taps, Taps], Array],
    places: Sequence[int],
    taps: Sequence[int],
    strides: Pair,
    padding: Sequence[Pair],
    size: Pair,
) -> Array:
    """Assembles an image `[B, *size, I]` from its phases, the subsets of pixels at intervals of a stride.

    `phase(rows, lines)` computes a phase from the taps that reach it; a phase without taps is zero.
    """
    rows, lines = (
        [_phase_taps(first, *axis) for first in range(axis[0])]
        for axis in zip(strides, taps, padding, places, size, strict=True)
    )
    phases = [[phase(down, along) if down and along else None for along in lines] for down in rows]
    empty = jnp.zeros_like(next(part for row in phases for part in row if part is not None))
    image = jnp.stack(
        [jnp.stack([empty if part is None else part for part in row], axis=3) for row in phases], axis=2
    )
    batch, height, _, width, _, channels = image.shape
    image = image.reshape(batch, height * strides[0], width * strides[1], channels)
    return image[:, : size[0], : size[1]]


def _phase_taps(phase: int, stride: int, taps: int, padding: Pair, places: int, size: int) -> Taps:
    """The taps along one axis that reach every `stride`-th pixel from `phase` on.

    Each has the padding of the kernel's positions that aligns them with these pixels.
    """
    count = -(-size // stride)
    shifts = [(tap, phase + padding[0] - tap) for tap in range(taps)]
    return [
        (tap, (-(shift // stride), count - places + shift // stride))
        for tap, shift in shifts
        if shift % stride == 0
    ]


def _pad_axis(x: Array, axis: int, low: int, high: int) -> Array:
    """Pads one axis with zeros before and after; negative amounts crop."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (low, high, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _wide(x: Array) -> Any:
    """The dtype for sums, at least float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _varying_alike(*arrays: Array) -> tuple[Array, ...]:
    """Marks replicated operands as varying where another one varies, as native operations do under `shard_map`."""
    axes = [frozenset(jax.typeof(array).manual_axis_type.varying) for array in arrays]
    every = frozenset().union(*axes)
    return tuple(
        lax.pcast(array, tuple(sorted(every - varying)), to="varying") if every - varying else array
        for array, varying in zip(arrays, axes, strict=True)
    )


def _conv_size(
    size: Sequence[int], kernel: Sequence[int], strides: Pair, padding: Sequence[Pair]
) -> list[int]:
    return [
        (n + low + high - k) // s + 1
        for n, k, s, (low, high) in zip(size, kernel, strides, padding, strict=True)
    ]


def _explicit_padding(
    size: Sequence[int], kernel: Sequence[int], strides: Pair, padding: Padding
) -> tuple[Pair, Pair]:
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"padding is 'SAME', 'VALID' or pairs of numbers, got {padding!r}.")
        padding = lax.padtype_to_pads(size, kernel, strides, padding)
    return _pairs(padding)


def _pairs(padding: Sequence[Pair]) -> tuple[Pair, Pair]:
    """The padding before and after each of the two axes."""
    if not isinstance(padding, Sequence) or len(padding) != 2:
        raise ValueError(f"padding is 'SAME', 'VALID' or pairs of numbers, got {padding!r}.")
    rows, lines = (pair(ends, "padding along an axis") for ends in padding)
    return rows, lines


def _dilated_padding(kernel: int, stride: int, padding: str) -> Pair:
    """The padding that `lax.conv_transpose` gives one axis of the dilated image."""
    if padding == "SAME":
        total = kernel + stride - 2
        before = kernel - 1 if stride > kernel - 1 else (total + 1) // 2
    elif padding == "VALID":
        total = kernel + stride - 2 + max(kernel - stride, 0)
        before = kernel - 1
    else:
        raise ValueError(f"padding is 'SAME', 'VALID' or pairs of numbers, got {padding!r}.")
    return before, total - before


def pair(value: int | Sequence[int], what: str) -> Pair:
    """A pair of numbers from a number or a pair.

    >>> pair(2, "strides"), pair([1, 2], "strides")
    ((2, 2), (1, 2))
    """
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(both) != 2:
        raise ValueError(f"{what} must be a number or a pair of numbers, got {value}.")
    return operator.index(both[0]), operator.index(both[1])


def _positive(strides: Pair) -> Pair:
    if min(strides) < 1:
        raise ValueError(f"strides must be at least 1, got {strides}.")
    return strides


def _check_operands(x: Array, w: Array, groups: int = 1) -> None:
    if groups < 1 or (x.ndim == 4 and x.shape[3] % groups) or (w.ndim == 4 and w.shape[3] % groups):
        raise ValueError(
            f"groups={groups} must divide the channels of images [B, H, W, I] and of a kernel "
            f"[h, w, I / groups, O], got {x.shape} and {w.shape}."
        )
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != groups * w.shape[2]:
        raise ValueError(
            f"Expected images [B, H, W, I] and a kernel [h, w, {'I' if groups == 1 else 'I / groups'}, O], got "
            f"{x.shape} and {w.shape}{'' if groups == 1 else f' with {groups} groups'}."
        )
