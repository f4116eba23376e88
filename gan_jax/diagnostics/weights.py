"""What the layers' weights do to a vector's length."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gan_jax.diagnostics.norms import layer_name
from gan_jax.diagnostics.probe import ProbeContext
from gan_jax.functional.precision import at_least_float32
from gan_jax.types import Array, Metrics


def spectral_norms(context: ProbeContext) -> Metrics:
    """The largest singular value of every kernel, `player/spectral_norm/layer/kernel`, a probe.

    A convolution's kernel is read as the matrix `[everything else, out]`. These are the parameters as they are
    stored: a layer with spectral normalisation divides by this number.
    """
    return {
        f"{name}/spectral_norm/{layer_name(path)}": spectral_norm(leaf)
        for name, player in context.state.players.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(player.params)
        if leaf.ndim >= 2
    }


def spectral_norm(kernel: Array) -> Array:
    """The largest singular value of `kernel` as a matrix `[everything else, out]`.

    >>> round(float(spectral_norm(jnp.diag(jnp.array([3.0, -4.0])))), 5)
    4.0
    """
    matrix = at_least_float32(kernel.reshape(-1, kernel.shape[-1]))
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    # The Gram matrix of the shorter side: a convolution's has 512 rows where the kernel has 8,192.
    return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(matrix.T @ matrix)[-1], 0.0))
