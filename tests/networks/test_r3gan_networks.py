"""R3GAN's networks: the paper's sizes and initial values, and a block of PyTorch's to the fifth digit."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.networks import R3GANBlock, R3GANCritic, R3GANGenerator, fir_downsample, fir_upsample, from_linen
from gan_jax.networks.r3gan import PRESETS, stage_sizes
from tests.networks.reference.make_r3gan import GROUPS, INSIDE, seeded_arrays
from tests.tiers import full, full_except

KEY = jax.random.key(0)
UNOPTIMISED = {"xla_backend_optimization_level": 0}
LABEL = jax.ShapeDtypeStruct((3,), jnp.int32)


def images(size, channels=3):
    return jax.ShapeDtypeStruct((3, size, size, channels), jnp.float32)


def latent(size=64):
    return jax.ShapeDtypeStruct((3, size), jnp.float32)


def count(module, *inputs):
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(module.init, KEY, *inputs)))


def initial(module, *inputs):
    arrays = [jnp.zeros(x.shape, x.dtype) for x in inputs]
    return jax.jit(module.init, compiler_options=UNOPTIMISED)(KEY, *arrays)["params"]


def test_cifar10s_networks_have_the_papers_parameter_counts():
    """20.78 million in the generator and 21.28 in the critic, conditional on ten classes."""
    width = PRESETS["cifar10"].width
    block = 768 * 1536 + 9 * 16 * 1536 + 1536 * 768 + 2 * 1536
    generator = 10 * 64 + 128 * 768 + 4 * 4 * 768 + 8 * block + 768 * 3
    critic = 3 * 768 + 8 * block + 4 * 4 * 768 + 768 * 768 + 10 * 768
    assert count(R3GANGenerator(width=width, num_classes=10), latent(), LABEL) == generator
    assert count(R3GANCritic(width=width, num_classes=10), images(32), LABEL) == critic
    assert (round(generator / 1e6, 2), round(critic / 1e6, 2)) == (20.78, 21.28)


@pytest.mark.parametrize("name", full_except(["ffhq256"], PRESETS))
def test_every_preset_has_96_groups_in_its_widest_stages(name):
    """768 channels have 96 groups of 16 inside their blocks, ImageNet's 1,536 have 96 of 32."""
    preset = PRESETS[name]
    options = {"width": preset.width, "blocks": preset.blocks, "group_size": preset.group_size}
    image = jax.eval_shape(
        R3GANGenerator(size=preset.size, **options).init_with_output, KEY, latent(preset.latent)
    )[0]
    assert image.shape == (3, preset.size, preset.size, 3)
    params = jax.eval_shape(R3GANCritic(**options).init, KEY, images(preset.size))["params"]
    smallest = params[f"R3GANBlock_{preset.blocks * len(stage_sizes(preset.size)) - 1}"]["spatial"]["kernel"]
    assert smallest.shape[3] / smallest.shape[2] == 96


def test_ffhq256s_stages_narrow_towards_the_image():
    widths = [768, 768, 768, 768, 384, 192, 96]
    assert list(PRESETS["ffhq256"].width) == widths
    params = jax.eval_shape(R3GANCritic(width=widths).init, KEY, images(256))["params"]
    transitions = {name: leaf["kernel"].shape[2:] for name, leaf in params.items() if "transition" in name}
    assert transitions == {"transition_6": (96, 192), "transition_5": (192, 384), "transition_4": (384, 768)}


@pytest.mark.full
def test_initial_values_are_the_papers():
    """N(0, 2 / 1.04 / sqrt(L) / fan in) before the activations, 0 at a block's end, 1 / fan in elsewhere."""
    params = initial(R3GANCritic(width=(64, 32), blocks=2, num_classes=10), images(8), LABEL)
    for place, channels in ((0, 32), (3, 64)):
        block = params[f"R3GANBlock_{place}"]
        gain = 2 / 1.04 / math.sqrt(4)
        assert np.var(block["widen"]["kernel"]) == pytest.approx(gain / channels, rel=0.1)
        assert np.var(block["spatial"]["kernel"]) == pytest.approx(gain / (9 * 16), rel=0.1)
        assert not np.any(block["narrow"]["kernel"])
        assert not np.any(block["widen_bias"])
    assert np.var(params["transition_1"]["kernel"]) == pytest.approx(1 / 32, rel=0.1)
    assert np.var(params["basis"]["kernel"]) == pytest.approx(1 / 16, rel=0.15)
    assert np.var(params["embedding"]["kernel"]) == pytest.approx(1 / 640, rel=0.2)
    params = initial(R3GANGenerator(size=8, width=64), latent(256))
    assert np.var(params["basis"]) == pytest.approx(1, rel=0.1)
    assert np.var(params["latent"]["kernel"]) == pytest.approx(1 / 256, rel=0.05)
    assert np.var(params["image"]["kernel"]) == pytest.approx(1 / 64, rel=0.3)


@pytest.mark.full
def test_at_first_the_generator_is_its_basis_enlarged():
    """Blocks are the identity: a linear function of z times the basis, enlarged, then the 1 x 1 to the image."""
    module = R3GANGenerator(size=8, channels=2, width=6)
    params = initial(module, latent(5))
    z = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)
    scale = z @ params["latent"]["kernel"]
    small = jnp.einsum("bc,hwc,co->bhwo", scale, params["basis"], params["image"]["kernel"][0, 0])
    out = jax.jit(module.apply)({"params": params}, z)
    np.testing.assert_allclose(out, fir_upsample(small), atol=1e-5)


@pytest.mark.full
def test_the_score_is_a_dot_product_with_the_labels_row():
    module = R3GANCritic(width=4, num_classes=3)
    params = initial(module, images(8), LABEL)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 3)), jnp.float32)
    y = jnp.array([2, 0, 2])
    score = jax.jit(module.apply)({"params": params}, x, y)
    h = fir_downsample(x) @ params["image"]["kernel"][0, 0]
    h = jnp.einsum("bhwc,hwc->bc", h, params["basis"]["kernel"][:, :, 0])
    expected = jnp.sum(h @ params["score"]["kernel"] * params["embedding"]["kernel"][y], axis=1)
    np.testing.assert_allclose(score, expected, atol=1e-5)


@pytest.mark.full
def test_a_block_between_resamplings_is_pytorchs_with_its_penalty():
    """The value, ||grad||^2 / 2 of a score by the image, and that penalty's gradients: a second derivative."""
    given = seeded_arrays()
    reference = np.load(pathlib.Path(__file__).parent / "reference" / "r3gan.npz")
    kernels = {
        name: jnp.asarray(given[name].transpose(2, 3, 1, 0)) for name in ("widen", "spatial", "narrow")
    }
    params = {name: {"kernel": kernel} for name, kernel in kernels.items()}
    params |= {name: jnp.asarray(given[name]) for name in ("widen_bias", "spatial_bias")}
    block = R3GANBlock(group_size=INSIDE // GROUPS)

    def network(params, x):
        return fir_upsample(block.apply({"params": params}, fir_downsample(x)))

    def penalty(params, x):
        return jnp.sum(jax.grad(lambda x: jnp.sum(jnp.tanh(network(params, x))))(x) ** 2) / 2

    x = jnp.asarray(given["x"].transpose(0, 2, 3, 1))
    out = network(params, x)
    value, (by_params, by_x) = jax.jit(jax.value_and_grad(penalty, (0, 1)))(params, x)

    def close(found, name, order=None):
        expected = reference[name] if order is None else reference[name].transpose(order)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(np.asarray(found) / scale, expected / scale, atol=1e-5)

    close(out, "out", (0, 2, 3, 1))
    close(value, "penalty")
    close(by_x, "by_x", (0, 2, 3, 1))
    for name in kernels:
        close(by_params[name]["kernel"], f"by_{name}", (2, 3, 1, 0))
    for name in ("widen_bias", "spatial_bias"):
        close(by_params[name], f"by_{name}")


@pytest.mark.parametrize(("size", "base"), [(28, 7), full(48, 6), full(20, 5), (32, 4)])
def test_sizes_are_four_to_seven_times_a_power_of_two(size, base):
    image = jax.eval_shape(R3GANGenerator(size=size, channels=1, width=4).init_with_output, KEY, latent(4))[0]
    assert image.shape == (3, size, size, 1)
    params = jax.eval_shape(R3GANCritic(width=4).init, KEY, images(size))["params"]
    assert params["basis"]["kernel"].shape == (base, base, 1, 4)


@pytest.mark.full
def test_heads_and_compute_types():
    """Heads as other critics have them; in bf16 everything inside, float32 parameters and outputs."""
    module = R3GANCritic(
        width=8, heads={"classes": 5}, score_from="classes", features=True, dtype=jnp.bfloat16
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 3)), jnp.float32)
    params = initial(module, images(8))
    out = jax.jit(module.apply, compiler_options=UNOPTIMISED)({"params": params}, x)
    assert {name: head.shape for name, head in out.items()} == {
        "score": (3,),
        "classes": (3, 5),
        "features": (3, 8),
    }
    assert {leaf.dtype for leaf in jax.tree.leaves((out, params))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(out["score"], jax.nn.logsumexp(out["classes"], axis=1), rtol=1e-5)
    exact = R3GANCritic(width=8, heads={"classes": 5}, features=True)
    close = exact.apply({"params": {**params, "score": {"kernel": jnp.ones((8, 1))}}}, x)
    np.testing.assert_allclose(out["features"], close["features"], atol=0.1)
    assert float(jnp.std(close["features"])) > 0.1


def test_a_critic_couples_nothing():
    assert not from_linen(R3GANCritic(width=4), images(8)).couples_batch


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (R3GANGenerator(size=36), (latent(),), "times a power of two"),
        (R3GANCritic(), (images(9),), "times a power of two"),
        (R3GANCritic(), (jax.ShapeDtypeStruct((1, 8, 12, 1), jnp.float32),), "square images"),
        (R3GANCritic(width=(4, 4, 4)), (images(8),), "a sequence of 2"),
        (R3GANCritic(width=12), (images(8),), "Groups of 16 channels do not divide the 24"),
        (R3GANCritic(width=4, score_from="classes"), (images(8),), "names no head"),
        (R3GANCritic(width=4), (images(8), LABEL), "num_classes="),
    ],
)
def test_misfits_are_named(module, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, KEY, *inputs)
