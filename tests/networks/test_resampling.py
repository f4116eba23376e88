"""FIR resampling against numbers by hand, scipy's upfirdn and the adjoint identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from gan_jax.networks import fir_downsample, fir_resample, fir_upsample, forward_mode
from gan_jax.networks.resampling import same_padding
from tests.tiers import full_except

# (taps, up, down, padding): R3GAN's up and down, an asymmetric filter, coprime factors, cropping, a lone tap.
CASES = [
    ((0.25, 0.75, 0.75, 0.25), 2, 1, (2, 1)),
    ((0.125, 0.375, 0.375, 0.125), 1, 2, (1, 1)),
    ((1.0, -2.0, 0.5), 1, 1, (0, 3)),
    ((1.0, 2.0, 4.0, 8.0, 16.0), 3, 2, (4, 5)),
    ((1.0, 2.0, 3.0), 2, 3, (-1, -2)),
    ((2.0,), 2, 1, (0, 0)),
]


def by_scipy(x, taps, up, down, padding):
    """Zeros between the pixels, padding or cropping, and scipy's full convolution cut to its valid part."""
    for axis in (1, 2):
        grown = np.zeros((*x.shape[:axis], up * x.shape[axis], *x.shape[axis + 1 :]))
        grown[(slice(None),) * axis + (slice(None, None, up),)] = x
        low, high = padding
        widths = [(0, 0)] * 4
        widths[axis] = (max(low, 0), max(high, 0))
        grown = np.pad(grown, widths)
        keep = slice(max(-low, 0), grown.shape[axis] - max(-high, 0))
        grown = grown[(slice(None),) * axis + (keep,)]
        whole = np.apply_along_axis(lambda row: scipy.signal.convolve(row, taps, "valid"), axis, grown)
        x = whole[(slice(None),) * axis + (slice(None, None, down),)]
    return x


@pytest.mark.parametrize("case", full_except(CASES[:1], CASES), ids=str)
def test_resampling_is_scipys_and_its_derivatives_are_the_transpose(case):
    taps, up, down, padding = case
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 7, 6, 3))

    def resample(x):
        return fir_resample(x, taps, up=up, down=down, padding=padding)

    with jax.enable_x64(True):
        out = np.asarray(resample(x))
        g, direction = random.normal(size=out.shape), random.normal(size=x.shape)
        _, pull = jax.vjp(resample, x)
        (back,) = pull(g)
        # The second derivative of sum(resample(x)^3) / 3 along a direction: the transpose of 2 y A d.
        second = jax.grad(
            lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(resample(x) ** 3) / 3)(x) * direction)
        )(x)
        expected = pull(2 * resample(x) * resample(direction))[0]
        with forward_mode():
            _, ahead = jax.jvp(resample, (x,), (direction,))
    np.testing.assert_allclose(out, by_scipy(x, taps, up, down, padding), atol=1e-12)
    np.testing.assert_allclose(
        np.sum(np.asarray(back) * direction), np.sum(np.asarray(ahead) * g), rtol=1e-12
    )
    np.testing.assert_allclose(second, expected, atol=1e-12)


def test_up_and_down_by_two_by_hand():
    """[1, 3, 3, 1] / 8 an axis: a new pixel is 3/4 of the nearest and 1/4 of the next."""
    line = jnp.array([8.0, 16.0, 32.0]).reshape(1, 1, 3, 1)
    tall = jnp.broadcast_to(line, (1, 8, 3, 1))
    np.testing.assert_allclose(fir_upsample(tall)[0, 8, :, 0], [6, 10, 14, 20, 28, 24])
    wide = jnp.array([8.0, 16.0, 24.0, 32.0, 40.0, 48.0]).reshape(1, 1, 6, 1)
    wide = jnp.broadcast_to(wide, (1, 8, 6, 1))
    np.testing.assert_allclose(fir_downsample(wide)[0, 2, :, 0], [12, 28, 37])


@pytest.mark.full
def test_resampling_up_and_down_keep_the_mean_of_what_is_inside():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 2)), jnp.float32)
    inside = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for out in (fir_upsample(inside), fir_upsample(inside, (1, 1), 3)):
        assert out.shape[1] == 12 * (out.shape[1] // 12)
        scale = (out.shape[1] // 12) ** 2
        np.testing.assert_allclose(out.sum() / scale, x.sum(), rtol=1e-5)
    np.testing.assert_allclose(4 * fir_downsample(inside).sum(), x.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("taps", "up", "down"), [(4, 2, 1), (4, 1, 2), (3, 2, 1), (5, 1, 3), (12, 2, 1), (1, 1, 1)]
)
def test_same_padding_changes_the_size_by_the_factors(taps, up, down):
    out = fir_resample(
        jnp.ones((1, 6, 12, 1)), (1.0,) * taps, up=up, down=down, padding=same_padding(taps, up=up, down=down)
    )
    assert out.shape == (1, 6 * up // down, 12 * up // down, 1)


def test_bf16_stays_bf16():
    assert fir_upsample(jnp.ones((1, 2, 2, 1), jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fir_resample(x[0], (1.0,)), "Expected images"),
        (lambda x: fir_resample(x, ()), "Expected images"),
        (lambda x: fir_resample(x, (1.0,), up=0), "factors of a resampling"),
        (lambda x: fir_resample(x, (1.0,) * 4), "does not fit"),
        (lambda x: fir_downsample(x), "a multiple of it"),
    ],
)
def test_what_cannot_be_resampled_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((1, 3, 3, 1)))
