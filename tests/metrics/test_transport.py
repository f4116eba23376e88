"""Transport against POT, scipy and closed forms."""

import numpy as np
import ot
import pytest
from scipy import stats

from gan_jax.metrics import sliced_wasserstein, transport, wasserstein, wasserstein_1d


@pytest.fixture
def clouds():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)), 0.5 * rng.normal(size=(60, 3)) + 1.0


@pytest.mark.parametrize("order", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("solver", ["auto", "pot", "assignment", "linear"])
def test_every_solver_finds_pots_optimum(clouds, order, solver):
    cost = ot.dist(*clouds, metric="euclidean") ** order
    expected = ot.emd2(np.full(60, 1 / 60), np.full(60, 1 / 60), cost) ** (1 / order)
    assert wasserstein(*clouds, order, solver=solver) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("solver", ["pot", "linear"])
def test_weights_and_unequal_sizes(clouds, solver):
    x, y = clouds[0], clouds[1][:37]
    p, q = np.linspace(1, 2, 60), np.linspace(3, 1, 37)
    expected = ot.emd2(p / p.sum(), q / q.sum(), ot.dist(x, y, metric="euclidean"))
    found = wasserstein(x, y, 1, real_weights=p, fake_weights=q, solver=solver)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-25, 1e-13, 1e-7, 1e25])
@pytest.mark.parametrize("solver", ["pot", "assignment", "linear"])
def test_a_distance_has_the_scale_of_its_samples(clouds, solver, scale):
    """The solvers' tolerances are absolute: costs of 1e-7 are all equally good to HiGHS, and of 1e-15 to POT."""
    x, y = clouds[0][:40], clouds[1][:40]
    expected = wasserstein(x, y, solver="assignment")
    assert wasserstein(scale * x, scale * y, solver=solver) / scale == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("solver", ["pot", "linear"])
def test_points_that_both_sets_have_far_away_cost_nothing(clouds, solver):
    """Also where one set is the other and a step of 1e-9."""
    far = np.array([[1e9, 0.0, 0.0]])
    expected = wasserstein(*clouds, solver="assignment") * 60 / 61
    found = wasserstein(*(np.concatenate([side, far]) for side in clouds), solver=solver)
    assert found == pytest.approx(expected, rel=1e-6)
    step = clouds[0] + np.array([0.0, 0.0, 1e-9])
    assert wasserstein(clouds[0], step, solver=solver) == pytest.approx(1e-9, rel=1e-5)


def test_without_pot_scipy_serves(clouds, monkeypatch):
    expected = wasserstein(*clouds), wasserstein(clouds[0], clouds[1][:37])
    monkeypatch.setattr(transport, "_pot", lambda: None)
    assert wasserstein(*clouds) == pytest.approx(expected[0], rel=1e-9)
    assert wasserstein(clouds[0], clouds[1][:37]) == pytest.approx(expected[1], rel=1e-9)
    with pytest.raises(ValueError, match="needs the POT package"):
        wasserstein(*clouds, solver="pot")


@pytest.mark.parametrize("order", [0.5, 17, float("inf"), float("nan")])
def test_an_order_whose_powers_are_lost_is_refused(clouds, order):
    """The network simplex gives 2.717 for a shift of length 1.414 at order 32: costs are below its tolerance."""
    for distance in (wasserstein, sliced_wasserstein):
        with pytest.raises(ValueError, match="an order from 1 to 16"):
            distance(clouds[0], clouds[0] + 1, order)
    with pytest.raises(ValueError, match="an order from 1 to 16"):
        wasserstein_1d([0.0, 1.0], [3.0, 4.0], order)


def test_the_largest_order_is_exact_enough(clouds):
    x = clouds[0]
    assert wasserstein(x, x + np.array([3.0, 4.0, 0.0]), 16) == pytest.approx(5.0, rel=1e-6)
    assert wasserstein_1d([0.0, 1.0], [3.0, 4.0], 16) == pytest.approx(3.0, rel=1e-12)


def test_a_direction_without_a_length_is_refused(clouds):
    with pytest.raises(ValueError, match="some all entries are 0"):
        sliced_wasserstein(*clouds, projections=np.eye(3)[:, :2] * [1.0, 0.0])


def test_a_shift_is_its_length_and_equal_sets_are_at_zero(clouds):
    x = clouds[0]
    shift = np.array([3.0, 4.0, 0.0])
    for order in (1, 2):
        assert wasserstein(x, x + shift, order) == pytest.approx(5.0)
        assert wasserstein(x, x[::-1], order) == pytest.approx(0.0, abs=1e-7)
        # E <shift, u>^2 = |shift|^2 / 3 over directions u on the sphere of three dimensions.
    found = sliced_wasserstein(x, x + shift, 2, projections=4000)
    assert abs(found.value - 5 / np.sqrt(3)) < 4 * found.standard_error
    assert found.standard_error < 0.05
    assert sliced_wasserstein(x, x[::-1]).value == 0


def test_the_line_against_scipy_and_pot():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=50), rng.exponential(size=83)
    p, q = rng.uniform(size=50), rng.uniform(size=83)
    assert wasserstein_1d(x, y) == pytest.approx(stats.wasserstein_distance(x, y))
    assert wasserstein_1d(x, y, real_weights=p, fake_weights=q) == pytest.approx(
        stats.wasserstein_distance(x, y, p, q)
    )
    squared = ot.emd2_1d(x, y, p / p.sum(), q / q.sum(), metric="sqeuclidean")
    found = wasserstein_1d(x, y, 2, real_weights=p, fake_weights=q)
    assert found == pytest.approx(np.sqrt(squared))
    assert wasserstein_1d(x, y, 2) == pytest.approx(wasserstein(x, y, 2))


@pytest.mark.parametrize(("number", "other"), [(40, 40), (40, 57)])
def test_sliced_equals_pot_on_the_same_directions(number, other):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(number, 5)), rng.normal(size=(other, 5)) + 0.3
    directions = ot.sliced.get_random_projections(5, 64, seed=3)
    for order in (1, 2):
        expected = ot.sliced_wasserstein_distance(x, y, projections=directions, p=order)
        assert sliced_wasserstein(x, y, order, projections=directions).value == pytest.approx(expected)


def test_sliced_standard_error_is_the_spread_over_seeds():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 4)) * [1.0, 2.0, 0.5, 1.0]
    runs = [sliced_wasserstein(x, y, projections=100, seed=seed) for seed in range(200)]
    spread = np.std([run.value for run in runs])
    assert np.mean([run.standard_error for run in runs]) == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3)), {}, "differ in a sample's shape"),
        (
            np.full((3, 2), np.inf),
            np.zeros((3, 2)),
            {},
            "real: 6 entries in 3 of 3 samples are NaN or infinite",
        ),
        (np.zeros((3, 2), np.uint8), np.zeros((3, 2)), {}, "have different scales"),
        (np.zeros((3, 2)), np.zeros((3, 2)), {"order": 0.5}, "an order from 1 to 16"),
        (np.zeros((3, 2)), np.zeros((3, 2)), {"solver": "sinkhorn"}, "Unknown solver"),
        (np.zeros((3, 2)), np.zeros((2, 2)), {"solver": "assignment"}, "equally many samples"),
        (np.zeros((3, 2)), np.zeros((3, 2)), {"real_weights": [1, 1]}, "weights are 3 numbers"),
        (np.zeros((20_000, 2)), np.zeros((20_000, 2)), {}, "sliced_wasserstein"),
    ],
)
def test_bad_input_is_named(real, fake, options, message):
    with pytest.raises(ValueError, match=message):
        wasserstein(real, fake, **options)
