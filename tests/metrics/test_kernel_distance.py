"""The kernel distance against its definition as loops, scikit-learn's kernel and closed forms."""

from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel as sklearn_kernel

from gan_jax.metrics import kernel_distance, kernel_interval, kernel_subsets
from gan_jax.metrics.kernel import polynomial_kernel


def test_the_kernel_is_scikit_learns():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 5)), rng.normal(size=(4, 5))
    np.testing.assert_allclose(polynomial_kernel(x, y), sklearn_kernel(x, y, degree=3))
    expected = sklearn_kernel(x, y, degree=2, gamma=0.3, coef0=2.0)
    np.testing.assert_allclose(polynomial_kernel(x, y, degree=2, scale=0.3, offset=2.0), expected)


def test_one_block_is_the_definition():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(5, 3)) + 1

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    expected = (
        sum(k(x[i], x[j]) for i in range(6) for j in range(6) if i != j) / 30
        + sum(k(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
        - 2 * sum(k(a, b) for a in x for b in y) / 30
    )
    found = kernel_distance(x, y)
    assert found.value == pytest.approx(expected)
    assert np.isnan(found.standard_error)


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e7])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_features_far_from_zero_keep_their_figures(offset, degree):
    """By exact fractions; summed as it stands, the kernel has none of the 16 digits left at an offset of 1e7."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(6, 3)) + offset, 1.2 * rng.normal(size=(5, 3)) + 0.5 + offset

    def mean_kernel(rows, columns, same=False):
        values = [
            (Fraction(1, 2) * sum(Fraction(p) * Fraction(q) for p, q in zip(a, b, strict=True)) + 2) ** degree
            for i, a in enumerate(rows.tolist())
            for j, b in enumerate(columns.tolist())
            if not (same and i == j)
        ]
        return sum(values) / len(values)

    exact = mean_kernel(x, x, same=True) + mean_kernel(y, y, same=True) - 2 * mean_kernel(x, y)
    found = kernel_distance(x, y, degree=np.int64(degree), scale=0.5, offset=2.0)
    assert found.value == pytest.approx(float(exact), rel=1e-12)


def test_blocks_are_disjoint_and_their_error_is_the_spread_over_data():
    """With a linear kernel the squared MMD is |shift|^2 / D: known, so coverage can be counted."""
    rng = np.random.default_rng(2)
    shift, inside = np.array([0.3, 0.0]), 0
    values, errors = [], []
    for seed in range(200):
        x, y = rng.normal(size=(120, 2)), rng.normal(size=(120, 2)) + shift
        found = kernel_distance(x, y, block_size=10, degree=1, seed=seed)
        values.append(found.value)
        errors.append(found.standard_error)
        inside += abs(found.value - 0.09 / 2) < 2.2 * found.standard_error  # Student's 95 % with 11 degrees
    assert np.mean(values) == pytest.approx(0.045, abs=4 * np.std(values) / np.sqrt(200))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)
    assert inside / 200 > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize(("blocks", "t"), [(2, 12.7062), (5, 2.7764), (10, 2.2622)])
def test_the_interval_is_students(blocks, t):
    """The quantiles are a printed table's; nominal 95 %, |shift|^2 / D is the truth, 300 repetitions."""
    rng = np.random.default_rng(4)
    shift, inside = np.array([2.0, 0.0]), 0  # so far that a block's estimate is nearly normal
    for seed in range(300):
        x, y = rng.normal(size=(10 * blocks, 2)), rng.normal(size=(10 * blocks, 2)) + shift
        found = kernel_interval(x, y, block_size=10, degree=1, seed=seed)
        inside += found.low <= 2.0 <= found.high
    plain = kernel_distance(x, y, block_size=10, degree=1, seed=299)
    assert found.value == plain.value
    assert (found.high - found.value) / plain.standard_error == pytest.approx(t, rel=1e-4)
    assert (found.value - found.low) / plain.standard_error == pytest.approx(t, rel=1e-4)
    assert inside / 300 > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 300)


def test_one_block_has_no_interval():
    x = np.zeros((20, 2))
    with pytest.raises(ValueError, match="at least two blocks, but block_size 1000 makes one"):
        kernel_interval(x, x)
    with pytest.raises(ValueError, match=r"in \(0, 1\), got 95"):
        kernel_interval(x, x, level=95)


def test_equal_sets_and_unequal_sizes():
    x = np.random.default_rng(3).normal(size=(100, 4)).astype(np.float32)
    found = kernel_distance(x, x[::-1])
    # A set against itself: the cross term holds the diagonal that the others leave out, so the value is below 0.
    assert found.value < 0
    assert kernel_distance(x, x[:60], block_size=30).value == pytest.approx(0, abs=1.0)


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        (np.full((5, 2), np.nan), np.zeros((5, 2)), {}, "NaN"),
        (np.zeros((1, 2)), np.zeros((5, 2)), {}, "at least 2 samples, got 1"),
        (np.zeros((5, 2)), np.zeros((5, 3)), {}, "differ in a sample's shape"),
        (np.zeros((500, 2)), np.zeros((5, 2)), {"block_size": 10}, "fewer than two"),
        (np.zeros((5, 2)), np.zeros((5, 2)), {"block_size": 1}, "block_size 1"),
        (
            np.zeros((5, 2)),
            np.zeros((5, 2)),
            {"degree": 0.5},
            "degree must be a whole number from 1, got 0.5",
        ),
    ],
)
def test_bad_input_is_named(real, fake, options, message):
    with pytest.raises(ValueError, match=message):
        kernel_distance(real, fake, **options)


def test_subsets_are_the_unbiased_formula_of_numpys_choices():
    """Two subsets of three, written out with the kernel (x . y / D + 1)^3."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 7, 4))
    choices = np.random.RandomState(11)
    expected = []
    for _ in range(2):
        a, b = (side[choices.choice(7, 3, replace=False)] for side in (x, y))

        def kernel(p, q):
            return (p @ q / 4 + 1) ** 3

        within = sum(
            kernel(side[i], side[j]) for side in (a, b) for i in range(3) for j in range(3) if i != j
        )
        between = sum(kernel(p, q) for p in a for q in b)
        expected.append(within / 6 - 2 * between / 9)
    found = kernel_subsets(x, y, subsets=2, size=3, seed=11)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.std == pytest.approx(np.std(expected))


def test_subsets_of_everything_are_the_whole_estimate():
    x, y = np.random.default_rng(4).normal(size=(2, 30, 5))
    assert kernel_subsets(x, y, subsets=3).mean == pytest.approx(kernel_distance(x, y).value)
    with pytest.raises(ValueError, match="got 0 of 30"):
        kernel_subsets(x, y, subsets=0)
