"""Convolution layers against Flax's, and those fused with resampling against the two steps in turn."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.networks import Conv, ConvMeanPool, ConvTranspose, UpsampleConv
from gan_jax.networks.resnet import downsample, upsample
from tests.tiers import full

MODULES = [(Conv, nn.Conv), (ConvTranspose, nn.ConvTranspose)]


@pytest.mark.parametrize(("ours", "flax"), MODULES)
def test_modules_begin_with_flaxs_parameters(ours, flax):
    x = jnp.ones((1, 5, 5, 3))
    mine, theirs = (jax.jit(layer(4, (3, 2), strides=(2, 1)).init) for layer in (ours, flax))
    jax.tree.map(np.testing.assert_array_equal, mine(jax.random.key(0), x), theirs(jax.random.key(0), x))


@pytest.mark.parametrize(("ours", "flax"), MODULES)
@pytest.mark.parametrize(("dtype", "use_bias"), [(None, True), full(jnp.bfloat16, False)])
def test_modules_have_flaxs_outputs(ours, flax, dtype, use_bias):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(2, 7, 7, 3)), jnp.float32)
    params = {"kernel": jnp.asarray(random.normal(size=(4, 4, 3, 2)) / 7, jnp.float32)}
    if use_bias:
        params["bias"] = jnp.array([1.0, -1.0])
    settings = {"strides": (2, 2), "use_bias": use_bias, "dtype": dtype}
    out = ours(2, 4, **settings).apply({"params": params}, x)
    expected = flax(2, (4, 4), **settings).apply({"params": params}, x)
    assert out.dtype == expected.dtype == (dtype or jnp.float32)
    np.testing.assert_allclose(out.astype(jnp.float32), expected.astype(jnp.float32), atol=1e-5)


@pytest.mark.full
def test_a_grouped_layer_is_flaxs():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 5, 4)), jnp.float32)
    ours, flax = Conv(6, 3, groups=2), nn.Conv(6, (3, 3), feature_group_count=2)
    mine, theirs = (jax.jit(layer.init)(jax.random.key(0), x) for layer in (ours, flax))
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    np.testing.assert_allclose(ours.apply(mine, x), flax.apply(theirs, x), atol=1e-5)


@pytest.mark.parametrize("kernel", [full(1), 3, full((5, 3))])
@pytest.mark.parametrize(
    ("fused", "unfused"),
    [
        (UpsampleConv, lambda layer: lambda params, x: layer.apply(params, upsample(x))),
        (ConvMeanPool, lambda layer: lambda params, x: downsample(layer.apply(params, x))),
    ],
)
def test_fused_with_resampling_a_convolution_and_its_derivatives_are_the_same(fused, unfused, kernel):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(2, 6, 4, 3)), jnp.float32)
    params = jax.jit(fused(2, kernel, bias_init=nn.initializers.ones_init()).init)(jax.random.key(0), x)

    def curved(apply):
        def penalty(params, x):
            slope = jax.grad(lambda x: jnp.sum(jnp.sin(apply(params, x))))(x)
            return jnp.sum(jnp.sqrt(1 + slope**2))

        return jax.jit(lambda params, x: (apply(params, x), jax.grad(penalty, (0, 1))(params, x)))

    ours, theirs = (curved(apply)(params, x) for apply in (fused(2, kernel).apply, unfused(Conv(2, kernel))))
    assert float(jnp.std(ours[0])) > 0.05
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


def test_fused_with_resampling_a_3_x_3_convolution_is_a_4_x_4_one():
    """16 products instead of 36 for each small pixel: the kernel's entries over equal neighbours are added up."""
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    pixel = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(1.0)
    params = {"params": {"kernel": kernel, "bias": jnp.zeros(1)}}
    around = UpsampleConv(1, 3).apply(params, pixel)[0, 1:5, 1:5, 0]
    # The kernel is a correlation's, so it appears turned by half a turn: 9 = its last entry comes first.
    np.testing.assert_allclose(around, [[9, 17, 15, 7], [15, 28, 24, 11], [9, 16, 12, 5], [3, 5, 3, 1]])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (UpsampleConv(1, 4), r"odd size, strides=1 and padding='SAME', got \(4, 4\)"),
        (UpsampleConv(1, 3, strides=2), "UpsampleConv takes"),
        (ConvMeanPool(1, 3, padding="VALID"), "ConvMeanPool takes"),
        (ConvMeanPool(1, 3), "images of even size"),
        (Conv(4, 3, groups=2), "groups must divide the channels in, 1, and out, 4"),
    ],
)
def test_what_cannot_be_fused_is_named(layer, message):
    with pytest.raises(ValueError, match=message):
        layer.init(jax.random.key(0), jnp.ones((1, 5, 5, 1)))
