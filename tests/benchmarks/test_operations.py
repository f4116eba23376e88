"""The single convolutions that are measured, against sums by hand."""

import dataclasses

import numpy as np
import pytest

from benchmarks.operation_worker import operands, ours
from benchmarks.operations import CONVOLUTIONS, KINDS, Convolution

SMALL = Convolution(name="small", size=4, inputs=8, outputs=12, kernel=4, stride=2, groups=2, batch=2)


def by_hand(kind):
    """The operation as sums over taps, with the padding of one row and column on each side."""
    x, w, g = operands(dataclasses.asdict(SMALL))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out, by_x, by_w = np.zeros_like(g), np.zeros_like(padded), np.zeros_like(w)
    for row in range(4):
        for column in range(4):
            seen = (slice(None), slice(row, row + 4, 2), slice(column, column + 4, 2))
            for group in range(2):
                i, o = slice(4 * group, 4 * group + 4), slice(6 * group, 6 * group + 6)
                patch, tap, slope = padded[seen][..., i], w[row, column, :, o], g[..., o]
                out[..., o] += patch @ tap
                by_x[(*seen, i)] += slope @ tap.T
                by_w[row, column, :, o] += np.einsum("bhwi,bhwo->io", patch, slope)
    return {"convolution": out, "by input": by_x[:, 1:-1, 1:-1], "by kernel": by_w}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_ours_is_the_operation_however_often_it_is_executed(kind):
    run = ours({**dataclasses.asdict(SMALL), "operation": kind})
    for times in (1, 3):
        np.testing.assert_allclose(run(times), by_hand(kind), rtol=1e-5, atol=1e-5)


def test_arithmetic_is_counted_by_hand():
    assert SMALL.flops == 2 * (2 * 2 * 2) * (4 * 4 * 4) * 12
    assert {c.name: c for c in CONVOLUTIONS}["grouped:32"].flops == 2 * 16 * 32 * 32 * 9 * 16 * 128
