"""Monge distance, sFID, Frechet by class, memorisation, classification accuracy, path length: closed forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy.spatial.distance import cdist
from scipy.stats import mstats

import gan_jax as gj
from gan_jax import data, metrics
from gan_jax.metrics.path_length import EPSILON, SAMPLES, boxed

# ---------------------------------------------------------------------------------------------------------
# The Monge distance


def test_a_shift_has_three_times_its_squared_length():
    """`W_2^2` along u is `(u . v)^2`, whose mean over the sphere is `|v|^2 / d`."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    shift = np.array([3.0, 0, 4, 0, 0, 0])
    found = metrics.monge_distance(x, x + shift)
    assert abs(found.value - 75) < 4 * found.standard_error
    assert 0 < found.standard_error < 5  # the variance of d (u . v)^2 is known: 2 |v|^4 (d - 1) / (d + 2)
    expected = 3 * 25 * math.sqrt(2 * 5 / 8 / 1000)
    assert found.standard_error == pytest.approx(expected, rel=0.15)


def test_sets_of_different_sizes_are_compared_by_their_quantiles():
    assert metrics.monge_distance([[0.0], [1.0]], [[0.0], [0.0], [1.0], [1.0]]).value == pytest.approx(
        0, abs=1e-12
    )
    # The quantile functions of {0} and {0, 1} differ by 1 on one half of the axis.
    assert metrics.monge_distance([[0.0]], [[0.0], [1.0]]).value == pytest.approx(3 / 2)


# ---------------------------------------------------------------------------------------------------------
# Frechet distances of places and of classes


PLACES = metrics.Extractor(
    name="places",
    apply=lambda params, x: {
        "features": x.mean(axis=(1, 2)),
        "spatial": x.reshape(len(x), -1),
        "more": x,  # is not extracted
    },
)


def striped(number=50):
    """Dark columns beside light ones, uint8."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, 127, size=(number, 2, 2, 1)) + np.array([[0], [128]])).astype(np.uint8)


def test_features_of_places_are_extracted_beside_the_others():
    """Pixels that change places keep their pool, and differ in their places."""
    images = striped()
    real = metrics.extract(PLACES, images, batch_size=7)
    fake = metrics.extract(PLACES, images[:, :, ::-1], batch_size=50)
    assert metrics.frechet_distance(real.features, fake.features) == pytest.approx(0, abs=1e-9)
    assert metrics.spatial_frechet_distance(real, fake) > 3.5  # four places, each shifted by about 1
    with pytest.raises(ValueError, match="Extractor 'pixels' has no spatial features"):
        metrics.spatial_frechet_distance(real, metrics.extract(metrics.pixels(), images))


def test_spatial_and_monge_distances_are_measured_where_they_are_named(tmp_path):
    real, fake = striped(), striped()[:30, :, ::-1]
    x, y = (metrics.extract(PLACES, side) for side in (real, fake))
    expected = {
        "spatial_frechet": metrics.spatial_frechet_distance(x, y),
        "monge": metrics.monge_distance(x.features, y.features).value,
    }
    which = ("spatial", "monge")
    scores = metrics.image_scores(real, fake, PLACES, which=which)
    options = {"extractor": PLACES, "metrics": which, "progress": False, "devices": jax.devices()[:1]}
    found = gj.compare(real, fake, **options)
    (column,) = found.fakes.values()
    (floor,) = found.floors.values()
    for name, value in expected.items():
        assert scores.values[name] == pytest.approx(value)
        assert column.bounds[name][0] == pytest.approx(value)
        assert floor.bounds[name][0] < 0.1 * value or name == "monge"  # which places do not change
    assert {"fid", "frechet"}.isdisjoint(column.bounds)
    # ADM's reference batches hold the moments of the spatial features too.
    pool, places = (metrics.moments(side).gaussian(1) for side in (x.features, x.spatial))
    arrays = {"mu": pool.mean, "sigma": pool.covariance, "mu_s": places.mean, "sigma_s": places.covariance}
    np.savez(tmp_path / "reference.npz", **arrays)
    found = gj.compare(tmp_path / "reference.npz", fake, **{**options, "metrics": ["spatial"]})
    (column,) = found.fakes.values()
    assert column.bounds["spatial_frechet"][0] == pytest.approx(expected["spatial_frechet"], rel=1e-5)


def test_frechet_distances_of_classes_are_those_of_their_shifts():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    labels = np.arange(60) % 2
    found = metrics.class_frechet_distances(
        x, labels, x + np.where(labels, 4.0, 3.0)[:, None] * [1, 0, 0], labels
    )
    np.testing.assert_allclose(found.distances, [9, 16])
    assert float(found) == pytest.approx(12.5)
    assert found.sizes.tolist() == [[30, 30], [30, 30]]


def test_a_generator_that_swaps_classes_is_only_found_by_class():
    x = np.concatenate([np.zeros((10, 1)), np.ones((10, 1))]) + np.linspace(0, 0.1, 20)[:, None] % 0.05
    labels = np.repeat([0, 1], 10)
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-12)
    found = metrics.class_frechet_distances(x, labels, x, 1 - labels)
    assert found.distances.min() > 0.9


def test_classes_with_too_few_samples_are_left_out_with_their_numbers():
    x = np.arange(5.0)[:, None]
    found = metrics.class_frechet_distances(x, [0, 0, 0, 7, 2], x, [0, 0, 7, 7, 7])
    assert found.classes.tolist() == [0]
    assert found.left_out == {2: (1, 0), 7: (1, 3)}
    with pytest.raises(
        ValueError, match=r"No class has two samples on both sides: \{0: \(5, 0\), 1: \(0, 5\)\}"
    ):
        metrics.class_frechet_distances(x, [0] * 5, x, [1] * 5)
    with pytest.raises(
        ValueError, match=r"fake: labels must be integers, one a sample, \[5\]; got int64 \(4,\)"
    ):
        metrics.class_frechet_distances(x, [0] * 5, x, [1] * 4)


# ---------------------------------------------------------------------------------------------------------
# Memorisation


def test_copies_are_those_below_the_held_out_datas_quantile():
    """Training data at multiples of 1,000; held-out data and samples at known distances from them."""
    train = 1000.0 * np.arange(5)[:, None]
    held_out = train[np.arange(100) % 5] + np.arange(1, 101)[:, None]  # distances 1 to 100
    fake = train[[3, 1, 2, 0]] + [[5.0], [0.0], [5.5], [-400]]
    found = metrics.memorization_test(train, held_out, fake, rate=0.05)
    assert (found.threshold, found.rate, found.share) == (5.0, 0.05, 0.5)
    assert found.copies.tolist() == [1, 0]  # the closest first
    assert found.originals.tolist() == [1, 3]
    assert found.distances.tolist() == [5, 0, 5.5, 400]
    # Fisher: 7 of 104 are close, and 2 or more of them are among the 4 samples.
    ways = sum(math.comb(7, k) * math.comb(97, 4 - k) for k in range(2, 5))
    assert found.p_value == pytest.approx(ways / math.comb(104, 4))


def test_fresh_samples_are_no_copies_and_copies_are_found():
    rng = np.random.default_rng(0)
    train, held_out, fresh = (rng.normal(size=(1000, 16)).astype(np.float32) for _ in range(3))
    assert metrics.memorization_test(train, held_out, fresh, rate=0.05).p_value > 0.05
    near = train + rng.normal(size=train.shape).astype(np.float32) * 0.1
    found = metrics.memorization_test(train, held_out, np.concatenate([fresh[:950], near[:50]]), rate=0.05)
    assert found.p_value < 1e-4
    assert set(range(950, 1000)) <= set(found.copies)
    assert dict(zip(found.copies, found.originals, strict=True))[960] == 10


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_nearest_neighbours_are_those_of_all_distances(offset):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(n, 5)).astype(np.float32) + np.float32(offset) for n in (300, 200))
    index, distance = metrics.nearest(x, y)
    everything = cdist(x.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(distance, everything.min(axis=1), rtol=1e-9)
    np.testing.assert_array_equal(index, everything.argmin(axis=1))


def test_nearest_neighbours_of_clusters_far_apart_are_those_of_all_distances():
    # About their common centre these squares are of 2.5e15, whose rounding is as large as the distances.
    rng = np.random.default_rng(0)
    side = rng.integers(2, size=(120, 1)) * 1e8
    y = np.concatenate([side, rng.normal(size=(120, 3))], axis=1)
    x = y + rng.normal(size=y.shape) * [0, 0.3, 0.3, 0.3]
    everything = cdist(x, y)
    index, distance = metrics.nearest(x, y)
    np.testing.assert_array_equal(index, everything.argmin(axis=1))
    np.testing.assert_allclose(distance, everything.min(axis=1), rtol=1e-9)
    index, distance = metrics.nearest(y, y)
    np.testing.assert_array_equal(index, np.arange(120))
    assert distance.max() == 0
    found = metrics.memorization_test(y[:60], y[60:], y[:60], rate=0.05)
    np.testing.assert_array_equal(np.sort(found.copies), np.arange(60))


def test_a_rate_that_floats_round_down_is_exact():
    points = np.arange(100.0)[:, None]
    assert metrics.memorization_test(points, points + 0.4 * points / 100, points, rate=0.29).rate == 0.29


def test_of_repeated_points_the_first_is_nearest():
    y = np.array([[1.0], [0.0], [1.0], [-0.0]])
    index, distance = metrics.nearest(np.array([[0], [1], [3]]), y)
    assert index.tolist() == [1, 0, 0]
    assert distance.tolist() == [0.0, 0.0, 2.0]


def test_pairs_of_copies_are_shown_beside_their_originals():
    train = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1) * 20
    features = train.reshape(3, -1).astype(float)
    fake = train[[2, 0]]
    found = metrics.memorization_test(features, features + 1, fake.reshape(2, -1).astype(float), rate=0.5)
    pairs = metrics.duplicate_pairs(fake, train, found)
    np.testing.assert_array_equal(pairs, train[[2, 2, 0, 0]])
    with pytest.raises(ValueError, match="The result is of 2 samples, but there are 3 images"):
        metrics.duplicate_pairs(train, train, found)
    with pytest.raises(ValueError, match=r"Samples are uint8 \(2, 2, 1\), and training data float64"):
        metrics.duplicate_pairs(fake, train / 255, found)


def test_a_rate_needs_enough_held_out_data():
    x = np.zeros((99, 2))
    with pytest.raises(ValueError, match=r"A rate of 0.01 needs 100 held-out data or more, got 99"):
        metrics.memorization_test(x, x, x)
    with pytest.raises(ValueError, match=r"The rate is a share between 0 and 1, got 1\.5"):
        metrics.memorization_test(x, x, x, rate=1.5)


# ---------------------------------------------------------------------------------------------------------
# Classification accuracy


def nearest_mean(images, labels):
    """A classifier by the mean grey level of each class."""
    levels = np.array([images[labels == label].mean() for label in range(labels.max() + 1)])
    return metrics.Extractor(
        name="nearest mean",
        apply=lambda params, x: {
            "features": x.mean(axis=(1, 2)),
            "logits": -((x.mean(axis=(1, 2)) - params) ** 2),
        },
        params=levels,
    )


def test_the_accuracy_is_that_of_the_classifier_of_samples_on_real_images():
    labels = np.arange(10) % 2
    real = np.where(labels, 0.5, -0.5)[:, None, None, None] * np.ones((10, 2, 2, 1))
    real[8:] *= -1  # one image of each class looks like the other
    score = functools.partial(metrics.classification_accuracy_score, train=nearest_mean)
    found = score(real[:8], labels[:8], real, labels)
    assert (found.value, found.classifier) == (0.8, "nearest mean")
    assert found.by_class.tolist() == [0.8, 0.8]
    assert (found.low, found.high) == (
        pytest.approx(0.4902, abs=1e-4),
        pytest.approx(0.9433, abs=1e-4),
    )  # Wilson
    assert score(real[:8], 1 - labels[:8], real, labels).value == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"Real labels must be integers, one an image; got int64 \(3,\)"):
        score(real, labels, real, labels[:3])


@pytest.mark.full
def test_samples_with_wrong_labels_teach_nothing():
    digits = data.load("digits")
    train = functools.partial(metrics.train_classifier, name="short", steps=150)
    score = functools.partial(metrics.classification_accuracy_score, train=train)
    x, y = digits["x"], digits["y"].astype(np.int64)
    assert score(x[:1200], y[:1200], x[1200:], y[1200:]).value > 0.85
    shuffled = np.random.default_rng(0).permutation(y[:1200])
    assert score(x[:1200], shuffled, x[1200:], y[1200:]).value < 0.3


# ---------------------------------------------------------------------------------------------------------
# Path length

MATRIX = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)


def images_of(w, key, noise=0.0):
    """A linear generator of images `[B, 2, 2, 3]`."""
    made = (w @ MATRIX).reshape(-1, 2, 2, 3)
    return made + noise * jax.random.normal(key, made.shape)


def squared(x, y):
    return jnp.sum((x - y) ** 2, axis=(1, 2, 3))


def normal(key, n):
    return jax.random.normal(key, (n, 4))


def path_length(synthesis=images_of, mapping=lambda z: 2 * z, **options):
    options = {"samples": 60, "epsilon": 0.5, "key": jax.random.key(3), **options}
    return metrics.perceptual_path_length(mapping, synthesis, normal, squared, **options)


@pytest.mark.full
def test_of_linear_generators_the_length_is_independent_of_the_step_and_of_the_noise():
    """`|A (w_1 - w_0)|^2`, of which float32 keeps two digits at the published step; both ends have one noise."""
    found = path_length()
    np.testing.assert_allclose(path_length(epsilon=EPSILON).lengths, found.lengths, rtol=0.03)
    noisy = functools.partial(images_of, noise=10.0)
    np.testing.assert_allclose(path_length(noisy, epsilon=2.0).lengths, found.lengths, rtol=1e-3)


@pytest.mark.full
def test_the_mean_length_of_a_linear_generator_is_known():
    """`E |A (w_1 - w_0)|^2 = 2 |A|^2`, with w normal; the extremes are 2 % of the paths."""
    found = path_length(mapping=lambda z: z, samples=20_000, batch_size=2000)
    assert found.lengths.mean() == pytest.approx(2 * (MATRIX**2).sum(), rel=0.03)
    kept = np.sort(found.lengths)[199:-199]
    assert found.value == pytest.approx(kept.mean(), rel=1e-6)
    limits = (199 / 20_000,) * 2
    assert found.standard_error == pytest.approx(mstats.trimmed_stde(found.lengths, limits), rel=1e-4)


def test_only_the_published_measure_has_its_name():
    def lpips(x, y):
        return jnp.zeros(len(x))

    def name(**options):
        ppl = functools.partial(
            metrics.perceptual_path_length, lambda z: z, images_of, normal, key=jax.random.key(0)
        )
        return ppl(lpips, batch_size=25_000, **options).name

    assert name() == f"path length (lpips, epsilon 0.0001, {SAMPLES} paths)"
    lpips.__name__ = "lpips_vgg16"
    assert name() == "ppl2_wend"
    assert name(samples=100) == "path length (lpips_vgg16, epsilon 0.0001, 100 paths)"


def test_large_images_are_averaged_over_boxes():
    image = jnp.arange(512 * 512, dtype=jnp.float32).reshape(1, 512, 512, 1)
    assert boxed(image).shape == (1, 256, 256, 1)
    assert float(boxed(image)[0, 0, 0, 0]) == pytest.approx((0 + 1 + 512 + 513) / 4)
    assert boxed(jnp.zeros((1, 300, 300, 3))).shape == (1, 300, 300, 3)  # as NVIDIA's code, below two boxes
    with pytest.raises(ValueError, match="513 x 512 are not filled by boxes of 2 x 2"):
        boxed(jnp.zeros((1, 513, 512, 1)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("exported", [False, True])
def test_a_generator_that_computes_in_less_than_float32_has_no_path_length(dtype, exported):
    """At the published step a perceptron in bfloat16 had 12,394 where it has 70 in float32."""

    def narrow(w, key):
        return images_of(w.astype(dtype), key).astype(jnp.float32)

    synthesis = narrow
    if exported:
        inputs = jax.ShapeDtypeStruct((16, *normal(jax.random.key(0), 1).shape[1:]), jnp.float32)
        key = jax.eval_shape(lambda: jax.random.key(0))
        synthesis = export.export(jax.jit(narrow))(inputs, key).call
    with pytest.raises(ValueError, match=rf"at a step of 0\.5, which {dtype} rounds away: .*dtype=float32"):
        path_length(synthesis)


def test_a_path_length_has_the_highest_precision_of_products():
    """By TF32, a GPU's default, two images of the published step would differ by rounding only."""
    found = set()

    def synthesis(w, key):
        found.add(jax.config.jax_default_matmul_precision)
        return images_of(w, key)

    path_length(synthesis)
    assert found == {"highest"}


def test_bad_paths_are_refused():
    with pytest.raises(ValueError, match=r"2 paths and a step > 0, got 1 and 0\.5"):
        path_length(samples=1)
    with pytest.raises(ValueError, match="60 of 60 path lengths are NaN or infinite"):
        path_length(lambda w, key: images_of(w, key) * jnp.nan)


def test_labels_of_two_dtypes_are_told_from_each_other_where_floats_are_not():
    """Above 2^53 two neighbours are one float64, in which numpy joins int64 and uint64."""
    x = np.array([[0.0], [2.0], [10.0], [12.0]])
    labels = np.array([0, 0, 1, 1])
    found = metrics.class_frechet_distances(
        x, labels + np.int64(2**53), x + 3, labels.astype(np.uint64) + np.uint64(2**53)
    )
    assert found.classes.tolist() == [2**53, 2**53 + 1]
    np.testing.assert_allclose(found.distances, [9, 9])
