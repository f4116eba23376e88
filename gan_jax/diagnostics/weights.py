"""Spectral norms of the layers' weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gan_jax.diagnostics.norms import layer_name
from gan_jax.diagnostics.probe import ProbeContext
from gan_jax.functional.precision import at_least_float32
from gan_jax.precision import at_highest_precision
from gan_jax.types import Array, Metrics


def spectral_norms(context: ProbeContext) -> Metrics:
    """A probe of the largest singular value of every kernel, `player/spectral_norm/layer/kernel`.

    A convolution's kernel is reshaped to the matrix `[everything else, out]`. The parameters are those that are
    stored: a layer with spectral normalisation divides by this number.
    """
    return {
        f"{name}/spectral_norm/{layer_name(path)}": spectral_norm(leaf)
        for name, player in context.state.players.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(player.params)
        if leaf.ndim >= 2
    }


@at_highest_precision
def spectral_norm(kernel: Array) -> Array:
    """The largest singular value of `kernel` as a matrix `[everything else, out]`.

    >>> round(float(spectral_norm(jnp.diag(jnp.array([3.0, -4.0])))), 5)
    4.0
    """
    matrix = at_least_float32(kernel.reshape(-1, kernel.shape[-1]))
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    # The Gram matrix of the shorter side is small: 512 rows for a convolution's kernel with 8,192.
    return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(matrix.T @ matrix)[-1], 0.0))
