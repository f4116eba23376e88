"""Toys against the closed forms of their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn import datasets

from gan_jax.data import DataError, toy

N = 20_000


def nearest_mode(points, means):
    return np.linalg.norm(points[:, None] - means[None], axis=-1).argmin(1)


def test_ring_has_eight_distinct_modes_an_eighth_turn_apart():
    """The well-known linspace(0, 2 pi, 8) makes seven: its last mode lies on its first."""
    means = toy.ring(modes=8, radius=2.0).means
    assert len(np.unique(means.round(4), axis=0)) == 8
    angles = np.arctan2(means[:, 1], means[:, 0]) % (2 * np.pi)
    np.testing.assert_allclose(np.exp(1j * angles), np.exp(2j * np.pi * np.arange(8) / 8), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    "made", [toy.ring(), toy.ring(scale=1.414), toy.grid(), toy.grid(scale=2.828)], ids=lambda t: len(t.means)
)
def test_samples_have_the_stated_means_and_standard_deviation(made):
    """Per mode, n about N / K: the mean errs by sigma / sqrt(n), the deviation by sigma / sqrt(4 n); 5 of them."""
    points = np.asarray(made.sample(jax.random.key(0), N))
    assert points.shape == (N, 2)
    assert points.dtype == np.float32
    mode = nearest_mode(points, made.means)
    counts = np.bincount(mode, minlength=len(made.means))
    # Multinomial: 5 standard deviations around equal shares.
    share = N / len(made.means)
    assert np.abs(counts - share).max() < 5 * np.sqrt(share)
    for k, mean in enumerate(made.means):
        own = points[mode == k]
        np.testing.assert_allclose(own.mean(0), mean, atol=5 * made.sigma / np.sqrt(len(own)))
        np.testing.assert_allclose((own - mean).std(), made.sigma, rtol=5 / np.sqrt(4 * len(own)))


def test_published_scales():
    """WGAN-GP divides radius 2 by 1.414 and spacing 2 by 2.828, the widths too."""
    np.testing.assert_allclose(toy.ring(scale=1.414).means[0], [2 / 1.414, 0], atol=1e-6)
    assert toy.ring(scale=1.414).sigma == pytest.approx(0.02 / 1.414)
    xs = np.unique(toy.grid(scale=2.828).means[:, 0])
    np.testing.assert_allclose(xs, np.array([-4, -2, 0, 2, 4]) / 2.828, rtol=1e-6)
    assert len(np.unique(toy.grid().means, axis=0)) == 25


def test_mixture_1d_follows_its_weights_and_density():
    made = toy.mixture_1d(means=(-1.0, 2.0), sigma=(0.1, 0.5), weights=(0.25, 0.75))
    points = np.asarray(made.sample(jax.random.key(1), N))[:, 0]
    left = points < 0
    assert left.mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / N))
    assert points[left].std() == pytest.approx(0.1, rel=5 / np.sqrt(2 * left.sum()))
    x = np.linspace(-2, 4, 7)
    expected = 0.25 * scipy.stats.norm.pdf(x, -1, 0.1) + 0.75 * scipy.stats.norm.pdf(x, 2, 0.5)
    got = np.exp(made.log_prob(jnp.asarray(x, jnp.float32)[:, None]))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-30)


def test_log_prob_in_two_dimensions_is_the_mixtures():
    made = toy.gaussian_mixture([[0.0, 0.0], [1.0, 2.0]], sigma=0.5)
    x = np.array([[0.3, -0.2], [1.0, 2.0]])
    expected = [
        np.log(np.mean([scipy.stats.multivariate_normal.pdf(p, m, 0.25 * np.eye(2)) for m in made.means]))
        for p in x
    ]
    np.testing.assert_allclose(made.log_prob(jnp.asarray(x, jnp.float32)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("made", "reference"),
    [
        (toy.swiss_roll(), datasets.make_swiss_roll(N, noise=0.25, random_state=0)[0][:, [0, 2]] / 7.5),
        (toy.two_moons(noise=0.1), datasets.make_moons(N, noise=0.1, random_state=0)[0]),
    ],
    ids=["swiss_roll", "two_moons"],
)
def test_same_law_as_scikit_learn(made, reference):
    """Two-sample Kolmogorov-Smirnov on several projections; seeded, and a 2 % shift would fail it."""
    points = np.asarray(made.sample(jax.random.key(2), N))
    for direction in ([1, 0], [0, 1], [0.6, 0.8], [-0.8, 0.6]):
        direction = np.array(direction)
        assert scipy.stats.ks_2samp(points @ direction, reference @ direction).pvalue > 1e-3


def test_parallel_line_lies_at_theta():
    points = np.asarray(toy.parallel_lines(0.7).sample(jax.random.key(0), N))
    assert set(points[:, 0].tolist()) == {np.float32(0.7)}
    assert scipy.stats.kstest(points[:, 1], "uniform").pvalue > 1e-3


def test_labels_name_the_mode_and_samples_agree():
    made = toy.ring()
    x, y = made.sample_labelled(jax.random.key(3), 500)
    np.testing.assert_array_equal(nearest_mode(np.asarray(x), made.means), y)
    np.testing.assert_array_equal(x, made.sample(jax.random.key(3), 500))


def test_source_draws_a_batch_by_its_number_whatever_the_cut():
    source = toy.from_toy(toy.ring(), batch_size=16, seed=5)
    draw = jax.jit(lambda number: source.get_batch(source.device_data, number)["x"])
    one_by_one = [draw(source.host_batches(cursor, 1)[0]) for cursor in range(2, 5)]
    together = [draw(number) for number in source.host_batches(2, 3)]
    np.testing.assert_array_equal(one_by_one, together)
    assert len(np.unique(np.concatenate(together), axis=0)) == 48
    other = toy.from_toy(toy.ring(), batch_size=16, seed=6)
    assert not np.array_equal(
        other.get_batch(other.device_data, other.host_batches(2, 1)[0])["x"], one_by_one[0]
    )


def test_draws_are_divided_over_devices_and_equal_on_one():
    source = toy.from_toy(toy.ring(), batch_size=16, seed=0)
    single = jax.jit(lambda number: source.get_batch(source.device_data, number)["x"])(np.int32(3))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        divided = jax.jit(lambda number: source.get_batch(source.device_data, number)["x"])(np.int32(3))
    assert {shard.data.shape for shard in divided.addressable_shards} == {(2, 2)}
    np.testing.assert_allclose(divided, single, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: toy.ring(modes=0), "modes is 1 or more, got 0"),
        (lambda: toy.grid(scale=0.0), "scale is above 0"),
        (lambda: toy.two_moons(noise=-1.0), "noise is 0 or more"),
        (lambda: toy.mixture_1d((0.0, 1.0), weights=(0.5, 0.6)), "sum to 1"),
        (lambda: toy.mixture_1d((0.0, 1.0), sigma=(1.0, 1.0, 1.0)), r"\[2\], got shape \(3,\)"),
        (lambda: toy.from_toy(toy.ring(), batch_size=0), "batch_size is 1 or more"),
        (lambda: toy.from_toy(toy.ring(), batch_size=2.5), r"batch_size is a whole number, got 2\.5"),
        (lambda: toy.from_toy(toy.swiss_roll(), batch_size=4, labels=True), "labels=False"),
    ],
)
def test_mistakes_say_what_was_expected(build, said):
    with pytest.raises(DataError, match=said):
        build()
