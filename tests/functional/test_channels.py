"""Sums over all but the channels, against numpy's and against the plain operations' derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional.channels import channel_sum, over_channels

SHAPES = [(5, 3), (4, 6, 2), (3, 7, 5, 2), (2, 8, 16, 3), (1, 37, 1, 2), (6, 3, 3, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_numpys(shape):
    x = np.random.default_rng(0).normal(size=shape)
    with jax.enable_x64(True):
        np.testing.assert_allclose(channel_sum(jnp.asarray(x)), x.reshape(-1, shape[-1]).sum(0), rtol=1e-12)
        v = jnp.asarray(x[(0,) * (len(shape) - 1)])
        np.testing.assert_array_equal(over_channels(v, shape), np.broadcast_to(v, shape))


def normed(x, total, spread):
    """A batch normalisation, and something that bends."""
    count = x.size // x.shape[-1]
    mean = total(x) / count
    variance = total(x**2) / count - mean**2
    return jnp.tanh((x - spread(mean, x.shape)) * spread(1 / jnp.sqrt(variance + 1e-3), x.shape))


def plain_sum(x):
    return x.sum(tuple(range(x.ndim - 1)))


@pytest.mark.full
def test_derivatives_of_every_order_and_mode_are_the_plain_operations():
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        x, along = jnp.asarray(rng.normal(size=(4, 5, 3, 2))), jnp.asarray(rng.normal(size=(4, 5, 3, 2)))

        def penalty(total, spread):
            slope = jax.grad(lambda x: (normed(x, total, spread) * along).sum())
            return jax.grad(lambda x: (slope(x) ** 2).sum())

        ours, theirs = penalty(channel_sum, over_channels), penalty(plain_sum, jnp.broadcast_to)
        np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-9, atol=1e-12)
        forward = [
            jax.jvp(functools.partial(normed, total=total, spread=spread), (x,), (along,))[1]
            for total, spread in ((channel_sum, over_channels), (plain_sum, jnp.broadcast_to))
        ]
        np.testing.assert_allclose(*forward, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("platform", "products"), [("cpu", 2), ("cuda", 0), ("tpu", 0)])
def test_the_form_is_that_of_the_platform_that_is_compiled_for(platform, products):
    """The host is a CPU in all three cases; the derivative is of the platform's form too."""

    def loss(x, v):
        return jnp.sum(channel_sum(x) ** 2) + jnp.sum(jnp.tanh(over_channels(v, x.shape)))

    x, v = jnp.ones((4, 5, 3, 2)), jnp.ones(2)
    program = jax.export.export(jax.jit(loss), platforms=[platform])(x, v).mlir_module()
    assert program.count("stablehlo.dot_general") == products
    backward = jax.export.export(jax.jit(jax.grad(loss, argnums=(0, 1))), platforms=[platform])(x, v)
    assert ("stablehlo.dot_general" in backward.mlir_module()) == (products > 0)
