"""ADA's augmentations: exact images at fixed percentiles, by hand or by numpy."""

import functools
import itertools
import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from gan_jax.functional import ada, wavelets

KEY = jax.random.key(0)
NORMAL = statistics.NormalDist()


def draws(**at):
    """Uniform numbers of one image: the augmentations that are named are applied at these percentiles."""
    u = np.full(ada.DRAWS, 0.5)
    for name, percentiles in at.items():
        gates, parameters = ada._PLACES[name]
        u[gates], u[parameters] = 0.0, percentiles
    return jnp.asarray(u, jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def augmented(u, names, x):
    return ada.augment_image(u, dict.fromkeys(names, 0.1), x)


def apply(x, **at):
    return np.asarray(augmented(draws(**at), tuple(at), jnp.asarray(x, jnp.float32)))


def image(height=8, width=8, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (height, width, channels)).astype(np.float32)


def test_flips_and_quarter_turns_copy_pixels():
    x = image()
    np.testing.assert_array_equal(apply(x, flip=0.6), x[:, ::-1])
    np.testing.assert_array_equal(apply(x, flip=0.4), x)
    found = [apply(x, rotate90=u) for u in (0.1, 0.3, 0.6, 0.9)]
    for turns, turned in enumerate(found):
        np.testing.assert_array_equal(turned, np.rot90(x, turns))


def test_a_shift_rounds_and_mirrors_the_border():
    """Percentiles 1 and .25 of +-.125: 2 pixels of 16 to the right, 1 up; the mirror repeats no border pixel."""
    x = image(16, 16, 1)
    padded = np.pad(x, ((0, 1), (2, 0), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(apply(x, shift=(0.999, 0.25)), padded[1:, :16])


def test_blits_are_composed_in_order_before_a_pixel_is_copied():
    """Flipped, turned, then shifted down by one of 8 at the percentile 1."""
    x = image()
    turned = np.rot90(x[:, ::-1])
    expected = np.pad(turned, ((1, 0), (0, 0), (0, 0)), mode="reflect")[:8]
    np.testing.assert_array_equal(apply(x, flip=0.9, rotate90=0.3, shift=(0.5, 0.999)), expected)


def affine_of_percentiles(u, size):
    """The geometric transforms' matrix in the paper's order, by numpy: input places to output places."""
    z = [NORMAL.inv_cdf(p) for p in u]
    s, a = math.exp(0.2 * math.log(2) * z[0]), math.exp(0.2 * math.log(2) * z[2])

    def rotation(p):
        angle = math.pi * (2 * p - 1)
        return np.array(
            [[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
        )

    shift = np.eye(3)
    shift[:2, 2] = [0.125 * size[1] * z[4], 0.125 * size[0] * z[5]]
    steps = [np.diag([s, s, 1]), rotation(u[1]), np.diag([a, 1 / a, 1]), rotation(u[3]), shift]
    matrix = np.eye(3)
    for step in steps:
        matrix = step @ matrix
    return matrix


GEOMETRIC = (0.7, 0.55, 0.3, 0.47, 0.6, 0.35)


def geometric(x, u=GEOMETRIC):
    return apply(x, scale=u[0], rotate_before=u[1], anisotropy=u[2], rotate_after=u[3], fraction=u[4:])


@pytest.mark.parametrize("size", [(40, 40), (36, 48)])
def test_a_ramp_is_moved_exactly_by_the_composed_matrix(size):
    """f(x, y) = .3 + .02 x - .03 y about the centre is f at the inverse of each place; the wavelet keeps ramps."""
    height, width = size
    y, x = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]

    def ramp(x, y):
        return 0.3 + 0.02 * x - 0.03 * y

    inverse = np.linalg.inv(affine_of_percentiles(GEOMETRIC, size))
    from_x, from_y = (inverse[i, 0] * x + inverse[i, 1] * y + inverse[i, 2] for i in range(2))
    found = geometric(ramp(x, y)[..., None])[..., 0]
    inside = (np.abs(x) < width / 2 - 16) & (np.abs(y) < height / 2 - 12)
    assert inside.sum() > 30
    np.testing.assert_allclose(found[inside], ramp(from_x, from_y)[inside], atol=1e-4)


def test_resampling_is_bilinear_on_the_doubled_grid():
    """The same image by numpy and scipy: double by the wavelet, look up, halve; every pixel, mirrors included."""
    x = image(12, 10, 2)
    height, width, _ = x.shape
    inverse = np.linalg.inv(affine_of_percentiles(GEOMETRIC, (height, width)))
    doubled = np.einsum("ih,jw,hwc->ijc", wavelets.doubling(height), wavelets.doubling(width), x)
    places = np.stack(np.meshgrid(np.arange(2 * height + 10), np.arange(2 * width + 10), indexing="ij"))
    y, x_place = (
        (p - wavelets.DELAY) / 2 - (size - 1) / 2 for p, size in zip(places, (height, width), strict=True)
    )
    right = inverse[0, 0] * x_place + inverse[0, 1] * y + inverse[0, 2] + (width - 1) / 2
    down = inverse[1, 0] * x_place + inverse[1, 1] * y + inverse[1, 2] + (height - 1) / 2
    at = np.stack([2 * down + wavelets.DELAY, 2 * right + wavelets.DELAY])
    looked_up = np.stack(
        [map_coordinates(doubled[..., c], at, order=1, mode="grid-wrap") for c in range(2)], axis=-1
    )
    halved = np.einsum("ih,jw,hwc->ijc", wavelets.halving(height), wavelets.halving(width), looked_up)
    np.testing.assert_allclose(geometric(x), halved, atol=2e-4)


def test_the_identity_is_resampled_without_loss():
    x = jnp.asarray(image(9, 12))
    np.testing.assert_allclose(jax.jit(ada.resampled)(x, jnp.eye(2, 3)), x, atol=2e-5)


def colors_by_hand(pixel, u):
    """Brightness, contrast, luma flip, hue and saturation of one pixel at percentiles, formula by formula."""
    z = [NORMAL.inv_cdf(p) for p in u]
    v = np.ones(3) / math.sqrt(3)
    c = pixel + 0.2 * z[0]
    c = c * math.exp(0.5 * math.log(2) * z[1])
    c = c - 2 * v * (v @ c) if u[2] >= 0.5 else c
    angle = math.pi * (2 * u[3] - 1)
    c = c * math.cos(angle) + np.cross(v, c) * math.sin(angle) + v * (v @ c) * (1 - math.cos(angle))
    return v * (v @ c) + (c - v * (v @ c)) * math.exp(math.log(2) * z[4])


COLORS = ("brightness", "contrast", "luma_flip", "hue", "saturation")


@pytest.mark.parametrize("u", [(0.7, 0.2, 0.9, 0.8, 0.35), (0.1, 0.9, 0.1, 0.35, 0.75)])
def test_colours_are_the_formulas(u):
    x = image(2, 3)
    expected = np.array([[colors_by_hand(pixel, u) for pixel in row] for row in x.astype(np.float64)])
    np.testing.assert_allclose(apply(x, **dict(zip(COLORS, u, strict=True))), expected, atol=2e-5)


def test_a_grey_image_is_augmented_as_its_three_equal_channels():
    u = dict(zip(COLORS, (0.7, 0.2, 0.9, 0.8, 0.35), strict=True))
    x = image(3, 3, 1)
    colored = apply(np.repeat(x, 3, axis=-1), **u)
    np.testing.assert_allclose(apply(x, **u), colored[..., :1], atol=1e-5)
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        apply(image(3, 3, 2), hue=0.3)


@pytest.mark.full
def test_the_filter_multiplies_bands_and_keeps_the_expected_power():
    """The second band at percentile .9: gain t / sqrt(lambda_2 t^2 + 12/13), the others 1 / the same root."""
    u = np.array(draws(filter=0.9))
    u[ada._PLACES["filter"][0]] = [0.9, 0.0, 0.9, 0.9]
    t = math.exp(math.log(2) * NORMAL.inv_cdf(0.9))
    root = math.sqrt(t**2 / 13 + 12 / 13)
    gains = np.array([1, t, 1, 1]) / root
    np.testing.assert_allclose(ada.band_gains(jnp.asarray(u), {"filter": 0.1}), gains, rtol=1e-5)
    x = image(6, 10)
    rows, columns = (np.tensordot(gains, wavelets.band_matrices(n), 1) for n in (6, 10))
    expected = np.einsum("ih,jw,hwc->ijc", rows, columns, x)
    np.testing.assert_allclose(ada.amplified(jnp.asarray(x), jnp.asarray(gains)), expected, atol=1e-5)


def test_noise_is_half_normal_in_strength():
    """At percentile .6 the strength is .1 times the normal quantile of .8."""
    noise = image(4, 4)
    program = jax.jit(lambda x, noise: ada.augment_image(draws(noise=0.6), {"noise": 0.1}, x, noise))
    found = program(jnp.zeros((4, 4, 3)), noise)
    np.testing.assert_allclose(found, 0.1 * NORMAL.inv_cdf(0.8) * noise, rtol=1e-4, atol=1e-6)


def test_cutout_is_a_window_of_half_the_size():
    """Centre (.5, .25) of 8 x 8: columns 2 to 5, rows 0 to 3."""
    expected = np.ones((8, 8, 1))
    expected[0:4, 2:6] = 0
    np.testing.assert_array_equal(apply(np.ones((8, 8, 1)), cutout=(0.5, 0.25)), expected)


def transform(x, categories="bgc", probability=0.5, key=KEY, **options):
    made = ada.ada(categories, probability, **options)
    return jax.jit(lambda x: made.apply((x,), key, jnp.int32(0), {})[0])(jnp.asarray(x))


def batch(n, size=8, channels=3):
    return np.random.default_rng(1).uniform(-1, 1, (n, size, size, channels)).astype(np.float32)


@pytest.mark.full
def test_at_probability_0_nothing_changes():
    np.testing.assert_array_equal(transform(batch(4), "bgnc", 0.0), batch(4))
    np.testing.assert_allclose(transform(batch(4), "cf", 0.0), batch(4), atol=1e-6)


@pytest.mark.full
def test_probabilities_are_those_of_each_augmentation():
    """A flip is drawn with p and mirrors every other time; one rotation or both happen with p in all."""
    x = batch(2000, 4, 1)
    changed = (np.asarray(transform(x, "b", 0.6, multipliers={"rotate90": 0, "shift": 0})) != x).any(
        (1, 2, 3)
    )
    assert abs(changed.mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 2000)
    off = dict.fromkeys(("scale", "anisotropy", "fraction"), 0.0)
    changed = (np.abs(np.asarray(transform(x, "g", 0.6, multipliers=off)) - x) > 1e-3).any((1, 2, 3))
    assert abs(changed.mean() - 0.6) < 5 * math.sqrt(0.6 * 0.4 / 2000)


@pytest.mark.full
def test_multipliers_scale_a_category_and_a_schedule_is_read_at_the_round():
    x = batch(2000, 4)
    made = ada.ada("c", lambda step: 0.1 * step, multipliers={"color": 0, "brightness": 0.5})
    program = jax.jit(lambda step: made.apply((x,), KEY, step, {})[0])
    for step in (0, 4):
        changed = (np.abs(np.asarray(program(step)) - x) > 1e-6).any((1, 2, 3)).mean()
        expected = 0.05 * step
        assert abs(changed - expected) <= 5 * math.sqrt(expected * (1 - expected) / 2000)


@pytest.mark.full
def test_the_draws_of_an_augmentation_do_not_depend_on_the_categories():
    """Another category changes no draw: with its multiplier 0 the result is that without it."""
    x = batch(4)
    off = {"geometric": 0, "filter": 0, "noise": 0, "cutout": 0}
    np.testing.assert_allclose(
        transform(x, "bgcfnc", 0.9, multipliers=off), transform(x, "bc", 0.9), atol=2e-5
    )


@pytest.mark.full
def test_an_image_condition_is_moved_and_cut_with_the_image_and_keeps_its_colours():
    x, labels = jnp.asarray(batch(8)), jnp.arange(8)
    made = ada.ada("bgcc", 1.0, multipliers={"color": 0})
    moved, condition, kept = jax.jit(lambda *inputs: made.apply(inputs, KEY, jnp.int32(0), {}))(x, x, labels)
    np.testing.assert_allclose(moved, condition, atol=1e-6)
    np.testing.assert_array_equal(kept, labels)
    colored, condition = jax.jit(lambda x: ada.ada("c", 1.0).apply((x, x), KEY, jnp.int32(0), {}))(x)
    np.testing.assert_array_equal(condition, x)
    assert not np.allclose(colored, x)


@pytest.mark.full
def test_gradients_of_both_orders_are_those_of_an_affine_map():
    """T x = A x + b: <T x - T 0, g> = <x, A' g>, and a gradient's gradient by g is A again."""
    made = ada.ada("bgcfc", 0.9)

    def through(x):
        return made.apply((x,), KEY, jnp.int32(0), {})[0]

    @jax.jit
    def check(x, g, v):
        out, pull = jax.vjp(through, x)
        (pulled,) = pull(g)
        twice = jax.grad(lambda g: jnp.sum(pull(g)[0] * v))(g)
        return out - through(jnp.zeros_like(x)), pulled, twice, through(v) - through(jnp.zeros_like(v))

    x, g, v = (jnp.asarray(batch(4)[::step]) for step in (1, -1, 1))
    linear, pulled, twice, expected = check(x, g, -v)
    np.testing.assert_allclose(jnp.sum(linear * g), jnp.sum(x * pulled), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(twice, expected, atol=1e-3)


@pytest.mark.full
@pytest.mark.parametrize("categories", ["bgcfnc", "bc"])
def test_devices_share_the_work_and_draw_as_one_does(categories):
    x = jnp.asarray(batch(16))
    made = ada.ada(categories, 0.8)
    program = jax.jit(lambda x: made.apply((x,), KEY, jnp.int32(0), {})[0])
    single = program(x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        shared = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
        compiled = program.lower(shared).compile()
        np.testing.assert_allclose(compiled(shared), single, atol=1e-5)
    assert not {"all-reduce", "all-gather", "all-to-all"} & set(compiled.as_text().split())


@pytest.mark.full
@pytest.mark.parametrize("p", [0.2, 0.8])
def test_a_quarter_turn_that_is_skipped_at_times_leaks_nothing(p):
    """Orientations are mixed by (1 - p) I + p / 4, whose eigenvalues 1 - p and 1 are not 0: no two mixtures of
    orientations become equal, so a generator cannot hide behind the augmentation (2006.06676, appendix C.1)."""
    mixing = (1 - p) * np.eye(4) + p / 4
    x = np.zeros((4, 4, 1), np.float32)
    x[0, 1] = 1
    off = {"flip": 0.0, "shift": 0.0}
    found = np.asarray(transform(np.repeat(x[None], 4000, 0), "b", p, multipliers=off))
    counts = [(found == np.rot90(x, turns)).all((1, 2, 3)).mean() for turns in range(4)]
    np.testing.assert_allclose(counts, mixing[0], atol=5 * math.sqrt(0.25 / 4000))
    np.testing.assert_allclose(np.linalg.eigvalsh(mixing), [1 - p] * 3 + [1], atol=1e-12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"categories": "gb"}, "initials of its categories in order, bgcfnc"),
        ({"categories": ""}, "got ''"),
        ({"probability": 1.5}, r"ada\(probability=1.5\): probability is a finite number in \[0, 1\]"),
        ({"multipliers": {"hue": 2.0}}, r"multipliers\['hue'\].*in \[0, 1\]"),
        ({"multipliers": {"cutout": 1.0}}, "names none of its augmentations"),
    ],
)
def test_errors_name_what_was_expected(options, said):
    with pytest.raises(ValueError, match=said):
        ada.ada(**options)


def test_every_category_comes_by_its_initial():
    letters = [name[0] for name in ada.CATEGORIES]
    for count in range(1, 4):
        for chosen in itertools.combinations(range(6), count):
            names = ada.categories_of("".join(letters[i] for i in chosen))
            assert [name[0] for name in names] == [letters[i] for i in chosen]


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"images \[B, H, W, C\], got \(4, 2\)"):
        ada.ada("b", 0.5).apply((jnp.zeros((4, 2)),), KEY, jnp.int32(0), {})
