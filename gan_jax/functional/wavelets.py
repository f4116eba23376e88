"""Orthogonal wavelets on mirrored images, as matrices: resampling by two without loss, and frequency bands.

A signal of size n is continued by reflection about its first and last sample, which makes it periodic with period
2 (n - 1). A filter h is orthogonal if sum_t h[t] h[t + 2 s] is 1 for s = 0 and 0 for every other shift; doubling
with its time reversal and halving with h are then exact inverses.
"""

from __future__ import annotations

import functools

import numpy as np

SYM2 = np.array([-0.12940952255126037, 0.2241438680420134, 0.8365163037378079, 0.48296291314453416])
"""The low-pass filter of the symlet with 2 vanishing moments."""
SYM6 = np.array(
    [
        *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
        *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
        *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
    ]
)
"""The low-pass filter of the symlet with 6 vanishing moments."""
DELAY = float(np.arange(len(SYM6)) @ SYM6 / np.sqrt(2))
"""The first moment of `SYM6`: entry n of a doubled signal lies at (n - DELAY) / 2 of the original one."""
BANDS = 4
"""The number of frequency bands, from the lowest: up to pi/8, pi/4, pi/2 and pi."""


def reflected(index: np.ndarray, size: int) -> np.ndarray:
    """The index in [0, size) that a mirrored signal shows at any integer index.

    >>> print(reflected(np.arange(-3, 7), 4))
    [3 2 1 0 1 2 3 2 1 0]
    """
    place = index % period(size)
    return np.minimum(place, period(size) - place)


def period(size: int) -> int:
    """The period of a mirrored signal, in samples."""
    return max(1, 2 * (size - 1))


@functools.cache
def doubling(size: int) -> np.ndarray:
    """The matrix `[2 period, size]` that doubles a mirrored signal, for one period of the result.

    Linear signals stay linear, which fixes where the entries lie; see `DELAY`.

    >>> doubling(4).shape, bool(np.allclose(doubling(4) @ np.ones(4), 1))
    ((12, 4), True)
    """
    matrix = np.zeros((2 * period(size), size))
    for row in range(len(matrix)):
        taps = np.arange(row % 2, len(SYM6), 2)
        np.add.at(matrix[row], reflected((row - taps) // 2, size), np.sqrt(2) * SYM6[taps])
    return matrix


@functools.cache
def halving(size: int) -> np.ndarray:
    """The matrix `[size, 2 size + 10]` that takes the beginning of a doubled signal back.

    >>> bool(np.allclose(halving(8) @ np.resize(doubling(8), (26, 8)), np.eye(8)))
    True
    """
    matrix = np.zeros((size, 2 * (size - 1) + len(SYM6)))
    for row in range(size):
        matrix[row, 2 * row : 2 * row + len(SYM6)] = SYM6 / np.sqrt(2)
    return matrix


@functools.cache
def band_filters() -> np.ndarray:
    """Zero-phase filters `[4, taps]` of the frequency bands, which add up to the identity.

    With P(z) = H(z) H(1/z) / 2 and Q(z) = P(-z), so that P + Q = 1, they are P(z) P(z^2) P(z^4),
    P(z) P(z^2) Q(z^4), P(z) Q(z^2) and Q(z).

    >>> print(np.round(np.abs(np.fft.fft(band_filters(), axis=1))[:, 0], 6) + 0.0)  # only the lowest has a mean
    [1. 0. 0. 0.]
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    signs = (-1.0) ** np.arange(len(low))
    high = low * signs * signs[len(low) // 2]
    first, second = low, np.convolve(low, _spread(low, 2))
    bands = [
        np.convolve(second, _spread(low, 4)),
        np.convolve(second, _spread(high, 4)),
        np.convolve(first, _spread(high, 2)),
        high,
    ]
    longest = max(len(band) for band in bands)
    return np.stack([np.pad(band, (longest - len(band)) // 2) for band in bands])


@functools.cache
def band_matrices(size: int) -> np.ndarray:
    """The bands of a mirrored signal as matrices `[4, size, size]`, which add up to the identity.

    >>> bool(np.allclose(band_matrices(5).sum(0), np.eye(5)))
    True
    """
    filters = band_filters()
    matrices = np.zeros((BANDS, size, size))
    offsets = np.arange(filters.shape[1]) - filters.shape[1] // 2
    for row in range(size):
        for band, taps in enumerate(filters):
            np.add.at(matrices[band, row], reflected(row + offsets, size), taps)
    return matrices


def _spread(taps: np.ndarray, factor: int) -> np.ndarray:
    """H(z^factor) of H(z)."""
    wide = np.zeros(factor * (len(taps) - 1) + 1)
    wide[::factor] = taps
    return wide
