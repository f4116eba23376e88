"""Compiler options that were measured to be faster."""

from __future__ import annotations

import functools

import jax

# On CPU: small matrix products through XLA's own kernels and 512-bit vectors instead of the fused library calls,
# 1.2 to 1.4 times the rounds a second on networks 128 wide and 1.1 times on convolutions (benchmarks/ring.py); and
# optimisation barriers that are not removed: `networks.convolution` and `functional.channels` use them so that
# operands are not computed several times, 1.1 times the rounds of DCGANs and of residual networks. XLA refuses a
# program that writes what a barrier hands on into a part of an array in a loop ("Unhandled opcode for elemental IR
# emission: opt-barrier"); a game's rounds write parameters there, which optimisers have changed.
_CPU: dict[str, str | bool | int | float] = {
    "xla_cpu_experimental_ynn_fusion_type": "",
    "xla_cpu_prefer_vector_width": 512,
    "xla_disable_hlo_passes": "cse_barrier_expander",
}


@functools.cache
def compiler_options(platform: str | None = None) -> dict[str, str | bool | int | float]:
    """Options for `jax.jit(..., compiler_options=...)` on a platform; none if its compiler does not know them.

    Args:
      platform: that of the devices that the program is for; by default the default backend's.
    """
    if (platform or jax.default_backend()) != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=_CPU)(0.0)
    except Exception:  # an option that this version of XLA has dropped or renamed
        return {}
    return _CPU
