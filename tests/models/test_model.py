"""Samples, walks, truncation and scores of a model, with programs written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gan_jax.evaluation.sampling import BLOCK, CHUNK
from gan_jax.models.model import Model
from gan_jax.models.programs import Program, Programs
from gan_jax.models.projection import project
from gan_jax.models.walks import linear, spherical

D = 3


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct((1, *shape), dtype)


def normal_latent(key_data):
    return jax.random.normal(jax.random.wrap_key_data(key_data), (CHUNK, D))


def program(call, *inputs):
    return Program(call, {"w": jax.ShapeDtypeStruct((D, D), jnp.float32)}, inputs)


def doubled(weights, key, z):
    return z @ weights["w"]


def made(
    generator=None,
    *,
    latent=normal_latent,
    mapping=None,
    synthesis=None,
    classes=(),
    critic=None,
    devices=None,
):
    programs = Programs(
        generators={"g": generator or program(doubled, struct(D))},
        critics={"c": critic} if critic else {},
        mappings={"g": mapping} if mapping else {},
        syntheses={"g": synthesis} if synthesis else {},
        latent=latent,
        critic_of={"g": "c"} if critic else {},
        classes=classes,
    )
    weights = {name: {"w": 2 * np.eye(D, dtype=np.float32)} for name in ("g", "c")}
    return Model(programs, weights, player="g", round=7, kind="ema", config={}, seed=0, devices=devices)


@pytest.mark.parametrize("seed", [2**32, 2**32 + 5, -1, 2**63, 1.5, "3", True])
def test_a_seed_that_would_be_taken_for_another_is_refused(seed):
    """JAX keeps 32 bits: of 2^32 + 5 it makes the samples of 5, of -1 those of 2^32 - 1."""
    for call in (lambda: made().sample(2, seed=seed), lambda: made().sample(z=np.zeros((2, D)), seed=seed)):
        with pytest.raises(ValueError, match="seed is a whole number"):
            call()
    made().sample(2, seed=np.uint32(2**32 - 1))


def test_samples_are_of_the_latents_and_the_same_at_every_call():
    model = made()
    z = model.latents(5, seed=3)
    np.testing.assert_array_equal(model.sample(5, seed=3), 2 * z)
    np.testing.assert_array_equal(model.sample(5, seed=3), made().sample(5, seed=3))
    np.testing.assert_array_equal(model.sample(z=z), 2 * z)
    assert np.abs(model.sample(5, seed=4) - 2 * z).max() > 0.1
    np.testing.assert_array_equal(model.latents(CHUNK + 5, seed=3)[:5], z)


def test_samples_do_not_depend_on_the_number_of_devices():
    n = 3 * BLOCK + 1
    alone = made().sample(n)
    np.testing.assert_array_equal(alone, made(devices=jax.devices()[:2]).sample(n))
    assert alone.shape == (n, D)


def test_truncated_latents_have_the_truncated_distribution_and_keep_what_lies_within():
    model = made()
    z, plain = model.latents(CHUNK, truncation=0.7), model.latents(CHUNK)
    assert np.abs(z).max() <= 0.7
    within = np.abs(plain) <= 0.7
    np.testing.assert_array_equal(z[within], plain[within])
    assert stats.kstest(z.ravel(), stats.truncnorm(-0.7, 0.7).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(z[:4], model.latents(4, truncation=0.7))
    np.testing.assert_array_equal(model.sample(4, truncation=0.7), 2 * z[:4])


def test_the_categories_of_a_code_are_not_truncated():
    def coded(key_data):
        category = jax.random.randint(jax.random.wrap_key_data(key_data), (CHUNK,), 0, 2)
        return jnp.concatenate([jax.nn.one_hot(category, 2), normal_latent(key_data)[:, :1]], axis=1)

    z = made(latent=coded).latents(CHUNK, truncation=0.5)
    assert set(np.unique(z[:, :2])) == {0.0, 1.0}
    assert np.abs(z[:, 2]).max() <= 0.5


def test_a_truncation_without_values_is_an_error():
    far = made(latent=lambda key: 5 + jnp.abs(normal_latent(key)))
    with pytest.raises(ValueError, match="hardly a value within a truncation of 1"):
        far.latents(1, truncation=1.0)
    with pytest.raises(ValueError, match="more than 0"):
        made().latents(1, truncation=0.0)


@pytest.mark.parametrize(("truncation", "most"), [(1e-9, 2), (1e-3, 2), (0.004, 20)])
def test_a_truncation_that_can_never_be_reached_is_refused_at_once(truncation, most):
    """A thousand redraws leave some of 1,000 x 3 components outside where fewer than 1 % of draws are inside."""
    draws = []

    def counted(key_data):
        draws.append(1)
        return normal_latent(key_data)

    with jax.disable_jit(), pytest.raises(ValueError, match="hardly a value within a truncation"):
        made(latent=counted).latents(1, truncation=truncation)
    assert len(draws) <= 1 + most


def test_a_small_truncation_is_drawn_as_before():
    """2 % of the draws are inside: about 400 redraws for 3,000 components."""
    z = made().latents(3, truncation=0.025)
    assert abs(z).max() <= 0.025


def test_latents_that_are_given_are_not_truncated_by_a_draw():
    """Without a mapping network truncation is how latents are drawn: it cannot hold for those that are given."""
    model = made()
    z = model.latents(2)
    for call in (model.sample, model.interpolate):
        with pytest.raises(ValueError, match="give z or truncation, not both"):
            call(z=z, truncation=0.01)


def test_a_generator_without_a_latent_takes_no_latent_and_no_truncation():
    model = made(program(lambda weights, key, x: x, struct(D)), latent=None)
    x = np.ones((2, D), np.float32)
    np.testing.assert_array_equal(model.sample(conditions=[x]), x)
    for name, value in {"z": x, "truncation": 0.5}.items():
        with pytest.raises(ValueError, match=f"so it takes no {name}"):
            model.sample(conditions=[x], **{name: value})


def test_with_a_mapping_network_truncation_pulls_w_to_its_mean():
    mapping = program(lambda weights, key, z: z**2, struct(D))
    synthesis = program(lambda weights, key, w: w @ weights["w"], struct(D))
    both = program(lambda weights, key, z: z**2 @ weights["w"], struct(D))
    model = made(both, mapping=mapping, synthesis=synthesis)
    z = model.latents(6, seed=1)
    np.testing.assert_allclose(model.mean_w, 1.0, atol=0.06)  # E z^2 = 1, deviation sqrt(2 / 10,000)
    np.testing.assert_allclose(model.sample(6, seed=1), 2 * z**2, rtol=1e-6)
    half = model.mean_w + 0.5 * (z**2 - model.mean_w)
    np.testing.assert_allclose(model.sample(6, seed=1, truncation=0.5), 2 * half, rtol=1e-5)
    np.testing.assert_allclose(model.sample(6, truncation=0.0), np.tile(2 * model.mean_w, (6, 1)), rtol=1e-5)


def test_without_a_mapping_network_there_is_no_w():
    model = made()
    calls = (
        lambda: model.mapped(model.latents(2), ()),
        lambda: model.synthesize(np.ones((2, D))),
        lambda: model.mean_w,
    )
    for call in calls:
        with pytest.raises(ValueError, match="has no mapping network"):
            call()


def test_walks_end_at_their_latents():
    model = made()
    z = np.concatenate([model.latents(1, seed=seed) for seed in (4, 2, 9)])
    for walk in ("spherical", "linear"):
        frames = model.interpolate(seeds=(4, 2, 9), steps=5, walk=walk)
        assert frames.shape == (2, 5, D)
        np.testing.assert_allclose(frames[:, 0], 2 * z[:2], rtol=1e-5)
        np.testing.assert_allclose(frames[:, -1], 2 * z[1:], rtol=1e-5)
    np.testing.assert_allclose(model.interpolate(z, steps=3, walk="linear")[:, 1], z[:2] + z[1:], rtol=1e-5)


def test_a_spherical_walk_stays_on_the_sphere_at_equal_angles():
    a, b = np.array([0.0, 3.0, 0.0]), np.array([0.0, 0.0, 3.0])
    walk = spherical(a, b, 4)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=1), 3.0)
    np.testing.assert_allclose(np.degrees(np.arctan2(walk[:, 2], walk[:, 1])), [0, 30, 60, 90])
    np.testing.assert_array_equal(spherical(a, 2 * a, 3), linear(a, 2 * a, 3))


def test_labels_are_numbers_or_names():
    def labelled(weights, key, z, y):
        return z * 0 + y[:, None]

    label = jax.ShapeDtypeStruct((1,), jnp.int32)
    model = made(program(labelled, struct(D), label), classes=("shirt", "dress"))
    assert model.sample(5)[:, 0].tolist() == [0, 1, 0, 1, 0]
    assert model.sample(2, labels="dress")[:, 0].tolist() == [1, 1]
    assert model.sample(labels=["dress", "shirt", "1"])[:, 0].tolist() == [1, 0, 1]
    assert model.sample(labels=np.array([1, 0]))[:, 0].tolist() == [1, 0]
    assert model.interpolate(steps=2, label="dress")[..., 0].tolist() == [[1, 1]]
    for wrong in ("hat", 2, -1, 0.5):
        with pytest.raises(ValueError, match=f"no class {wrong!r}: the classes are shirt, dress"):
            model.sample(1, labels=wrong)
    with pytest.raises(ValueError, match="one class or one for each of 3"):
        model.sample(3, labels=[0, 1])
    with pytest.raises(ValueError, match="takes no label"):
        made().sample(1, labels=0)


def test_a_name_of_two_classes_is_no_class():
    """ImageNet has two cranes: the first would be taken for either."""
    model = made(
        program(doubled, struct(D), jax.ShapeDtypeStruct((1,), jnp.int32)), classes=("crane", "owl", "crane")
    )
    assert model.class_number("owl") == 1
    with pytest.raises(ValueError, match=r"The classes 0, 2 are called 'crane': give the number"):
        model.class_number("crane")


def test_numbers_that_are_names_of_other_classes_are_refused():
    """Sub-folders 0, 1, 10, 2: number 2 is the class called 10, and would be taken for that called 2."""
    model = made(
        program(doubled, struct(D), jax.ShapeDtypeStruct((1,), jnp.int32)), classes=("0", "1", "10", "2")
    )
    assert [model.class_number(label) for label in ("2", "10", 0, 1, np.int64(2))] == [3, 2, 0, 1, 2]
    for label in (2, 3, "3"):
        with pytest.raises(ValueError, match=r"number . of them is '(10|2)': give a name as a text"):
            model.class_number(label)
    assert model.class_rows(np.array([2, 3]), 2).tolist() == [2, 3]
    with pytest.raises(ValueError, match="give a name as a text"):
        model.sample(2, labels=[2, 2])


@pytest.mark.parametrize(
    ("classes", "label", "expected"),
    [
        (("0", "1", "10", "2", "other"), 2, None),  # number 2 is the class called 10
        (("0", "1", "10", "2", "other"), 2.0, None),
        (("0", "1", "10", "2", "other"), "4", None),
        (("0", "1", "10", "2", "other"), "2", 3),
        (("0", "1", "10", "2", "other"), jnp.array(2), 2),
        (("0", "1", "10", "2", "other"), 1, 1),
        (("-1", "0", "1"), 0, None),
        (("0", "1", "other"), 2, 2),  # numbers are at their places
        (("0", "1", "10", "2"), 2.0, None),
    ],
)
def test_a_number_that_is_the_name_of_another_class_is_refused_among_other_names_too(
    classes, label, expected
):
    model = made(program(doubled, struct(D), jax.ShapeDtypeStruct((1,), jnp.int32)), classes=classes)
    if expected is not None:
        assert model.class_number(label) == expected
        return
    with pytest.raises(ValueError, match="give a name as a text"):
        model.class_number(label)


def test_the_default_class_of_a_projection_is_the_first_whatever_it_is_called():
    def called(weights, key, z, label):
        return z @ weights["w"] + 100.0 * label[:, None]

    generator = program(called, struct(D), jax.ShapeDtypeStruct((1,), jnp.int32))
    found = project(made(generator, classes=("1", "10", "2")), np.zeros(D, np.float32), steps=2)
    assert np.abs(found.image).max() < 50


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_distance_of_a_projection_is_that_of_its_image_where_layers_draw_noise(seed):
    """The image was drawn with the noise of the first start, and not with that of the nearest one."""

    def noisy(weights, key, z):
        return z @ weights["w"] + jax.random.normal(jax.random.wrap_key_data(key), z.shape)

    target = np.array([0.5, -1.0, 2.0], np.float32)
    found = project(made(program(noisy, struct(D))), target, steps=3, seed=seed)
    assert found.distance == pytest.approx(float(np.mean((found.image - target) ** 2)), rel=1e-4)


def test_a_generator_without_latent_is_given_its_images():
    negative = program(lambda weights, key, image: -image, struct(2, 2, 1))
    model = made(negative, latent=None)
    image = np.full((3, 2, 2, 1), 0.25, np.float32)
    np.testing.assert_array_equal(model.sample(conditions=[image]), -image)
    with pytest.raises(ValueError, match=r"makes samples of \[n, 2, 2, 1\]: give them"):
        model.sample(3)
    with pytest.raises(ValueError, match="no latent"):
        model.latents(3)


def test_images_to_translate_are_taken_in_either_form():
    """Bytes went into a network of [-1, 1] as numbers up to 255."""
    negative = program(lambda weights, key, image: -image, struct(2, 2, 1))
    model = made(negative, latent=None)
    images = np.array([0, 51, 255, 0], np.uint8).reshape(1, 2, 2, 1)  # -1, -.6, 1, -1
    np.testing.assert_allclose(model.sample(conditions=[images]).ravel(), [1, 0.6, -1, 1], atol=1e-6)
    with pytest.warns(UserWarning, match=r"floats are in \[0, 255\]: give them as uint8, or x / 127.5 - 1"):
        model.sample(conditions=[images.astype(np.float64)])
    with pytest.warns(UserWarning, match=r"these floats are in \[0, 1\]: if 0 is black, give 2 \* x - 1"):
        model.sample(conditions=[images / 255])
    with pytest.warns(UserWarning, match=r"of 0 and 1 are nearly black.*if 1 is white, give 255 \* x"):
        model.sample(conditions=[np.array([0, 1, 1, 0], np.uint8).reshape(1, 2, 2, 1)])
    for other in (images.astype(np.int64), images > 100):
        with pytest.raises(ValueError, match=f"uint8, or floats in .* got {other.dtype}"):
            model.sample(conditions=[other])
    with pytest.raises(ValueError, match="conditions: 4 of 4 numbers are NaN"):
        model.sample(conditions=[np.full((1, 2, 2, 1), np.nan)])
    vectors = made(program(lambda weights, key, x: x, struct(D)), latent=None)
    attributes = np.array([[0, 1, 1]], np.uint8)
    np.testing.assert_array_equal(vectors.sample(conditions=[attributes]), attributes)


def test_scores_are_the_critics_of_images_in_either_form():
    critic = program(lambda weights, key, x: {"score": x}, struct(2, 2, 1))
    model = made(critic=critic)
    images = np.array([0, 51, 255, 0], np.uint8).reshape(1, 2, 2, 1)  # -1, -.6, 1, -1
    np.testing.assert_allclose(model.scores(images), [-0.4], atol=1e-6)
    np.testing.assert_allclose(model.scores(images / 127.5 - 1), [-0.4], atol=1e-6)
    with pytest.raises(ValueError, match=r"examples \[N, 2, 2, 1\], got \(1, 3, 3, 1\)"):
        model.scores(np.zeros((1, 3, 3, 1)))
    with pytest.raises(ValueError, match="no critic"):
        made().scores(images)
    with pytest.raises(ValueError, match=r"these floats are in \[0, 255\]: give them as uint8"):
        model.scores(images.astype(np.float64))
    with pytest.warns(UserWarning, match=r"these floats are in \[0, 1\]: if 0 is black, give 2 \* x - 1"):
        model.scores(images / 255)
    with pytest.warns(UserWarning, match="if 0 is black"):
        model.scores(images / 255 - 3e-8)
    with pytest.warns(UserWarning, match=r"of 0 and 1 are nearly black.*if 1 is white, give 255 \* x"):
        model.scores((images > 100).astype(np.uint8))
    masked = np.ma.masked_array(images / 127.5 - 1, mask=images == 51)
    with pytest.raises(ValueError, match="examples: 1 of 4 numbers are masked"):
        model.scores(masked)
    with pytest.raises(ValueError, match=r"project\(starts=1001\): starts is a finite number in \[1, 1000\]"):
        project(model, images[0], starts=1001)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs n"),
        ({"n": 0}, r"sample\(n=0\): n is a whole number, 1 or more"),
        ({"n": 2.5}, r"sample\(n=2.5\): n is a whole number"),
        ({"n": [3, 5]}, r"sample\(n=\[3, 5\]\): n is a whole number"),
        ({"z": np.zeros((2, 4))}, r"z is \[2, 3\], got \(2, 4\)"),
        ({"n": 3, "z": np.zeros((2, 3))}, r"z is \[3, 3\], got \(2, 3\)"),
        ({"z": np.zeros((2, 3)), "truncation": 0.5}, "z or truncation"),
        ({"n": 1, "conditions": [np.zeros((1, 2))]}, "fewer conditions"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        made().sample(**arguments)


def test_wrong_walks_are_named():
    for arguments, message in (
        ({"walk": "random"}, "spherical or linear"),
        ({"seeds": (1,)}, "two ends"),
        ({"steps": 1}, "two steps"),
        ({"steps": 2.5}, r"interpolate\(steps=2.5\): steps is a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            made().interpolate(**arguments)
