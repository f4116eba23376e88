"""Sums over all but the channels, against numpy's and against the plain operations' derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.compiler import compiler_options
from gan_jax.functional.channels import channel_sum, materialize, over_channels

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


def test_what_is_materialized_is_the_same_with_the_same_derivatives():
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        x, along = jnp.asarray(rng.normal(size=(2, 3, 4, 2))), jnp.asarray(rng.normal(size=(2, 3, 4, 2)))
        np.testing.assert_array_equal(materialize(x), x)

        def slope(keep):
            return jax.grad(lambda x: (jnp.sin(keep(x)) * along).sum())

        def curvature(keep):
            return jax.grad(lambda x: (slope(keep)(x) ** 2).sum())(x)

        np.testing.assert_allclose(slope(materialize)(x), jnp.cos(x) * along, rtol=1e-12)
        np.testing.assert_allclose(curvature(materialize), curvature(lambda x: x), rtol=1e-12)
        tangent = jax.jvp(lambda x: jnp.sin(materialize(x)), (x,), (along,))[1]
        np.testing.assert_allclose(tangent, jnp.cos(x) * along, rtol=1e-12)


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_materialized_on_a_cpu_only(platform, barriers):
    program = jax.export.export(
        jax.jit(jax.grad(lambda x: jnp.sin(materialize(x)).sum())), platforms=[platform]
    )
    assert ("optimization_barrier" in program(jnp.ones((2, 3))).mlir_module()) == barriers


def test_a_leaky_relus_derivative_is_not_computed_again_for_the_bias():
    """On a CPU the sum over the pixels reads the derivative, and does not select entry by entry."""

    def loss(bias, x):
        h = materialize(x + over_channels(bias, x.shape))
        return (jax.nn.leaky_relu(h, 0.2) ** 2).sum()

    arguments = jnp.zeros(8), jnp.ones((4, 16, 16, 8))
    lowered = jax.jit(jax.grad(loss), compiler_options=compiler_options()).lower(*arguments)
    program = lowered.compile().as_text()
    computations = program.split("\n\n")
    sums = [body for body in computations if " reduce(" in body]
    assert sums
    assert not [body for body in sums if " select(" in body]
