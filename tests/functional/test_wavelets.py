"""The wavelets against their closed forms: orthogonality, vanishing moments, exact inverses, bands."""

import numpy as np
import pytest

from gan_jax.functional import wavelets


@pytest.mark.parametrize(("taps", "moments"), [(wavelets.SYM2, 2), (wavelets.SYM6, 6)])
def test_symlets_are_orthogonal_and_have_their_vanishing_moments(taps, moments):
    """Sum sqrt 2; orthogonal to even shifts of itself; sum (-1)^t t^k h[t] = 0 for each of the moments."""
    t, alternating = np.arange(len(taps)), (-1.0) ** np.arange(len(taps))
    assert len(taps) == 2 * moments
    np.testing.assert_allclose(taps.sum(), np.sqrt(2), atol=1e-12)
    shifts = [taps[2 * s :] @ taps[: len(taps) - 2 * s] for s in range(moments)]
    np.testing.assert_allclose(shifts, np.eye(moments)[0], atol=1e-11)
    for k in range(moments):
        np.testing.assert_allclose((alternating * (t / len(t)) ** k * taps).sum(), 0, atol=1e-11)
    assert abs((alternating * t**moments * taps).sum()) > 1


@pytest.mark.parametrize("size", [1, 2, 5, 8, 33])
def test_halving_undoes_doubling_and_bands_add_up(size):
    doubled = np.resize(wavelets.doubling(size), (2 * size + 10, size))
    np.testing.assert_allclose(wavelets.halving(size) @ doubled, np.eye(size), atol=1e-10)
    np.testing.assert_allclose(wavelets.band_matrices(size).sum(0), np.eye(size), atol=1e-12)


def test_a_doubled_ramp_is_a_ramp_at_the_delay():
    """Two vanishing moments suffice: entry n of the ramp k is (n - DELAY) / 2, away from the mirrors."""
    inside = np.arange(12, 70)
    doubled = wavelets.doubling(40) @ np.arange(40.0)
    np.testing.assert_allclose(doubled[inside], (inside - wavelets.DELAY) / 2, atol=1e-9)


def test_bands_pass_their_octave():
    """Each band's response at the middle of its octave exceeds the other bands' there; at 0 and pi it is 1 or 0."""
    filters = wavelets.band_filters()
    offsets = np.arange(filters.shape[1]) - filters.shape[1] // 2

    def response(frequency):
        return filters @ np.cos(frequency * offsets)

    np.testing.assert_allclose(response(0.0), [1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(response(np.pi), [0, 0, 0, 1], atol=1e-12)
    for band, frequency in enumerate(np.pi * np.array([1 / 16, 3 / 16, 3 / 8, 3 / 4])):
        assert np.argmax(response(frequency)) == band
