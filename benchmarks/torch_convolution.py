"""Convolutions in PyTorch whose derivatives of every order are fast, and resampling by [1, 3, 3, 1].

PyTorch's own second derivative computes a kernel's part as a convolution that has an image for its kernel, group
by group. Here a convolution, its transpose and the gradient by its kernel are a closed set, as in
`gan_jax.networks.convolution`: each is bilinear, and its derivatives are the other two. With gradient penalties
that is what a careful user of PyTorch writes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F
from torch.nn import grad

TAPS = (1.0, 3.0, 3.0, 1.0)


class Window(NamedTuple):
    """How a kernel slides over an image; `rest` are the image's last rows that the strides leave out."""

    stride: int
    padding: int
    groups: int
    rest: int = 0


_kernels_wanted = True


def slopes(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The gradient of the sum of the outputs by the inputs, to be differentiated again.

    PyTorch does not tell a function's derivative which gradients are asked for: those by kernels are left out here.
    """
    global _kernels_wanted
    _kernels_wanted = False
    try:
        (found,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    finally:
        _kernels_wanted = True
    return found


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Tensor:
    """A convolution of `x [B, I, H, W]` with `weight [O, I / groups, k, k]`, plus `bias [O]`."""
    rest = (x.shape[2] + 2 * padding - weight.shape[2]) % stride
    return _Forward.apply(_cast(x), _cast(weight), _cast(bias), Window(stride, padding, groups, rest))


def conv_transpose2d(x: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """The transpose of a convolution without padding, of `x [B, I, H, W]` with `weight [I, O, k, k]`."""
    return _Transposed.apply(_cast(x), _cast(weight), Window(stride, 0, 1))


def _cast(x: Tensor | None) -> Tensor | None:
    """In autocast's dtype where that is on: PyTorch does not cast inside of its functions' derivatives."""
    if x is None or not torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


class _Forward(Function):
    """x * w + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, window: Window) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.window = window
        return F.conv2d(x, w, b, window.stride, window.padding, 1, window.groups)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        by_x, by_w, by_b = (ctx.needs_input_grad[0], *_kernels(ctx.needs_input_grad[1:3]))
        return (
            _Transposed.apply(g, w, ctx.window) if by_x else None,
            _KernelGradient.apply(x, g, w.shape, ctx.window) if by_w else None,
            g.sum((0, 2, 3)) if by_b else None,
            None,
        )


def _kernels(needed: tuple[bool, ...]) -> tuple[bool, ...]:
    return tuple(_kernels_wanted and need for need in needed)


class _Transposed(Function):
    """The gradient of x * w by x in the direction g."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, w: Tensor, window: Window) -> Tensor:
        ctx.save_for_backward(g, w)
        ctx.window = window
        stride, padding, groups, rest = window
        return F.conv_transpose2d(g, w, None, stride, padding, rest, groups)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        g, w = ctx.saved_tensors
        by_g, by_w = (ctx.needs_input_grad[0], *_kernels(ctx.needs_input_grad[1:2]))
        return (
            _Forward.apply(v, w, None, ctx.window) if by_g else None,
            _KernelGradient.apply(v, g, w.shape, ctx.window) if by_w else None,
            None,
        )


class _KernelGradient(Function):
    """The gradient of x * w by w in the direction g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, shape: torch.Size, window: Window) -> Tensor:
        ctx.save_for_backward(x, g)
        ctx.window = window
        return grad.conv2d_weight(x, shape, g, window.stride, window.padding, 1, window.groups)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        x, g = ctx.saved_tensors
        by_x, by_g = ctx.needs_input_grad[:2]
        return (
            _Transposed.apply(g, v, ctx.window) if by_x else None,
            _Forward.apply(x, v, None, ctx.window) if by_g else None,
            None,
            None,
        )


class Resample(nn.Module):
    """Filters images by [1, 3, 3, 1] along either axis, a depthwise convolution; beyond the border they are zero.

    Args:
      channels: of the images.
      up: whether height and width are doubled.
      down: the interval of the pixels that are kept.
      padding: zeros around the image.
      gain: the sum of the taps of an axis; 2 keeps the mean of an image that was or is enlarged.
    """

    filters: Tensor

    def __init__(
        self, channels: int, *, up: bool = False, down: int = 1, padding: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        taps = gain * torch.tensor(TAPS) / sum(TAPS)
        filters = torch.outer(taps, taps).repeat(channels, 1, 1, 1)
        self.register_buffer("filters", filters, persistent=False)
        self.up, self.down, self.padding = up, down, padding

    def forward(self, x: Tensor) -> Tensor:
        channels = len(self.filters)
        if self.up:
            return F.conv_transpose2d(x, self.filters, None, 2, self.padding, 0, channels)
        return F.conv2d(x, self.filters, None, self.down, self.padding, 1, channels)
