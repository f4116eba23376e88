"""Numbers of every width are compared as the numbers that they are, or refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import metrics
from gan_jax.evaluation import scoring
from gan_jax.metrics._check import as_samples
from tests.tiers import full_except

OFFSET = 2**25  # float32 holds every second integer from 2^24 on, every fourth from 2^25 on


def integers(dtype):
    rng = np.random.default_rng(0)
    return [(OFFSET + rng.integers(0, 40, size=(n, 3))).astype(dtype) for n in (300, 280)]


METRICS = {
    "frechet": metrics.frechet_distance,
    "sliced": lambda x, y: metrics.sliced_wasserstein(x, y).value,
    "neighbors": lambda x, y: metrics.precision_recall_density_coverage(x, y)["precision"],
    "transport": metrics.wasserstein,
    "energy": lambda x, y: metrics.energy_test(x, y, permutations=19).statistic,
    "classifier": lambda x, y: metrics.classifier_test(x, y).statistic,
    "neural": lambda x, y: metrics.neural_distance(x, y, steps=5, permutations=19).value,
    "extrapolated": lambda x, y: metrics.frechet_extrapolated(x, y).value,
    "interval": lambda x, y: metrics.frechet_interval(x, y, resamples=10).high,
}


@pytest.mark.parametrize("name", full_except([name for name in METRICS if name != "neural"], METRICS))
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.longdouble, np.float64])
def test_an_offset_that_float32_does_not_hold_changes_nothing(name, dtype):
    """All of these are functions of differences."""
    moved = integers(dtype)
    plain = [(side.astype(np.float64) - OFFSET) for side in moved]
    assert METRICS[name](*moved) == pytest.approx(METRICS[name](*plain), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.uint8, np.float32),
        (np.int16, np.float32),
        (np.float16, np.float32),
        (jnp.bfloat16, np.float32),
        (np.float32, np.float32),
        (bool, np.float32),
        (np.int32, np.float64),
        (np.uint64, np.float64),
        (np.float64, np.float64),
        (np.longdouble, np.float64),
    ],
)
def test_the_dtype_that_is_computed_in_holds_what_is_given(given, expected):
    samples = np.array([[0, 1], [1, 1]]).astype(given)
    found = as_samples(samples, "samples", dtype=None)
    assert found.dtype == expected
    np.testing.assert_array_equal(found, [[0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("samples", "dtype", "message"),
    [
        (
            np.array([[2**53 + 1], [0]]),
            np.float64,
            r"integers from 0 to 9007199254740993, .* 9007199254740992",
        ),
        (np.array([[-(2**63)], [0]]), None, "integers from -9223372036854775808 to 0"),
        (np.array([[2**63], [0]], np.uint64), None, "subtract a common offset"),
        (np.array([[2**24 + 1], [0]]), np.float32, "float32 represents only those up to 16777216"),
        (np.array([[1e39], [0]]), np.float32, r"magnitude up to 1e\+39, beyond the range of float32: scale"),
        (np.array([[-1e39], [0]]), np.float32, r"magnitude up to 1e\+39, beyond"),
        (
            np.array([["1e400"], ["0"]]).astype(np.longdouble),
            None,
            r"to 1e\+400, beyond the range of float64",
        ),
        (
            np.array([[2**60], [2**60 + 3]], np.longdouble),
            None,
            "differ by less than float64 represents: subtract",
        ),
        (np.array([[1e9], [1e9 + 1]]), np.float32, "differ by less than float32 represents: subtract"),
        (np.array([[1e200], [0.0]]), None, r"magnitude up to 1e\+200, whose powers float64 cannot"),
        (np.array([[-1e-170], [0.0]]), None, r"magnitude up to 1e-170, whose powers float64 cannot"),
        (np.array([[np.inf], [0]], np.longdouble), None, "1 entries in 1 of 2 samples are NaN or infinite"),
    ],
)
def test_what_a_dtype_does_not_hold_is_refused(samples, dtype, message):
    with pytest.raises(ValueError, match=message):
        as_samples(samples, "samples", dtype=dtype)


def test_a_critic_is_given_no_other_points():
    def critic(x):
        return x[:, 0]

    for points in (np.array([[2**25 + 1], [0]]), np.array([[1e39], [0.0]])):
        with pytest.raises(ValueError, match=r"points: .* float32"):
            metrics.lipschitz_violation(critic, points)
        with pytest.raises(ValueError, match=r"points: .* float32"):
            metrics.kantorovich_rubinstein(points, points, critic)


def test_features_keep_the_extractors_numbers():
    """Integers beyond 2^24 that an extractor returns remain distinct."""
    counts = metrics.from_callable("counts", lambda x: (x[:, 0, 0] + 1).astype(jnp.int32) + 2**24)
    images = np.array([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    np.testing.assert_array_equal(metrics.extract(counts, images).features - 2**24, [[0], [1], [2]])


def test_points_are_compared_in_their_dtype():
    x, y = (side.astype(np.float64) for side in integers(np.int64))
    compare = scoring.against(x, split="points", which=("frechet",))
    assert compare(y).values["frechet"] == pytest.approx(metrics.frechet_distance(x - OFFSET, y - OFFSET))


def test_images_as_bytes_and_as_floats_are_simply_compared():
    """uint8 against [-1, 1] is the pair that people have: real files and a generator's samples."""
    images = np.random.default_rng(3).integers(256, size=(2, 30, 3, 3, 1), dtype=np.uint8)
    real, fake = images
    as_floats = fake / np.float32(127.5) - 1
    both = real / np.float32(127.5) - 1, as_floats
    assert metrics.frechet_distance(real, as_floats) == pytest.approx(metrics.frechet_distance(*both))
    assert metrics.frechet_distance(as_floats, real) == pytest.approx(metrics.frechet_distance(*both))
    with pytest.raises(ValueError, match="different scales"):
        metrics.frechet_distance(real, fake / np.float32(255))  # in [0, 1]
    for sides in ((real, fake / np.float32(255) - 3e-8), (fake / np.float32(255) - 3e-8, real)):
        with pytest.raises(ValueError, match=r"may be \[0, 1\] but for rounding, or \[-1, 1\]: convert both"):
            metrics.frechet_distance(*sides)
    assert metrics.frechet_distance(real, as_floats / 5000) > 1  # an untrained generator's, near grey
    with pytest.raises(ValueError, match="different scales"):
        metrics.frechet_distance(real.reshape(30, 9), as_floats.reshape(30, 9))  # vectors
