"""StyleGAN2's networks against their formulas: modulation, filters, truncation, mixing, averages, counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import convolve2d

from gan_jax.network import parameter_count
from gan_jax.networks import StyleGAN2Critic, StyleGAN2Generator, from_linen, stylegan2_generator
from gan_jax.networks.convolution import conv
from gan_jax.networks.stylegan2 import (
    EqualizedDense,
    MappingNetwork,
    modulated_conv,
    normalize_second_moment,
    scaled_leaky_relu,
    stage_sizes,
)
from tests.networks import torch_stylegan2

KEY = jax.random.key(0)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def generator(**options):
    module = StyleGAN2Generator(
        **{"size": (12, 16), "channels": 2, "width": 4, "most": 8, "style": 6, "layers": 2, **options}
    )
    examples = (jnp.zeros((2, 5)), *([jnp.zeros(2, jnp.int32)] if module.num_classes else []))
    return from_linen(module, *examples)


@functools.cache
def initial():
    """Parameters and model state; noise strengths are not 0, and the average of w is not either."""
    params = jax.tree.map_with_path(
        lambda path, leaf: leaf + 0.5 if "strength" in jax.tree_util.keystr(path) else leaf,
        generator().init(KEY)[0],
    )
    return params, {"w_average": {"w": jnp.linspace(-1.0, 1.0, 6)}}


def images(network, z, key=None, train=False):
    variables = initial()
    return jax.jit(lambda z, key: network.apply(*variables, z, train=train, key=key))(z, key)


modulated = jax.jit(modulated_conv, static_argnames=("demodulate", "up"))


# --- the modulated convolution ----------------------------------------------------------------------------


@pytest.mark.parametrize("up", [False, True])
def test_modulation_is_that_of_each_examples_kernel(up):
    """Equations (1) and (3) by their letters: kernels s_i w_ijk / norm, one convolution for each example."""
    x, kernel, scales = normal(3, 5, 4, 2), normal(3, 3, 2, 4, seed=1), normal(3, 2, seed=2)
    found = modulated(x, kernel, scales, up=up)
    for example in range(3):
        weights = np.asarray(kernel) * np.asarray(scales)[example][:, None]
        weights = weights / np.sqrt((weights**2).sum((0, 1, 2)) + 1e-8)
        if not up:
            expected = conv(x[example : example + 1], jnp.asarray(weights))[0]
            np.testing.assert_allclose(found[example], expected, rtol=1e-4, atol=1e-5)
            continue
        # Zeros between the pixels, the kernel's correlation, then [1, 3, 3, 1] with a gain of 2 an axis.
        fir = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16
        for out in range(4):
            filtered = np.zeros((11, 9))
            for i in range(2):
                zeros = np.zeros((9, 7))
                zeros[::2, ::2] = x[example, :, :, i]
                filtered += convolve2d(zeros, weights[::-1, ::-1, i, out])
            expected = convolve2d(np.pad(filtered, 1), fir, mode="valid")
            np.testing.assert_allclose(found[example, :, :, out], expected, rtol=1e-4, atol=1e-5)


def test_modulation_is_scale_convolve_scale():
    x, kernel, scales = normal(2, 4, 4, 3), normal(3, 3, 3, 2, seed=1), normal(2, 3, seed=2)
    plain = conv(x * scales[:, None, None], kernel)
    norm = np.sqrt(np.einsum("bi,hwio->bo", np.square(scales), np.square(kernel)) + 1e-8)
    np.testing.assert_allclose(
        modulated(x, kernel, scales), plain / norm[:, None, None], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(modulated(x, kernel, scales, demodulate=False), plain, rtol=1e-5)


def test_demodulated_outputs_have_variance_1_under_independent_unit_inputs():
    """Whatever the scales are, at interior pixels: 4,096 examples, the sample variance's deviation is sqrt(2/n)."""
    n = 4096
    kernel, scales = normal(3, 3, 2, 3, seed=1), 5 * normal(1, 2, seed=2)
    out = modulated(normal(n, 3, 3, 2), kernel, jnp.broadcast_to(scales, (n, 2)))[:, 1, 1]
    np.testing.assert_allclose(jnp.var(out, axis=0), 1.0, atol=5 * np.sqrt(2 / n))


def test_a_convolution_that_doubles_keeps_a_constant_inside():
    """The filter's constants: a 1 x 1 kernel of 1 spread by [1, 3, 3, 1] / 4 an axis leaves 2 x 2 pixels of one."""
    x = jnp.full((1, 6, 6, 1), 3.0)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    out = modulated(x, kernel, jnp.ones((1, 1)), demodulate=False, up=True)[0, :, :, 0]
    np.testing.assert_allclose(out[2:-2, 2:-2], 3.0, rtol=1e-6)
    np.testing.assert_allclose(out[0, 4], 3.0 * 3 / 4, rtol=1e-6)


def test_gradients_of_both_orders_are_pytorchs():
    """The numbers that `torch_stylegan2` prints: the loss sum sin(y) g, and the squared slope by the scales."""
    x, kernel, scales, direction = (jnp.asarray(array, jnp.float32) for array in torch_stylegan2.inputs())

    def loss(x, kernel, scales):
        return jnp.sum(jnp.sin(modulated_conv(x, kernel, scales, up=True)) * direction)

    def squared_slope(x, kernel):
        return jnp.sum(jax.grad(loss, 2)(x, kernel, scales) ** 2)

    value, (by_x, by_kernel, by_scales) = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(x, kernel, scales)
    second_x, second_kernel = jax.jit(jax.grad(squared_slope, (0, 1)))(x, kernel)
    np.testing.assert_allclose(value, 5.548048647842133, rtol=1e-5)
    np.testing.assert_allclose(
        by_scales,
        [[3.464526641379872, 1.252955382438595], [-0.6924960610357286, 0.11716104714679727]],
        rtol=1e-4,
    )
    squares = [float(jnp.sum(grad**2)) for grad in (by_x, by_kernel, second_kernel, second_x)]
    expected = [110.02473406975234, 88.4505080562194, 27857.334360925135, 12196.505743205715]
    np.testing.assert_allclose(squares, expected, rtol=1e-4)
    entries = [jnp.sum(by_x), by_kernel[0, 1, 1, 2], second_kernel[2, 0, 1, 1]]
    np.testing.assert_allclose(
        entries, [-5.600177046239107, -2.0826618740423593, 12.41973059460257], rtol=1e-3
    )


# --- the mapping network ----------------------------------------------------------------------------------


def test_equalised_layers_scale_at_run_time():
    """Kernel N(0, 1) / m times m / sqrt(fan in), bias times m; at the start it is as if m were 1."""
    layer = EqualizedDense(3, multiplier=0.01, bias=2.0)
    params = layer.init(KEY, jnp.zeros((1, 4)))["params"]
    assert params["bias"].tolist() == pytest.approx([200.0] * 3)
    x = normal(2, 4)
    expected = x @ params["kernel"] * (0.01 / 2) + 2.0
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-5)


def test_the_mapping_normalises_and_is_what_its_layers_say():
    z, label = 100 * normal(4, 5), jnp.eye(3)[jnp.array([0, 1, 2, 0])]
    module = MappingNetwork(width=4, layers=2)
    variables = module.init(KEY, z, label)
    params = jax.tree.map(np.asarray, variables["params"])
    embedded = label @ params["label"]["kernel"] / np.sqrt(3) + params["label"]["bias"]
    parts = [np.asarray(v) / np.sqrt(np.square(v).mean(1, keepdims=True) + 1e-8) for v in (z, embedded)]
    h = np.concatenate(parts, axis=1)
    for place in range(2):
        layer = params[f"layer_{place}"]
        h = h @ layer["kernel"] * 0.01 / np.sqrt(h.shape[1]) + 0.01 * layer["bias"]
        h = np.sqrt(2) * np.where(h > 0, h, 0.2 * h)
    np.testing.assert_allclose(module.apply(variables, z, label), h, rtol=1e-4, atol=1e-5)


def test_scaled_activations():
    np.testing.assert_allclose(scaled_leaky_relu(jnp.array([-1.0, 1.0])), np.sqrt(2) * np.array([-0.2, 1]))
    np.testing.assert_allclose(
        normalize_second_moment(jnp.array([[3.0, 4.0]])), [[0.848528, 1.131371]], rtol=1e-5
    )


# --- the generator ----------------------------------------------------------------------------------------


@pytest.mark.full
def test_psi_0_gives_one_image_at_constant_noise_and_psi_1_many():
    z = normal(3, 5)
    same = images(generator(psi=0.0, constant_noise=True), z, KEY)[0]
    np.testing.assert_allclose(same, np.broadcast_to(same[:1], same.shape), atol=1e-6)
    assert np.ptp(same[0]) > 0.1
    different = images(generator(constant_noise=True), z, KEY)[0]
    assert np.abs(np.diff(different, axis=0)).max() > 0.1


@pytest.mark.full
def test_without_a_key_noise_is_constant_and_with_one_it_is_not():
    z = jnp.broadcast_to(normal(1, 5), (2, 5))
    constant, drawn = images(generator(), z)[0], images(generator(), z, KEY)[0]
    np.testing.assert_allclose(constant[0], constant[1], atol=1e-6)
    assert np.abs(drawn[0] - drawn[1]).max() > 0.01
    assert np.abs(constant).max() <= 1


@pytest.mark.full
def test_truncation_moves_w_towards_its_average():
    """At psi .5 of a network whose w is w': the image of w = average + (w' - average) / 2, given as an offset."""
    z = normal(2, 5)
    params, state = initial()
    w = MappingNetwork(6, 2).apply({"params": params["mapping"]}, z)
    offset = (state["w_average"]["w"] - w) / 2
    plain, truncated = generator(constant_noise=True), generator(psi=0.5, constant_noise=True)

    def moved(offset):
        return plain.apply(params, {**state, "w_offset": {"w": offset}}, z, train=False, key=None)[0]

    expected = jax.jit(moved)(offset)
    np.testing.assert_allclose(images(truncated, z)[0], expected, atol=1e-5)
    assert np.abs(expected - images(plain, z)[0]).max() > 0.05


@pytest.mark.full
def test_the_two_halves_are_the_generator_and_truncation_is_of_w():
    """One after the other, to the bit and with the same noise; another w is another image."""
    module = StyleGAN2Generator(size=8, channels=1, width=4, most=4, style=6, num_classes=3)
    z, y = normal(4, 5), jnp.array([0, 2, 1, 0])
    network = stylegan2_generator(module, z, y)
    params, model_state = network.init(jax.random.key(1))
    key = jax.random.key(2)
    mapping, synthesis = network.halves
    w, _ = mapping(params, model_state, z, y, train=False, key=key)
    out, _ = synthesis(params, model_state, w, train=False, key=key)
    whole, _ = network.apply(params, model_state, z, y, train=False, key=key)
    np.testing.assert_array_equal(out, whole)
    other, _ = synthesis(params, model_state, 0.5 * w, train=False, key=key)
    assert np.abs(other - whole).max() > 1e-3


@pytest.mark.full
def test_the_average_of_w_follows_training_calls_only():
    z = normal(8, 5)
    params, state = initial()
    w = MappingNetwork(6, 2).apply({"params": params["mapping"]}, z)
    after = images(generator(beta=0.9), z, KEY, train=True)[1]["w_average"]["w"]
    np.testing.assert_allclose(after, 0.9 * state["w_average"]["w"] + 0.1 * w.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(images(generator(), z, KEY)[1]["w_average"]["w"], state["w_average"]["w"])


@pytest.mark.full
def test_the_average_is_copied_and_not_averaged_again():
    marked = generator().running_statistics(initial()[1])
    assert marked == {"w_average": {"w": False}}


@pytest.mark.full
def test_mixing_changes_layers_from_a_random_one_on():
    """With mixing 1 images of a training call with a key differ from those without; with mixing 0 they agree."""
    z = normal(4, 5)
    params = jax.tree.map_with_path(
        lambda path, leaf: 0 * leaf if "strength" in jax.tree_util.keystr(path) else leaf, initial()[0]
    )

    def made(mixing, key):
        network = generator(mixing=mixing)
        return jax.jit(lambda z: network.apply(params, initial()[1], z, train=True, key=key)[0])(z)

    plain = made(0.0, None)
    np.testing.assert_allclose(made(0.0, KEY), plain, atol=1e-5)
    assert (np.abs(made(1.0, KEY) - plain).max((1, 2, 3)) > 1e-3).all()


@pytest.mark.parametrize(
    ("size", "smallest", "stages"),
    [(8, (4, 4), 2), (96, (6, 6), 5), ((96, 128), (6, 8), 5), ((48, 64), (6, 8), 4), (28, (7, 7), 3)],
)
def test_sizes_are_halved_to_4_to_7_pixels(size, smallest, stages):
    sizes = stage_sizes(size)
    assert sizes[-1] == smallest
    assert len(sizes) == stages


@pytest.mark.parametrize("size", [7, 30, (32, 36)])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="4 to 7 times a power of two"):
        stage_sizes(size)


# --- the critic -------------------------------------------------------------------------------------------


def critic(**options):
    module = StyleGAN2Critic(**{"width": 4, "most": 8, "layers": 2, **options})
    labels = [jnp.zeros(4, jnp.int32)] if module.num_classes else []
    return from_linen(module, jnp.zeros((4, 8, 8, 2)), *labels)


@pytest.mark.full
def test_the_critic_compares_groups_of_four():
    """The score of an example depends on the three others of its group, and on no other."""
    network, x = critic(), normal(8, 8, 8, 2)
    params, state = network.init(KEY)
    score = jax.jit(lambda x: network.apply(params, state, x, train=True)[0])
    changed = score(x + (jnp.arange(8) == 5)[:, None, None, None]) - score(x)
    assert (np.abs(changed[4:]) > 1e-4).all()
    np.testing.assert_allclose(changed[:4], 0, atol=1e-6)
    assert critic(minibatch="none").couples_batch is False
    assert network.couples_batch is True
    assert score(x[:3]).shape == (3,)


@pytest.mark.full
def test_a_label_is_projected():
    network, x = critic(num_classes=3, minibatch="none"), normal(6, 8, 8, 2)
    params, state = network.init(KEY)
    y = jnp.array([0, 1, 2, 0, 1, 2])
    score = jax.jit(lambda x, y: network.apply(params, state, x, y, train=True)[0])
    assert (np.abs(score(x, y) - score(x, (y + 1) % 3)) > 1e-4).all()
    unconditional = critic(minibatch="none")
    without = {name: leaf for name, leaf in params.items() if name not in ("mapping", "projection")}
    plain = jax.jit(lambda x: unconditional.apply(without, {}, x, train=True)[0])(x)
    zeroed = {**params, "projection": jax.tree.map(np.zeros_like, params["projection"])}
    found = jax.jit(lambda x: network.apply(zeroed, state, x, y, train=True)[0])(x)
    np.testing.assert_allclose(found, plain, rtol=1e-5)


@pytest.mark.full
def test_residual_blocks_keep_the_variance():
    """Unit inputs through both ways and sqrt .5: at the start scores deviate by about 1, not 2^(blocks / 2)."""
    network = from_linen(StyleGAN2Critic(width=8, most=16, minibatch="none"), jnp.zeros((2, 32, 32, 3)))
    x = normal(64, 32, 32, 3)
    scores = jax.jit(jax.vmap(lambda key: network.apply(*network.init(key), x, train=True)[0]))
    assert 0.05 < np.std(scores(jax.random.split(KEY, 4))) < 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"norm": "batch"}, "has no normalisation"), ({"minibatch": "discrimination"}, "'stddev' or 'none'")],
)
def test_what_the_critic_does_not_have_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        critic(**options)


# --- both -------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_counts_are_those_of_the_layers():
    """12 x 16, width 4, at most 8, w of 6, z of 5, by hand.

    Mapping: 5 * 6 + 6 and 6 * 6 + 6. Stages: 6 x 8 pixels with 8 channels, 12 x 16 with 4. A modulated convolution
    I -> O with a kernel k has k k I O + 6 I + I, a styled one O + 1 more.
    """

    def styled(i, o):
        return 9 * i * o + 7 * i + o + 1

    def shown(i):
        return 2 * i + 7 * i + 2

    expected = 36 + 42 + 6 * 8 * 8 + styled(8, 8) + shown(8) + styled(8, 4) + styled(4, 4) + shown(4)
    assert parameter_count(generator().init(KEY)[0]) == expected
    # The critic at 8 x 8: image 2 -> 4, a block 4 -> 8, 9 -> 8 beside the deviation, 4 * 4 * 8 -> 8 -> 1.
    block = (9 * 4 * 4 + 4) + (9 * 4 * 8 + 8) + 4 * 8
    assert parameter_count(critic().init(KEY)[0]) == (8 + 4) + block + (9 * 9 * 8 + 8) + (128 * 8 + 8) + 9


@pytest.mark.full
def test_bfloat16_computes_convolutions_and_keeps_the_rest():
    z = normal(4, 5)
    plain = images(generator(), z, train=True)[0]
    rough, state = images(generator(dtype=jnp.bfloat16), z, train=True)
    assert rough.dtype == jnp.float32
    assert state["w_average"]["w"].dtype == jnp.float32
    difference = float(np.abs(rough - plain).max())
    assert 1e-5 < difference < 0.1 * np.abs(plain).max()
    network, x = critic(dtype=jnp.bfloat16), normal(4, 8, 8, 2)
    params, model_state = network.init(KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    exact, found = (
        jax.jit(lambda x, made=made: made.apply(params, model_state, x, train=True)[0])(x)
        for made in (critic(), network)
    )
    np.testing.assert_allclose(found, exact, atol=0.1)
