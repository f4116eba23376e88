"""PacGAN's packing of adjacent examples."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional.packing import pack, packing


def test_pack_puts_neighbours_side_by_side():
    """Images: every pixel has the channels of one example after those of the other; labels become rows."""
    images = jnp.arange(4 * 2 * 2 * 3).reshape(4, 2, 2, 3)
    packed = pack(images, 2)
    assert packed.shape == (2, 2, 2, 6)
    np.testing.assert_array_equal(packed[1, 0, 1], np.r_[images[2, 0, 1], images[3, 0, 1]])
    np.testing.assert_array_equal(pack(jnp.arange(6), 3), [[0, 1, 2], [3, 4, 5]])


def test_packing_refuses():
    with pytest.raises(ValueError, match="a degree of at least 1"):
        packing(0)
    with pytest.raises(ValueError, match="a batch size divisible by 3, got 8"):
        pack(jnp.zeros((8, 2)), 3)
