"""Options of the compiler: what they are there for is in the compiled program."""

import jax
import jax.numpy as jnp
import pytest

from gan_jax.compiler import compiler_options
from gan_jax.functional.channels import over_channels
from gan_jax.networks.convolution import kernel_grad


def kernel_programs(x):
    """The gradient by a 3 x 3 kernel, of operands that are computed."""
    y = jnp.tanh(x)
    return kernel_grad(y, 2 * y, strides=(1, 1), padding=((1, 1), (1, 1)), kernel=(3, 3))


def channel_programs(x):
    """The derivative of a broadcast over the channels: a sum."""
    return jax.vjp(lambda v: over_channels(v, x.shape), x[0, 0, 0])[1](jnp.tanh(x))


@pytest.mark.parametrize("function", [kernel_programs, channel_programs])
def test_barriers_stay_in_programs_for_a_cpu(function):
    """Without them XLA computes tanh again for each entry that it transposes."""
    x = jnp.ones((4, 8, 8, 16))
    kept = jax.jit(function, compiler_options=compiler_options()).lower(x).compile().as_text()
    assert "opt-barrier(" in kept
