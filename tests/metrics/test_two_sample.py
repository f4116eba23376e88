"""Two-sample tests: statistics against scipy and brute force, p-values against their own promise."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier

from gan_jax.metrics import (
    birthday_test,
    classifier_test,
    collision_probability,
    energy_test,
    interval_distance,
    interval_test,
    mmd_test,
    neural_distance,
    samples_for_collision,
    support_for_collision,
    support_size,
)
from tests.tiers import full

REPETITIONS = 200
SIZE = 40  # real samples; 37 fakes, so that statistics of counts have few ties


def neural_test(real, fake, seed, **options):
    return neural_distance(real, fake, steps=60, seed=seed, **options).test


TESTS = {  # name: (test of (real, fake, seed), dimensions, shift of every coordinate at which power is > 0.95)
    "classifier, neighbors": (lambda x, y, seed: classifier_test(x, y, seed=seed), 2, 1.6),
    "classifier, logistic": (
        lambda x, y, seed: classifier_test(x, y, classifier="logistic", seed=seed),
        2,
        1.6,
    ),
    "mmd": (lambda x, y, seed: mmd_test(x, y, permutations=199, seed=seed), 2, 0.9),
    "mmd, laplace": (
        lambda x, y, seed: mmd_test(x, y, kernel="laplace", permutations=199, seed=seed),
        2,
        0.9,
    ),
    "mmd, polynomial": (
        lambda x, y, seed: mmd_test(x, y, kernel="polynomial", permutations=199, seed=seed),
        2,
        1.1,
    ),
    "energy": (lambda x, y, seed: energy_test(x, y, permutations=199, seed=seed), 2, 0.9),
    "interval": (lambda x, y, seed: interval_test(x, y, permutations=199, seed=seed), 1, 1.3),
    "neural": (lambda x, y, seed: neural_test(x, y, seed, permutations=199), 2, 1.4),
}


def p_values(test, dimensions, shift, repetitions):
    """P-values over fresh data sets of SIZE standard normal samples against SIZE - 3 shifted ones."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(repetitions):
        real, fake = rng.normal(size=(SIZE, dimensions)), rng.normal(size=(SIZE - 3, dimensions))
        found.append(test(real, fake + shift, seed).p_value)
    return np.array(found)


SLOW = {"classifier, logistic", "mmd, laplace", "mmd, polynomial"}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else full(name) if name == "neural" else name
    for name in TESTS
]


@pytest.mark.parametrize("name", NAMES)
def test_p_values_keep_their_promise(name):
    """200 repetitions under the null: P(p <= a) <= a + 3 standard errors; permutation tests are uniform."""
    test, dimensions, _ = TESTS[name]
    found = p_values(test, dimensions, 0.0, REPETITIONS)
    for level in (0.01, 0.05, 0.1, 0.25, 0.5):
        assert (found <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / REPETITIONS)
    if "classifier" not in name:  # a held-out accuracy has few values, so its p-values have too
        assert stats.kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_power_at_the_stated_shift(name):
    test, dimensions, shift = TESTS[name]
    assert (p_values(test, dimensions, shift, 60) <= 0.05).mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTS)
def test_power_over_all_repetitions(name):
    test, dimensions, shift = TESTS[name]
    assert (p_values(test, dimensions, shift, REPETITIONS) <= 0.05).mean() > 0.95


@pytest.mark.full
def test_a_difference_in_shape_is_found_where_means_agree():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, 2)), 3 * rng.normal(size=(300, 2))
    for test in (classifier_test, mmd_test, energy_test, neural_test):
        extra = {"seed": 0} if test is neural_test else {}
        assert test(x, y, **extra).p_value < 0.01
    assert classifier_test(x, y, classifier="logistic").p_value > 0.01  # blind to it, as its docstring says


def test_classifier_test_is_fishers_exact_test():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 60, 3))
    caught = []

    class Recorded(KNeighborsClassifier):
        def predict(self, samples):
            verdicts = super().predict(samples)
            fake = (samples[:, None] == y + 0.8).all(axis=2).any(axis=1)
            caught.append([[int((verdicts[rows] == v).sum()) for v in (1, 0)] for rows in (fake, ~fake)])
            return verdicts

    found = classifier_test(x, y + 0.8, classifier=Recorded(3), seed=5)
    assert found.details["held_out"] == 60
    table = caught[0]
    assert found.statistic == pytest.approx((table[0][0] + table[1][1]) / 60)
    assert found.p_value == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)
    assert "Recorded" in found.details["classifier"]
    # Sets of different size are cut to one size, so that chance is one half.
    assert classifier_test(x, y[:20]).details["held_out"] == 20


class Halves:
    """Calls the upper half of what it is shown fake: its verdicts depend on each other."""

    def fit(self, samples, labels):
        return self

    def predict(self, samples):
        return (
            np.argsort(np.argsort(samples[:, 0], kind="stable"), kind="stable") >= len(samples) / 2
        ).astype(int)


@pytest.mark.parametrize("size", [4, 8, 20, 40])
def test_a_classifier_that_calls_half_fake_has_valid_p_values(size):
    """Of 2 + 2 held out it is right on all with probability 1 / 6, where four fair coins are so with 1 / 16."""
    rng = np.random.default_rng(11)
    found = np.array(
        [
            classifier_test(*rng.normal(size=(2, size, 1)), classifier=Halves(), seed=seed).p_value
            for seed in range(600)
        ]
    )
    for level in (0.01, 0.05, 0.0625, 0.1, 0.25, 0.5):
        assert (found <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 600)
    if size == 4:
        assert found.min() == pytest.approx(1 / 6)


def test_ties_of_a_classifier_are_not_broken_by_the_order_of_the_sets():
    """Equal samples: what comes first is called real, and that is no difference of the sets."""
    found = [
        classifier_test(np.zeros(40), np.zeros(40), classifier=Halves(), seed=s).p_value for s in range(50)
    ]
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 50)


def test_mmd_is_the_unbiased_definition_with_the_median_bandwidth():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(9, 3)) + 1
    pooled = np.concatenate([x, y])
    width = np.median([np.linalg.norm(a - b) for a, b in itertools.combinations(pooled, 2)])
    k = rbf_kernel(pooled, gamma=1 / (2 * width**2))
    xx, yy, xy = k[:12, :12], k[12:, 12:], k[:12, 12:]
    expected = (xx.sum() - 12) / (12 * 11) + (yy.sum() - 9) / (9 * 8) - 2 * xy.mean()
    found = mmd_test(x, y)
    assert found.statistic == pytest.approx(expected)
    assert found.details["bandwidth"] == pytest.approx(width)
    assert found.details["kernel"] == "gaussian"


def test_energy_distance_is_scipys():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=30), rng.exponential(size=44)
    assert energy_test(x, y).statistic == pytest.approx(stats.energy_distance(x, y) ** 2)


def test_permutation_p_value_equals_scipys():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=4), rng.normal(size=4) + 0.8

    def statistic(a, b):
        return stats.energy_distance(a, b) ** 2

    exact = stats.permutation_test((x, y), statistic, n_resamples=np.inf, alternative="greater").pvalue
    found = energy_test(x, y, permutations=20_000).p_value
    assert abs(found - exact) < 4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4


def brute_force_intervals(x, y, intervals):
    """All unions of at most so many runs of the sorted distinct points."""
    points = np.unique(np.concatenate([x, y]))
    mass = np.array([(x == p).mean() - (y == p).mean() for p in points])
    best = 0.0
    for chosen in itertools.product([0, 1], repeat=len(points)):
        runs = sum(1 for i, c in enumerate(chosen) if c and (i == 0 or not chosen[i - 1]))
        if runs <= intervals:
            best = max(best, abs(mass @ chosen))
    return best


@pytest.mark.parametrize("intervals", [1, 2, 3])
def test_interval_distance_is_the_brute_force_supremum(intervals):
    rng = np.random.default_rng(6)
    for _ in range(5):
        x, y = rng.integers(8, size=9).astype(float), rng.integers(8, size=6).astype(float)
        expected = brute_force_intervals(x, y, intervals)
        assert interval_distance(x, y, intervals=intervals) == pytest.approx(expected)
    assert interval_distance([0.0, 1.0, 2.0], [2.0, 1.0, 0.0], intervals=intervals) == 0


def test_odd_and_even_are_near_for_intervals_and_far_for_unions():
    odd, even = np.arange(1, 41, 2), np.arange(2, 41, 2)
    assert interval_distance(odd, even) == pytest.approx(1 / 20)
    assert interval_distance(odd, even, intervals=5) == pytest.approx(5 / 20)
    assert interval_distance(odd, even, intervals=20) == pytest.approx(1.0)
    assert interval_test(odd, even).p_value > 0.9


def test_more_intervals_keep_the_promise_too():
    rng = np.random.default_rng(7)
    found = []
    for seed in range(200):
        x, y = rng.normal(size=30), rng.normal(size=29)
        found.append(interval_test(x, y, intervals=3, permutations=99, seed=seed).p_value)
    assert stats.kstest(found, "uniform").pvalue > 0.01


# --- the birthday paradox -----------------------------------------------------------------------------------


def test_the_birthday_numbers():
    assert collision_probability(365, 23) == pytest.approx(0.5072972343)  # the textbook's
    assert collision_probability(365, 22) < 0.5
    for support in (365, 10_000, 10**9):
        formula = np.ceil(0.5 + np.sqrt(0.25 + 2 * support * np.log(2)))
        assert samples_for_collision(support) == formula
    assert collision_probability(5, 6) == 1
    assert collision_probability(2, 2) == pytest.approx(0.5)
    assert support_for_collision(collision_probability(1234.5, 40), 40) == pytest.approx(1234.5)
    assert support_for_collision(0.0, 10) == np.inf
    assert support_for_collision(1.0, 10) == 9


@pytest.mark.full
def test_the_support_interval_covers():
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(REPETITIONS):
        found = support_size(rng.integers(100, size=(12 * 30, 1)), 12, level=0.9)
        covered += found.low <= 100 <= found.high
        assert found.low <= found.value <= found.high
    assert covered / REPETITIONS >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / REPETITIONS)


@pytest.mark.full
def test_the_birthday_test_is_calibrated_and_finds_half_a_support():
    rng = np.random.default_rng(9)

    def run(points):
        return birthday_test(rng.integers(points, size=(15 * 60, 1)), support=200, batch_size=15).p_value

    null = np.array([run(200) for _ in range(REPETITIONS)])
    for level in (0.01, 0.05, 0.1, 0.25, 0.5):
        assert (null <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / REPETITIONS)
    assert np.mean([run(100) <= 0.05 for _ in range(60)]) > 0.95
    assert np.mean([run(400) <= 0.05 for _ in range(60)]) < 0.05  # a larger support is within the hypothesis


def test_duplicates_within_a_tolerance_and_by_verdict():
    rng = np.random.default_rng(10)
    modes = 10 * rng.normal(size=(50, 2))
    samples = modes[rng.integers(50, size=2000)] + 0.001 * rng.normal(size=(2000, 2))
    assert support_size(samples, 8).hits == 0
    assert support_size(samples, 8).value == np.inf
    near = support_size(samples, 8, tolerance=0.02)
    assert near.low < 50 < near.high
    judged = support_size(samples, 8, duplicate=lambda part: len(np.unique(part.round(), axis=0)) < 8)
    assert judged.low < 50 < judged.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mmd_test(np.full((9, 2), np.nan), np.zeros((9, 2))),
            "real: 18 entries in 9 of 9 samples are NaN",
        ),
        (lambda: mmd_test(np.zeros((1, 2)), np.zeros((9, 2))), "real: needs at least 2 samples, got 1"),
        (lambda: mmd_test(np.zeros((9, 2)), np.zeros((9, 2))), "most pooled samples are equal"),
        (lambda: mmd_test(np.eye(3), np.eye(3), kernel="cubic"), "Unknown kernel 'cubic'"),
        (lambda: mmd_test(np.eye(3), np.eye(3), permutations=9), "cannot reach p = 0.05"),
        (lambda: energy_test(np.zeros((9, 2)), np.zeros((9, 3))), "differ in a sample's shape"),
        (lambda: energy_test(np.zeros((9000, 1)), np.zeros((9000, 1))), "random subset keeps the test valid"),
        (lambda: classifier_test(np.zeros((9, 2), np.uint8), np.zeros((9, 2))), "have different scales"),
        (lambda: classifier_test(np.eye(4), np.eye(4), classifier="forest"), "Unknown classifier 'forest'"),
        (lambda: interval_distance(np.zeros((9, 2)), np.zeros((9, 2))), "needs one dimension"),
        (lambda: support_size(np.zeros((9, 2)), 10), "2 to 9 samples"),
        (lambda: neural_distance(np.zeros((3, 2)), np.zeros((9, 2))), "at least 4 samples, got 3"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
