"""The Frechet distance against scipy's matrix root, closed forms, and known biases."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from scipy import linalg

from gan_jax.functional.divergences import gaussian_wasserstein_2
from gan_jax.metrics import (
    frechet,
    frechet_distance,
    frechet_extrapolated,
    frechet_interval,
    merge_moments,
    moments,
)
from gan_jax.metrics.frechet import _distance_of_samples, _linear_parts, frechet_bootstrap, trace_sqrt_product
from gan_jax.metrics.gaussians import Gaussian, Moments


def reference(x, y):
    """The formula as pytorch-fid and the original code compute it: scipy's root of the unsymmetric product."""
    p, q = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(p @ q)
    shift = x.mean(0) - y.mean(0)
    return shift @ shift + np.trace(p) + np.trace(q) - 2 * np.trace(np.real(root))


@pytest.mark.parametrize("dimension", [1, 5, 64])
def test_equals_scipys_matrix_root(dimension):
    rng = np.random.default_rng(dimension)
    x = rng.normal(size=(500, dimension)) @ rng.normal(size=(dimension, dimension))
    y = rng.normal(size=(300, dimension)) + 0.5
    expected = (
        reference(x, y)
        if dimension > 1
        else (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    )
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_population_moments_give_the_closed_form():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(2, 4, 4))
    p, q = (f @ f.T + np.eye(4) for f in factors)
    shift = np.array([1.0, 0.0, -2.0, 0.5])
    found = frechet_distance(Moments(101, np.zeros(4), 100 * p), Moments(11, shift, 10 * q))
    assert found == pytest.approx(float(gaussian_wasserstein_2(np.zeros(4), p, shift, q)) ** 2, rel=1e-4)
    diagonal = (
        Moments(11, np.zeros(2), 10 * np.diag([4.0, 9.0])),
        Moments(11, np.zeros(2), 10 * np.diag([1.0, 1.0])),
    )
    assert frechet_distance(*diagonal) == pytest.approx(1.0 + 4.0)


def test_identical_sets_and_a_shift():
    x = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(x, x + np.float32(2.0)) == pytest.approx(8 * 4.0, rel=1e-5)


def test_singular_covariances_and_large_offsets():
    """Ten samples of fifty dimensions: the rank is 9, and a matrix root has nothing to hold on to."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(10, 50)), rng.normal(size=(10, 50))
    # tr (P Q)^1/2 of low-rank covariances is the nuclear norm of the centred data's cross product.
    nuclear = np.linalg.svd((x - x.mean(0)) @ (y - y.mean(0)).T / 9, compute_uv=False).sum()
    p, q = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    assert trace_sqrt_product(p, q) == pytest.approx(nuclear, rel=1e-10)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(p) + np.trace(q) - 2 * nuclear
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(x + 1e6, y + 1e6) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(np.zeros((5, 3)), np.ones((5, 3))) == 3.0


@pytest.mark.parametrize("scale", [1e3, 1e5, 1e6])
def test_coordinates_of_small_scale_count_beside_a_large_one(scale):
    """The stretch S = diag(1, 3, 1) is the optimal map of C to S C S, so the distance is `E |S x - x|^2`."""
    x = np.random.default_rng(0).normal(size=(2000, 3)) * [scale, 1, 1]
    y = x * [1, 3, 1]
    expected = 4 * (x[:, 1].mean() ** 2 + x[:, 1].var(ddof=1))
    turn = linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    rounding = 4e-15 * scale**2
    for first, second in ((x, y), (moments(x), moments(y)), (x @ turn, y @ turn), (x + 1e4, y + 1e4)):
        assert frechet_distance(first, first) == pytest.approx(0, abs=rounding)
        assert frechet_distance(first, second) == pytest.approx(expected, abs=rounding)


def test_fewer_samples_than_dimensions_form_no_covariance(monkeypatch):
    """Of 12,288 pixels a covariance has 1.2 GB; the centred data's cross product has as many rows as samples."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(9, 12288)).astype(np.float32), rng.normal(size=(15, 12288)).astype(np.float32)
    first, second = (side.astype(np.float64) - side.astype(np.float64).mean(0) for side in (x, y))
    nuclear = np.linalg.svd(first @ second.T / np.sqrt(8 * 14), compute_uv=False).sum()
    shift = x.astype(np.float64).mean(0) - y.astype(np.float64).mean(0)
    expected = shift @ shift + (first**2).sum() / 8 + (second**2).sum() / 14 - 2 * nuclear
    monkeypatch.setattr("gan_jax.metrics.frechet.weighted_moments", None)
    monkeypatch.setattr("gan_jax.metrics.gaussians.ROWS", 4)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-10)
    interval = frechet_interval(x, y, resamples=10)
    assert interval.value == frechet_distance(x, y)
    assert frechet_extrapolated(x, y).distances[-1] == frechet_distance(x, y)


def test_a_line_through_two_sizes_has_no_error_and_is_refused():
    x = np.random.default_rng(0).normal(size=(2, 50, 3))
    with pytest.raises(ValueError, match="needs three sizes or more; of 49 to 50 samples 15 points are 2"):
        frechet_extrapolated(*x, smallest=49)
    assert frechet_extrapolated(*x, smallest=48).sizes.tolist() == [48, 49, 50]


@pytest.mark.parametrize("numbers", [(40, 50), (4, 5)], ids=["many", "fewer than dimensions"])
def test_covariances_divide_by_n_or_by_n_less_one(numbers):
    """|m|^2 + tr(P + Q - 2 (P Q)^1/2) with numpy's covariances of either divisor."""
    rng = np.random.default_rng(12)
    x, y = (rng.normal(size=(number, 6)) for number in numbers)
    for ddof in (0, 1):
        p, q = (np.cov(side, rowvar=False, ddof=ddof) for side in (x, y))
        roots = np.sqrt(np.linalg.eigvals(p @ q).real.clip(0)).sum()
        shift = x.mean(0) - y.mean(0)
        expected = shift @ shift + np.trace(p + q) - 2 * roots
        assert frechet_distance(x, y, ddof=ddof) == pytest.approx(expected, rel=1e-6)
        of_moments = frechet_distance(moments(x), moments(y), ddof=ddof)
        assert of_moments == pytest.approx(expected, rel=1e-6)
        assert frechet_distance(Gaussian(x.mean(0), p), y, ddof=ddof) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"ddof is 1 .* or 0"):
        frechet_distance(x, y, ddof=2)


def test_several_sets_of_fakes_share_the_resamples_of_the_real_samples():
    """So the difference of a set from itself drawn otherwise is narrower than that of independent intervals."""
    rng = np.random.default_rng(13)
    real, fake = rng.normal(size=(60, 3)), rng.normal(size=(300, 3)) + 1.0
    single = frechet_bootstrap(real, [fake], resamples=50)
    both = frechet_bootstrap(real, [fake, fake + 0.1], resamples=50)
    value, low, high = both.interval(1, 0.95, against=0)
    assert value == pytest.approx(frechet_distance(real, fake + 0.1) - frechet_distance(real, fake))
    assert low <= value <= high
    widths = [np.subtract(*both.interval(which, 0.95)[:0:-1]) for which in (0, 1)]
    assert high - low < 0.5 * np.hypot(*widths)
    found = frechet_interval(real, fake, resamples=50)
    assert single.interval(0, 0.95)[1:] == pytest.approx((found.low, found.high))
    wide = frechet_bootstrap(real, [fake, fake], method="linear")
    assert wide.draws.shape == (2, 20_000)
    assert np.corrcoef(wide.draws)[0, 1] > 0.5


def test_one_small_set_against_a_large_one_is_the_formula_of_the_moments(monkeypatch):
    monkeypatch.setattr("gan_jax.metrics.gaussians.ROWS", 16)
    rng = np.random.default_rng(4)
    few, many = rng.normal(size=(10, 20)), rng.normal(size=(50, 20)) + 0.3
    assert frechet_distance(few, many) == pytest.approx(
        frechet_distance(moments(few), moments(many)), rel=1e-10
    )
    counts = rng.integers(1, 4, size=10), rng.integers(0, 3, size=50)
    repeated = (np.repeat(side, count, axis=0) for side, count in zip((few, many), counts, strict=True))
    assert _distance_of_samples(few, many, counts) == pytest.approx(
        frechet_distance(*map(moments, repeated)), rel=1e-10
    )


def test_moments_merge_in_any_order_and_partition(monkeypatch):
    monkeypatch.setattr("gan_jax.metrics.gaussians.ROWS", 7)
    x = np.random.default_rng(3).normal(size=(40, 3)) + 5
    whole = moments(x)
    np.testing.assert_allclose(whole.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(whole.covariance, np.cov(x, rowvar=False), rtol=1e-12)
    parts = [moments(part) for part in np.array_split(x, [1, 5, 30])]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        merged = merge_moments(*(parts[i] for i in order))
        assert merged.number == 40
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-12, atol=1e-11)
    assert frechet_distance(whole, x) == pytest.approx(0, abs=1e-12)


PROCESS = """
import sys
import jax
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", num_processes=2, process_id=int(sys.argv[2]))
import numpy as np
from gan_jax.metrics import merge_across_processes, moments
x = np.random.default_rng(0).normal(size=(30, 3)) + 1e3
part = np.split(x, [11])[int(sys.argv[2])]
merged = merge_across_processes(moments(part))
assert merged.number == 30
np.testing.assert_allclose(merged.mean, x.mean(0), rtol=1e-14)
np.testing.assert_allclose(merged.covariance, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-12)
print(merged.scatter.tobytes().hex())
"""


@pytest.mark.slow
def test_two_processes_get_the_same_moments_in_float64():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": os.getcwd()}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, port, str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    scatters = {output.split()[-1] for output, _ in outputs}
    assert len(scatters) == 1


@pytest.mark.full
@pytest.mark.parametrize("method", ["full", "linear"])
def test_the_interval_covers_although_the_value_is_biased(method, monkeypatch):
    """Normal sets in four dimensions, a shift of 1: the truth is 1; nominal 90 %, 100 repetitions."""
    monkeypatch.setattr("gan_jax.metrics.frechet._CHEAP_DRAWS", 300)
    rng = np.random.default_rng(4)
    shift = np.array([1.0, 0, 0, 0])
    resamples = {"full": 60, "linear": 10}[method]
    covered, values = 0, []
    for seed in range(100):
        x, y = rng.normal(size=(80, 4)), rng.normal(size=(80, 4)) + shift
        found = frechet_interval(x, y, resamples=resamples, level=0.9, seed=seed, method=method)
        covered += found.low <= 1 <= found.high
        values.append(found.value)
    assert covered >= 90 - 3 * 3  # 3 standard errors of a binomial share
    assert np.mean(values) > 1.05  # the bias that the interval takes off


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize(("shift", "scale"), [(0.3, 1.0), (1.0, 1.0), (0.0, 1.5)])
def test_the_interval_covers_in_few_dimensions(dimension, shift, scale):
    """The truth is shift^2 + D (scale - 1)^2; nominal 95 %, 300 repetitions of 200 samples."""
    rng = np.random.default_rng(9)
    truth, covered = shift**2 + dimension * (scale - 1) ** 2, 0
    for seed in range(300):
        x, y = rng.normal(size=(200, dimension)), scale * rng.normal(size=(200, dimension))
        y[:, 0] += shift
        found = frechet_interval(x, y, seed=seed)
        covered += found.low <= truth <= found.high
    assert covered / 300 >= 0.93 - 3 * np.sqrt(0.93 * 0.07 / 300)


@pytest.mark.full
def test_the_linear_interval_reaches_zero_where_the_distributions_are_equal():
    """Then the distance has no first order, and all of its spread is in the remainders."""
    rng = np.random.default_rng(6)
    covered, highs = 0, []
    for seed in range(60):
        x, y = rng.normal(size=(2, 200, 4))
        found = frechet_interval(x, y, level=0.9, seed=seed, method="linear")
        covered += found.low == 0
        highs.append(found.high)
    assert covered >= 54 - 3 * 2.33
    assert np.mean(highs) < 0.1


def test_the_linear_part_is_the_derivative_by_one_samples_weight():
    """Of (1 - e) P + e delta_x at e = 0, by central differences; moments with the divisor N."""
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 3)), rng.normal(size=(40, 3)) + 1
    sides = [Moments(2, side.mean(0), np.cov(side, rowvar=False, ddof=0)) for side in (x, y)]
    parts = _linear_parts(x, y, *(side.gaussian() for side in sides))

    def moved(side, samples, sample, e):
        gap = samples[sample] - side.mean
        scatter = (1 - e) * side.scatter + e * (1 - e) * np.outer(gap, gap)
        return Moments(2, side.mean + e * gap, scatter)

    for sample in (0, 7):
        up, down = (frechet_distance(moved(sides[0], x, sample, e), sides[1]) for e in (1e-5, -1e-5))
        assert parts[0][sample] == pytest.approx((up - down) / 2e-5, rel=1e-5)
        up, down = (frechet_distance(sides[0], moved(sides[1], y, sample, e)) for e in (1e-5, -1e-5))
        assert parts[1][sample] == pytest.approx((up - down) / 2e-5, rel=1e-5)


@pytest.mark.full
def test_the_linear_interval_is_asked_for_or_taken_where_it_pays():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, 600, 256))
    assert frechet_interval(x, y) == frechet_interval(x, y, method="linear")
    scaled = x[:, :3] * [1e5, 1, 1]  # regular, though its eigenvalues differ by a factor of 1e10
    assert frechet_interval(scaled, scaled + 1, method="linear").value == pytest.approx(3.0, rel=1e-3)
    singular = np.pad(rng.normal(size=(50, 2)), ((0, 0), (0, 1)))
    with pytest.raises(ValueError, match="use method='full'"):
        frechet_interval(singular, singular + 1, method="linear")
    with pytest.raises(ValueError, match="'auto', 'full' or 'linear', got 'fast'"):
        frechet_interval(x, y, method="fast")


def test_extrapolation_takes_the_bias_off():
    """Equal distributions, so the truth is 0; the plain distance is D (D + 3) / (4 N) and more above it."""
    rng = np.random.default_rng(5)
    runs = []
    for seed in range(30):
        x, y = rng.normal(size=(2, 400, 8))
        runs.append((frechet_distance(x, y), frechet_extrapolated(x, y, seed=seed).value))
    plain, extrapolated = np.mean(runs, axis=0)
    error = np.std(runs, axis=0)[1] / np.sqrt(30)
    assert plain > 0.08
    assert abs(extrapolated) < max(4 * error, 0.1 * plain)


def test_extrapolation_recovers_a_line():
    found = frechet_extrapolated(np.zeros((50, 2)), np.ones((50, 2)))
    assert found.value == pytest.approx(2.0)
    assert found.slope == pytest.approx(0, abs=1e-9)
    fixed = frechet_extrapolated(moments(np.zeros((50, 2))), np.ones((40, 2)), points=5)
    assert fixed.value == pytest.approx(2.0)
    assert fixed.sizes[-1] == 40


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "real: 10 entries in 5 of 5 samples are NaN"),
        (np.zeros((5, 2)), np.zeros((1, 2)), "fake: needs at least 2 samples, got 1"),
        (np.zeros((5, 2)), np.zeros((5, 3)), "differ in a sample's shape"),
        (np.zeros((5, 2), np.uint8), np.zeros((5, 2), np.float32), "uint8 and fake has dtype float32"),
        (
            Moments(1, np.zeros(2), np.zeros((2, 2))),
            np.zeros((5, 2)),
            "at least 2 samples, these moments have 1",
        ),
        (Moments(9, np.zeros(3), np.eye(3)), np.zeros((5, 2)), "real has 3 dimensions and fake 2"),
    ],
)
def test_bad_input_is_named(real, fake, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(real, fake)


@pytest.mark.parametrize("number", [8, 40])
def test_resamples_against_statistics_take_their_root_once(monkeypatch, number):
    """With 784 dimensions and 20 samples each of a hundred resamples decomposed two covariances of 784 x 784."""
    rng = np.random.default_rng(0)
    fitted = frechet.moments(rng.normal(size=(100, 12)) * np.arange(1, 13)).gaussian(1)
    fake = rng.normal(size=(number, 12)) + 1
    roots = []
    root = frechet._root
    monkeypatch.setattr(frechet, "_root", lambda covariance: roots.append(1) or root(covariance))
    drawn = frechet.gaussian_bootstrap(fitted, [fake], resamples=30, seed=3)
    # Two of the value; the statistics' own; with more samples than dimensions one of each resample.
    assert len(roots) == (3 if number < 12 else 33)
    assert drawn.draws.shape == (1, 30)
    assert np.isfinite(drawn.draws).all()
    monkeypatch.undo()
    counts = np.random.default_rng(3)
    for draw in drawn.draws[0][:3]:
        again = np.repeat(fake, frechet._counts(fake, counts).astype(int), axis=0)
        assert draw == pytest.approx(frechet.frechet_distance(fitted, again), rel=1e-9)
