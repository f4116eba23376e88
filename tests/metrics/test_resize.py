"""The protocols' resizing against Pillow and against formulas written out pixel by pixel."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gan_jax.metrics import PROTOCOLS
from gan_jax.metrics.resize import protocol_named

SIZES = [32, 256, 512]


def picture(size, kind=np.float64):
    """One image of waves and noise, grey levels in [0, 255], `[size, size, 3]`."""
    rng = np.random.default_rng(size)
    axis = np.linspace(0, 1, size)
    waves = rng.uniform(2, 9, size=(2, 3))
    smooth = np.sin(2 * np.pi * axis[:, None, None] * waves[0]) * np.cos(
        2 * np.pi * axis[None, :, None] * waves[1]
    )
    return np.clip(np.round(127.5 + 90 * smooth + rng.normal(0, 25, (size, size, 3))), 0, 255).astype(kind)


def levels(protocol, image, size=299):
    """The protocol's result in grey levels, before they are brought to the network's range."""
    chosen = PROTOCOLS[protocol]
    out = chosen(jnp.asarray(image[None] / 127.5 - 1, jnp.float32), size)
    return np.asarray(out[0], np.float64) * chosen.middle + chosen.middle


def bilinear_at(image, row, column):
    """The bilinear value at a place; the edge is repeated beyond it."""
    side = image.shape[0]
    row, column = min(max(row, 0.0), side - 1.0), min(max(column, 0.0), side - 1.0)
    top, left = math.floor(row), math.floor(column)
    bottom, right = min(top + 1, side - 1), min(left + 1, side - 1)
    down, along = row - top, column - left
    upper = (1 - along) * image[top, left] + along * image[top, right]
    lower = (1 - along) * image[bottom, left] + along * image[bottom, right]
    return (1 - down) * upper + down * lower


SOURCES = {
    "pytorch": lambda place, side: (place + 0.5) * side / 299 - 0.5,
    "tf": lambda place, side: place * side / 299,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("protocol", SOURCES)
def test_bilinear_protocols_are_their_formula(protocol, size):
    image, source = picture(size), SOURCES[protocol]
    found = levels(protocol, image)
    for row in (0, 1, 17, 149, 150, 297, 298):
        for column in (0, 3, 148, 277, 298):
            expected = bilinear_at(image, source(row, size), source(column, size))
            np.testing.assert_allclose(found[row, column], expected, atol=2e-3)


@pytest.mark.parametrize("size", SIZES)
def test_clean_is_pillows_bicubic_of_every_float_channel(size):
    image = picture(size, np.float32)
    found = levels("clean", image)
    for channel in range(3):
        pillows = np.asarray(
            Image.fromarray(image[:, :, channel]).resize((299, 299), Image.Resampling.BICUBIC)
        )
        assert size == 512 or pillows.min() < -1  # the clipping does something
        np.testing.assert_allclose(found[:, :, channel], pillows.clip(0, 255), atol=2e-3)


def cubic(x):
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


@pytest.mark.parametrize("size", SIZES)
def test_clean_is_its_formula(size):
    """Pillow's filter written out: a cubic of slope -1/2 that is as wide as a shrunk pixel, normalised."""
    image, scale = picture(size), size / 299
    width = max(scale, 1.0)
    found = levels("clean", image)

    def weights(place):
        centre = (place + 0.5) * scale
        taken = range(max(int(centre - 2 * width + 0.5), 0), min(int(centre + 2 * width + 0.5), size))
        given = {k: cubic((k + 0.5 - centre) / width) for k in taken}
        return {k: weight / sum(given.values()) for k, weight in given.items()}

    for row, column in ((0, 0), (0, 298), (5, 150), (150, 3), (298, 298)):
        expected = sum(
            down * along * image[i, j]
            for i, down in weights(row).items()
            for j, along in weights(column).items()
        )
        np.testing.assert_allclose(found[row, column], np.clip(expected, 0, 255), atol=2e-3)


def test_tf1_is_not_the_half_pixel_way():
    """They differ by grey levels, so that a score of one is none of the other; at 299 pixels they are the same."""
    for size, least in zip(SIZES, (5.0, 1.0, 5.0), strict=True):
        gap = np.abs(levels("tf", picture(size)) - levels("pytorch", picture(size))).mean()
        assert gap > least
    same = picture(299)
    for protocol in PROTOCOLS:
        np.testing.assert_allclose(levels(protocol, same), same, atol=1e-3)


def test_ranges_are_the_networks():
    black, white = (jnp.full((1, 8, 8, 1), value) for value in (-1.0, 1.0))
    for name, ends in (("pytorch", (-1, 1)), ("tf", (-1, 127 / 128)), ("clean", (-1, 127 / 128))):
        found = [np.asarray(PROTOCOLS[name](side)) for side in (black, white)]
        assert found[0].shape == (1, 299, 299, 3)
        for side, end in zip(found, ends, strict=True):
            np.testing.assert_allclose(side, end, atol=1e-6)


def test_sides_may_differ_and_an_unknown_protocol_is_named():
    image = picture(40)[:, :24]
    found = levels("pytorch", image, size=80)
    rows = levels("pytorch", picture(40), size=80)
    assert found.shape == (80, 80, 3)
    assert not np.allclose(found, rows)
    np.testing.assert_allclose(found[:, 0], rows[:, 0], atol=1e-3)
    with pytest.raises(ValueError, match="Unknown protocol 'legacy': one of pytorch, tf, clean"):
        protocol_named("legacy")
