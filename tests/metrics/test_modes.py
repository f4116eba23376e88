"""Mode statistics against hand-counted histograms and the conventions of PacGAN."""

import numpy as np
import pytest
from scipy import stats

from gan_jax.metrics import class_statistics, mode_counts, mode_statistics, stacked_classes


def ring(modes=8, radius=2.0):
    angle = 2 * np.pi * np.arange(modes) / modes
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def test_hand_counted_histogram():
    means = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = np.array([[0.1, 0.0], [0.0, 0.29], [10.0, 0.2], [0.0, 10.31], [5.0, 5.0]])
    found = mode_statistics(samples, means, sigma=0.1)
    assert found["modes_covered"] == 2
    assert found["modes"] == 3
    assert found["samples"] == 5
    assert found["high_quality_share"] == 3 / 5
    entropy = -(2 / 3) * np.log(2 / 3) - (1 / 3) * np.log(1 / 3)
    assert found["entropy"] == pytest.approx(entropy)
    assert found["reverse_kl"] == pytest.approx(np.log(3) - entropy)
    np.testing.assert_array_equal(mode_counts(samples, means, 0.1)[0], [2, 1, 0])


def test_the_mixture_itself_has_the_rayleigh_share_and_no_reverse_kl():
    rng = np.random.default_rng(0)
    means, number = ring(), 40_000
    samples = means[rng.integers(8, size=number)] + 0.02 * rng.normal(size=(number, 2))
    found = mode_statistics(samples, means, sigma=0.02)
    fraction = 1 - np.exp(-4.5)  # P(a two-dimensional Gaussian lies within three standard deviations)
    assert found["modes_covered"] == 8
    assert abs(found["high_quality_share"] - fraction) < 4 * np.sqrt(fraction * (1 - fraction) / number)
    # 2 N KL of an empirical histogram is chi-squared with K - 1 degrees of freedom.
    assert 2 * number * found["reverse_kl"] < stats.chi2(7).ppf(0.9999)


def test_one_mode_of_eight_is_log_8_and_none_is_nan():
    found = mode_statistics(np.repeat(ring()[:1], 5, axis=0), ring(), sigma=0.02)
    assert found["reverse_kl"] == pytest.approx(np.log(8))
    assert found["entropy"] == 0
    lost = mode_statistics(np.full((4, 2), 9.0), ring(), sigma=0.02)
    assert lost["modes_covered"] == 0
    assert lost["high_quality_share"] == 0
    assert np.isnan(lost["reverse_kl"])


def test_weights_and_a_deviation_for_each_mode():
    means = np.array([[0.0], [10.0]])
    samples = np.array([[0.0], [0.0], [0.0], [11.0]])
    found = mode_statistics(samples, means, sigma=[0.1, 1.0], weights=[3.0, 1.0])
    assert found["modes_covered"] == 2
    assert found["reverse_kl"] == pytest.approx(0, abs=1e-15)
    assert mode_statistics(samples, means, sigma=0.1)["modes_covered"] == 1


def test_class_statistics_of_stacked_digits():
    classes = stacked_classes(np.array([[0, 0, 0], [0, 0, 1], [9, 9, 9], [9, 9, 9]]))
    np.testing.assert_array_equal(classes, [0, 1, 999, 999])
    found = class_statistics(classes, 1000)
    histogram = np.bincount(classes, minlength=1000) / 4
    assert found["modes_covered"] == 3
    assert found["reverse_kl"] == pytest.approx(stats.entropy(histogram, np.full(1000, 1e-3)))
    assert found["entropy"] == pytest.approx(stats.entropy(histogram))
    skewed = class_statistics([0, 1, 1], 2, reference=[1, 3])
    assert skewed["reverse_kl"] == pytest.approx(stats.entropy([1 / 3, 2 / 3], [1 / 4, 3 / 4]))


@pytest.mark.parametrize(
    ("samples", "sigma", "message"),
    [
        (np.array([[np.nan, 0.0]]), 0.1, "1 entries in 1 of 1 samples are NaN"),
        (np.zeros((3, 3)), 0.1, "3 dimensions and the means 2"),
        (np.zeros((0, 2)), 0.1, "at least 1 samples, got 0"),
        (np.zeros((3, 2)), -0.1, "positive"),
    ],
)
def test_bad_input_is_named(samples, sigma, message):
    with pytest.raises(ValueError, match=message):
        mode_statistics(samples, ring(), sigma)


def test_bad_classes_are_named():
    with pytest.raises(ValueError, match=r"\[0, 3\), got 0 to 3"):
        class_statistics([0, 3], 3)
    with pytest.raises(ValueError, match="no weight"):
        class_statistics([0, 1], 2, reference=[1, 0])
