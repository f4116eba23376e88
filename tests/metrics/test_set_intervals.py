"""Intervals of scores of sets and of their differences: derivatives, closed forms and coverage."""

import numpy as np
import pytest

from gan_jax.metrics import classifier_score, monge_distance, pixels, wasserstein_1d
from gan_jax.metrics.estimate import Bootstrap
from gan_jax.metrics.features import Features
from gan_jax.metrics.monge import _influences, _potential, monge_bootstrap
from gan_jax.metrics.paired import Real, Settings, paired_scores
from gan_jax.metrics.score import score_bootstrap
from gan_jax.metrics.summaries import Summary

REPETITIONS = 200


def summary(features, logits=None):
    made = Features(np.asarray(features), logits, "float", pixels())
    return Summary(len(features), made, None, {})


def scores(which, real, *fakes, **settings):
    found = paired_scores(Real(real), fakes, [which], Settings(**settings))
    assert not found.left_out, found.left_out
    (measured,) = found.measured.values()
    return measured


def covered(intervals, truth):
    return np.mean([low <= truth <= high for _, low, high in intervals])


@pytest.mark.parametrize("number", [7, 10])
def test_the_potential_is_the_derivative_of_the_squared_distance(number):
    rng = np.random.default_rng(number)
    x, y = np.sort(rng.normal(size=7)), np.sort(rng.normal(1.5, 2.0, size=number))
    potential, step = _potential(x, y), 1e-4
    for place in range(7):
        # A weight that grows takes its share from all others; with equal sizes the derivative has two sides.
        sides = []
        for change in (step, -step):
            weights = np.full(7, 1 / 7)
            weights[place] += change
            sides.append(wasserstein_1d(x, y, 2, real_weights=weights / (1 + change)) ** 2)
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(potential[place], abs=0.02)


def test_a_shift_moves_the_squared_distance_by_each_samples_place():
    x = np.random.default_rng(0).normal(size=(50, 1))
    value, of_x, of_y = _influences(x, x + 3, np.ones((1, 1)))
    assert value == pytest.approx(9)
    np.testing.assert_allclose(of_x, -6 * (x[:, 0] - x.mean()), atol=1e-12)
    np.testing.assert_allclose(of_y, 6 * (x[:, 0] - x.mean()), atol=1e-12)


def test_the_bootstrap_of_the_monge_distance_has_its_value_and_shares_the_real_resamples():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(60, 3))
    near = rng.normal(size=(40, 3)) + 1
    drawn = monge_bootstrap(real, [near, near + 0.2], directions=20, seed=5)
    assert drawn.values[0] == pytest.approx(float(monge_distance(real, near, directions=20, seed=5)))
    widths = [np.ptp(drawn.interval(place, 0.95)[1:]) for place in (0, 1)]
    _, low, high = drawn.interval(0, 0.95, against=1)
    assert high - low < min(widths) * 2**0.5


@pytest.mark.parametrize("resamples", [5, 10, 20, 100])
def test_an_interval_of_few_resamples_covers_as_it_says(resamples):
    """Draws with standard deviation 1 and bias .5 about a value that has them too; the truth is 0."""
    rng = np.random.default_rng(resamples)
    values = 0.5 + rng.normal(size=4000)
    draws = values[:, None] + 0.5 + rng.normal(size=(4000, resamples))
    drawn = Bootstrap(values, draws, 10_000)
    assert covered([drawn.interval(k, 0.95) for k in range(4000)], 0) == pytest.approx(0.95, abs=0.012)
    # Of a difference, whose draws have twice the variance.
    pairs = [drawn.interval(k, 0.95, against=k + 1) for k in range(0, 4000, 2)]
    assert covered(pairs, 0) == pytest.approx(0.95, abs=0.017)


@pytest.mark.slow
def test_the_monge_interval_covers_a_shift_three_times_its_square():
    found = []
    for repetition in range(80):
        rng = np.random.default_rng(repetition)
        real, fake = rng.normal(size=(100, 2)), rng.normal(size=(80, 2)) + np.array([0.6, 0.0])
        found.append(monge_bootstrap(real, [fake], directions=50, seed=repetition).interval(0, 0.95))
    # The directions are held fixed, so their own spread is beyond the interval.
    assert 0.88 <= covered(found, 3 * 0.36) <= 0.99


def test_subsets_have_the_interval_of_the_blocks_where_all_are_the_same():
    rng = np.random.default_rng(2)
    real, fake = summary(rng.normal(size=(100, 3))), summary(rng.normal(size=(100, 3)) + 1)
    subsets, blocks = (scores(which, real, fake) for which in ("kernel_subsets", "kernel"))
    assert np.ptp(subsets.bounds[0][1:]) == pytest.approx(np.ptp(blocks.bounds[0][1:]))
    assert subsets.difference(0, 0) is not None


@pytest.mark.full
def test_the_interval_of_overlapping_subsets_covers_the_kernel_distance(monkeypatch):
    """(1 + x y)^3 has the squared MMD `3 (m_1 - n_1)^2 + 3 (m_2 - n_2)^2 + (m_3 - n_3)^2` of moments m, n."""
    from gan_jax.metrics import paired
    from gan_jax.metrics.kernel import subset_estimates

    monkeypatch.setattr(
        paired, "subset_estimates", lambda x, y, seed: subset_estimates(x, y, subsets=20, size=50, seed=seed)
    )
    found, differences = [], []
    for repetition in range(REPETITIONS):
        rng = np.random.default_rng(repetition)
        real = summary(rng.normal(size=(400, 1)))
        fakes = summary(rng.normal(1.0, 1.0, size=(400, 1))), summary(rng.normal(0.5, 1.0, size=(300, 1)))
        measured = scores("kernel_subsets", real, *fakes, seed=repetition)
        found.append(measured.bounds[0])
        differences.append(measured.difference(0, 1))
    first = 3 + 3 + 16
    second = 3 * 0.5**2 + 3 * 0.25**2 + (0.5**3 + 3 * 0.5) ** 2
    assert 0.9 <= covered(found, first) <= 1
    assert 0.9 <= covered(differences, first - second) <= 1


def logits(rng, number):
    return 2.0 * rng.normal(size=(number, 3)) + 3.0 * np.eye(3)[rng.integers(3, size=number)]


def test_a_single_split_has_resamples_and_several_sets_are_independent():
    rng = np.random.default_rng(3)
    parts = [logits(rng, 300), logits(rng, 200) * 0.2]
    fakes = [summary(np.zeros((len(part), 1)), part) for part in parts]
    measured = scores("score_contiguous", fakes[0], *fakes)
    for part, (value, low, high) in zip(parts, measured.bounds, strict=True):
        assert value == pytest.approx(classifier_score(part, splits=1, seed=None).mean)
        assert low < high
    value, low, high = measured.difference(0, 1)
    assert low > 0
    widths = [np.ptp(bounds[1:]) for bounds in measured.bounds]
    assert high - low == pytest.approx(np.hypot(*widths))


def certain(rng, number):
    """Predictions certain of a class k in 1 to 30 of probability ~ 1 / k: the score is exp of its entropy."""
    shares = 1 / np.arange(1, 31)
    return 40.0 * np.eye(30)[rng.choice(30, size=number, p=shares / shares.sum())]


def test_intervals_of_the_score_are_without_the_bias_of_its_splits():
    """Splits of 30 samples score too low, and their spread does not show it: not where the truth is covered, nor in
    the difference 0 of two sets of one distribution, one of which has more samples."""
    shares = 1 / np.arange(1, 31)
    shares /= shares.sum()
    truth = np.exp(-(shares * np.log(shares)).sum())
    found, differences = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parts = [certain(rng, 300), certain(rng, 1000)]
        fakes = [summary(np.zeros((len(part), 1)), part) for part in parts]
        measured = scores("score", fakes[0], *fakes)
        found.append(measured.bounds[0])
        differences.append(measured.difference(0, 1))
        assert measured.bounds[0][0] == pytest.approx(classifier_score(parts[0], splits=10).mean)
        assert all(1 <= low < high <= 30 for _, low, high in measured.bounds)
    assert covered(found, truth) >= 0.8
    assert covered(differences, 0.0) >= 0.8


@pytest.mark.full
def test_the_interval_of_a_single_split_covers_the_score():
    rng = np.random.default_rng(4)
    truth = classifier_score(logits(rng, 400_000), splits=1).mean
    found = [
        score_bootstrap([logits(np.random.default_rng(k), 200)], seed=k).interval(0, 0.95)
        for k in range(REPETITIONS)
    ]
    assert 0.9 <= covered(found, truth) <= 0.99


BALLS = "precision", "recall", "density", "coverage"


@pytest.mark.full
@pytest.mark.parametrize(("dimensions", "scale"), [(2, 0.5), (8, 1.0)])
def test_intervals_of_precision_and_recall_cover_what_new_samples_of_both_sides_give(dimensions, scale):
    """The truth is the mean over all repetitions; two sets of one generator differ by 0."""
    found, differences = [], []
    for repetition in range(REPETITIONS):
        rng = np.random.default_rng(repetition)
        real = summary(rng.normal(size=(150, dimensions)))
        fakes = [summary(scale * rng.normal(size=(number, dimensions))) for number in (120, 120)]
        measured = paired_scores(
            Real(real), fakes, ["neighbors"], Settings(neighbors=3, seed=repetition)
        ).measured
        found.append([each.bounds[0] for each in measured.values()])
        differences.append([each.difference(0, 1) for each in measured.values()])
    for place, name in enumerate(BALLS):
        intervals = [bounds[place] for bounds in found]
        assert covered(intervals, np.mean([value for value, _, _ in intervals])) >= 0.92, name
        assert covered([bounds[place] for bounds in differences], 0) >= 0.92, name


def test_a_difference_of_recall_has_the_spread_of_the_fakes_too():
    """Twelve pairs of sets of one generator: hardly one differs by more than its 95 % interval says."""
    outside = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        real, first, second = (summary(scale * rng.normal(size=(100, 2))) for scale in (1.0, 0.5, 0.5))
        measured = paired_scores(Real(real), [first, second], ["neighbors"], Settings(neighbors=3, seed=seed))
        (recall,) = (each for name, each in measured.measured.items() if name.startswith("recall"))
        _, low, high = recall.difference(0, 1)
        outside += not low <= 0 <= high
    assert outside <= 2


def test_sets_whose_halves_have_no_kth_neighbour_have_no_interval_of_precision_and_recall():
    rng = np.random.default_rng(0)
    few, enough = summary(rng.normal(size=(7, 2))), summary(rng.normal(size=(8, 2)))
    for fake, number in ((few, 0), (enough, 4)):
        found = paired_scores(Real(enough), [fake, fake], ["neighbors"], Settings(neighbors=3)).measured
        assert sum(np.isfinite(each.bounds[0]).all() for each in found.values()) == number
        for each in found.values():
            assert np.isfinite(each.bounds[0][0])
            assert "each half" in each.without
            assert (each.difference(0, 1) is None) == (number == 0)
