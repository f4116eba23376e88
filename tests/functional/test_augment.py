"""Augmentations against what they must keep, move or remove."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional import augment

KEY = jax.random.key(0)


def images(n=64, side=8, channels=3):
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (n, side, side, channels)), jnp.float32)


def apply(change, x, **options):
    return jax.jit(lambda x: augment.augment_batch(KEY, change(**options), x))(x)


def test_brightness_adds_one_number_in_a_half_to_each_image():
    x = images()
    added = np.asarray(apply(augment.brightness, x) - x)
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1, :1], added.shape), atol=1e-6)
    offsets = added[:, 0, 0, 0]
    assert np.abs(offsets).max() <= 0.5
    assert offsets.min() < -0.25
    assert offsets.max() > 0.25


@pytest.mark.parametrize(
    ("change", "axes", "low", "high"),
    [(augment.saturation, 3, 0.0, 2.0), (augment.contrast, (1, 2, 3), 0.5, 1.5)],
)
def test_saturation_and_contrast_keep_their_mean_and_scale_around_it(change, axes, low, high):
    x = images()
    y = np.asarray(apply(change, x))
    mean = x.mean(axes, keepdims=True)
    np.testing.assert_allclose(y.mean(axes, keepdims=True), mean, atol=1e-6)
    factor = ((y - mean) * (x - mean)).sum((1, 2, 3)) / ((x - mean) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(y, mean + factor[:, None, None, None] * (x - mean), atol=1e-5)
    assert low <= factor.min() < low + 0.25 * (high - low)
    assert high >= factor.max() > high - 0.25 * (high - low)


def test_translation_is_one_of_the_shifts_with_zeros_coming_in():
    """Side 16, ratio 1/8: up to two pixels. Each image equals exactly one shift of the padded original."""
    x = images(side=16, channels=1)
    y = np.asarray(apply(augment.translation, x))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    shifts = set()
    for image, wide in zip(y, padded, strict=True):
        found = [
            (i - 2, j - 2)
            for i in range(5)
            for j in range(5)
            if np.array_equal(image, wide[i : i + 16, j : j + 16])
        ]
        assert len(found) == 1
        shifts.update(found)
    assert {i for i, _ in shifts} == {j for _, j in shifts} == {-2, -1, 0, 1, 2}


def test_translation_of_uneven_images_moves_each_axis_by_its_size():
    x = jnp.ones((200, 8, 24, 1))
    zeros = 1 - np.asarray(apply(augment.translation, x))[..., 0]
    assert set(zeros[:, :, 12].sum(1)) == {0, 1}
    assert set(zeros[:, 4].sum(1)) == {0, 1, 2, 3}


def test_crop_mirrors_the_border():
    x = images(side=8, channels=1)
    y = np.asarray(apply(augment.crop, x, padding=3))
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    for image, wide in zip(y, padded, strict=True):
        assert any(np.array_equal(image, wide[i : i + 8, j : j + 8]) for i in range(7) for j in range(7))
    assert not np.array_equal(y, x)


def test_cutout_removes_a_rectangle_of_at_most_half_the_side():
    x = jnp.ones((400, 8, 8, 2))
    gone = np.asarray(apply(augment.cutout, x)) == 0
    np.testing.assert_array_equal(gone[..., 0], gone[..., 1])
    rows, columns = gone[..., 0].any(2), gone[..., 0].any(1)
    np.testing.assert_array_equal(gone[..., 0], rows[:, :, None] & columns[:, None])
    # Windows of 4 around a centre in 0..8: 2 to 4 rows are inside, and each row is hit.
    assert set(rows.sum(1)) == set(columns.sum(1)) == {2, 3, 4}
    assert rows.any(0).all()


def test_flip_mirrors_one_in_two():
    x = images(n=1000, side=4)
    y = np.asarray(apply(augment.flip, x))
    mirrored = (y == np.asarray(x)[:, :, ::-1]).all((1, 2, 3))
    kept = (y == np.asarray(x)).all((1, 2, 3))
    assert (mirrored ^ kept).all()
    # Binomial(1000, 1/2): 5 standard deviations are 79.
    assert abs(mirrored.sum() - 500) < 79


@pytest.mark.parametrize("change", [augment.translation, augment.cutout, augment.contrast])
def test_the_gradient_is_the_adjoint(change):
    """These are linear in x: the derivative of <T x, g> by x is T' g, so <T x, g> = <x, T' g>."""
    x, g = images(), images()[::-1]
    value, pulled = jax.jit(
        jax.value_and_grad(lambda x: jnp.sum(augment.augment_batch(KEY, change(), x) * g))
    )(x)
    np.testing.assert_allclose(jnp.sum(x * pulled), value, rtol=1e-4, atol=1e-4)


def transform(policy, inputs, probability=1.0, objective_state=None, key=KEY):
    made = augment.diff_augment(policy, probability)
    return jax.jit(lambda *args: made.apply(args[0], args[1], jnp.int32(0), args[2]))(
        inputs, key, objective_state or {}
    )


def test_policies_are_applied_in_order_and_read_from_a_string():
    """What is cut out last is 0; what is cut out first takes on a colour."""
    x = 1 + images()
    (last,) = transform("color, cutout", (x,))
    (first,) = transform(("cutout", "color"), (x,))
    assert (np.asarray(last) == 0).any((1, 2, 3)).all()
    assert not (np.asarray(first) == 0).any()


def test_draws_differ_between_keys_and_examples_and_agree_for_one_key():
    x = jnp.broadcast_to(images(1), (64, 8, 8, 3))
    (first,), (again,) = transform("color", (x,)), transform("color", (x,))
    (other,) = transform("color", (x,), key=jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert len(np.unique(np.asarray(first)[:, 0, 0, 0])) > 60


def test_an_image_condition_moves_with_its_image_and_keeps_its_colours():
    x, labels = images(), jnp.arange(64)
    transformed, condition, kept = transform("translation,cutout", (x, x, labels))
    np.testing.assert_array_equal(transformed, condition)
    np.testing.assert_array_equal(kept, labels)
    colored, condition = transform("color", (x, x))
    np.testing.assert_array_equal(condition, x)
    assert not np.array_equal(colored, x)


@pytest.mark.full
def test_probability_from_a_number_a_schedule_or_the_objective_state():
    x = images(1000, side=4)
    np.testing.assert_array_equal(transform("color,translation", (x,), 0.0)[0], x)
    for transformed in (
        transform("flip", (x,), 0.3)[0],
        transform("flip", (x,), lambda step: 0.3 + step)[0],
        transform("flip", (x,), "ada", objective_state={"ada": {"probability": jnp.array(0.3)}})[0],
    ):
        changed = (np.asarray(transformed) != np.asarray(x)).any((1, 2, 3)).sum()
        # Chosen with .3, mirrored with 1/2: Binomial(1000, .15), 5 standard deviations are 57.
        assert abs(changed - 150) < 57


@pytest.mark.full
def test_devices_share_the_work_and_draw_as_one_does():
    x, made = images(16), augment.diff_augment("color,translation", 0.5)
    program = jax.jit(lambda x: made.apply((x,), KEY, jnp.int32(0), {})[0])
    single = program(x)
    full_flops = program.lower(x).compile().cost_analysis()["flops"]
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh):
        shared = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
        compiled = program.lower(shared).compile()
        np.testing.assert_allclose(compiled(shared), single, atol=1e-6)
    assert compiled.cost_analysis()["flops"] < 1.2 * full_flops / 8
    assert "all-reduce" not in compiled.as_text()


@pytest.mark.full
def test_it_compiles_and_differentiates_twice():
    x = images(4)
    made = augment.diff_augment("color,translation,cutout")

    def transformed(x):
        return jnp.sum(made.apply((x,), KEY, jnp.int32(0), {})[0] ** 2)

    penalty = jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(transformed)(x) ** 2)))(x)
    assert np.isfinite(penalty).all()
    assert np.abs(penalty).max() > 0


def test_adaptive_probability_climbs_when_the_critic_knows_the_data():
    """r_t of .8 is above .6: up by the share of the images; of 0 below: down; it stays in [0, 1]."""
    step = 10 / 1000
    for start, overfitting, expected in (
        (0.5, 0.8, 0.5 + step),
        (0.5, 0.0, 0.5 - step),
        (0.995, 0.8, 1.0),
        (0.005, 0.0, 0.0),
    ):
        moved = augment.adapt_probability(jnp.array(start), jnp.array(overfitting), 10, images=1000)
        assert float(moved) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("policy", "probability", "said"),
    [
        ("colour", 1.0, r"knows the policies .* got \['colour'\]"),
        ("color", 1.5, r"probability is a finite number in \[0, 1\]"),
    ],
)
def test_errors_name_what_was_expected(policy, probability, said):
    with pytest.raises(ValueError, match=said):
        augment.diff_augment(policy, probability)
