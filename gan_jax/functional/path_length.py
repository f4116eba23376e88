"""Path lengths of a generator: how far an image moves for a step of w, and how a network offers its w.

A generator with a mapping network z -> w keeps the average of w in its model state, as `model_state[AVERAGE][W]`
`[D]`, and adds `model_state[OFFSET][W]` `[B, D]` to w where that is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from gan_jax.functional.penalties import safe_norm
from gan_jax.types import Array

AVERAGE, OFFSET, W = "w_average", "w_offset", "w"
"""The collections of a model state that hold the average of w and an offset of it, and the name of the entry."""


def path_lengths(generate: Callable[[Array], Array], w: Array, direction: Array) -> Array:
    """||J^T y|| of each example, J the Jacobian of g by w: `[B]`.

    Args:
      generate: g, `[B, D] -> [B, ...]`; it must not couple its batch.
      w: where, `[B, D]`.
      direction: y, `[B, ...]`.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, equation (4) (arXiv:1912.04958).

    >>> a = jnp.array([[3.0, 0.0], [4.0, 1.0]])
    >>> print(path_lengths(lambda w: w @ a.T, jnp.zeros((1, 2)), jnp.array([[1.0, 1.0]])))  # |(7, 1)|
    [7.071068]
    """
    return safe_norm(jax.grad(lambda w: jnp.sum(generate(w) * direction))(w))


def style_layers(shape: Sequence[int]) -> int:
    """The number of layers to which StyleGAN2 gives w, for images of a shape `[H, W, C]`; 1 for anything else.

    >>> [style_layers((size, size, 3)) for size in (8, 32, 1024)], style_layers((2,))
    ([4, 8, 18], 1)
    """
    shorter = min(shape[:2]) if len(shape) == 3 else 0
    return 2 * int(math.log2(shorter / 4)) + 2 if shorter >= 4 else 1


def scaled_to_pixels(noise: Array) -> Array:
    """`noise [B, H, W, C]` divided by sqrt(H W), so that path lengths do not depend on the size; vectors stay.

    >>> float(scaled_to_pixels(jnp.ones((1, 4, 4, 1)))[0, 0, 0, 0])
    0.25
    """
    return noise / math.sqrt(math.prod(noise.shape[1:-1]))
