"""The fast convolutions against JAX's native ones, scipy, finite differences and the adjoint identity."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.signal
from jax import export
from jax.sharding import AxisType, PartitionSpec

from gan_jax.networks import conv, conv_transpose, convolution, forward_mode
from gan_jax.networks.convolution import input_grad, kernel_grad
from tests.tiers import full, full_except

# (kernel, strides, size, padding, batch). Between them: every kernel and stride, odd and even sizes, both paddings,
# a kernel as wide as the image, a stride beyond the kernel, kernels and images that are not square, and both forms
# on a CPU, convolutions and the matrix products of small images. Either operation's derivatives run through all
# three of the closed set.
CONV_CASES = [
    (1, 2, 5, "SAME", 8),
    (3, 1, 6, "SAME", 2),
    (5, 3, 15, "SAME", 3),
    (7, 2, 7, "VALID", 2),
    (4, 2, 4, "SAME", 3),
]
# (groups, channels in, channels out, a case) as above: grouped, depthwise, with several outputs a channel, strided
# ones with either form of the gradient by the input, and small images.
GROUP_CASES = [
    (2, 4, 6, (3, 1, 6, "SAME", 2)),
    (3, 3, 3, (4, 1, 4, "VALID", 3)),
    (3, 3, 6, (3, 2, 7, "SAME", 2)),
    (4, 4, 4, ((3, 2), (2, 1), (6, 5), "VALID", 9)),
    (2, 6, 2, (3, 1, 9, "SAME", 2)),
    (18, 36, 18, (3, 1, 6, "SAME", 2)),
]
TRANSPOSE_CASES = [
    (2, 3, 8, "VALID", 2),
    (4, 2, 7, "SAME", 2),
    (6, 1, 7, "VALID", 2),
    ((3, 4), (2, 1), (6, 5), "SAME", 3),
    ((5, 4), (3, 2), (2, 3), "SAME", 2),
]
FULL = [
    (kernel, strides, size, padding, 5)
    for kernel in range(1, 8)
    for strides in (1, 2, 3)
    for size in (7, 8, 21, 22)
    for padding in ("SAME", "VALID")
]
PLAIN = ("NHWC", "HWIO", "NHWC")


def pair(value):
    return (value, value) if isinstance(value, int) else value


def native_conv(x, w, *, strides, padding, groups=1):
    return jax.lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=PLAIN, feature_group_count=groups
    )


def native_conv_transpose(x, w, *, strides, padding):
    return jax.lax.conv_transpose(x, w, strides, padding, dimension_numbers=PLAIN)


OPERATIONS = [(conv, native_conv), (conv_transpose, native_conv_transpose)]
QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0}


def derivatives(operation, strides, padding, order):
    """The value and all gradients up to `order` of a function that is curved in both arguments."""

    def value(x, w):
        return jnp.sum(jnp.sin(operation(x, w, strides=pair(strides), padding=padding)))

    functions = [value]
    for _ in range(order):
        functions.append(curved_norm(jax.grad(functions[-1], (0, 1))))

    def everything(x, w):
        out = operation(x, w, strides=pair(strides), padding=padding)
        return out, [jax.grad(function, (0, 1))(x, w) for function in functions[:order]]

    return everything


def curved_norm(gradient):
    def norm(x, w):
        return sum(jnp.sum(jnp.sin(2 * part)) for part in gradient(x, w))

    return norm


def check_case(operation, native, case, order, tolerance=1e-10, channels=(3, 3, 2)):
    kernel, strides, size, padding, batch = case
    of_images, of_kernel, out = channels
    x = np.random.default_rng(0).normal(size=(batch, *pair(size), of_images))
    w = np.random.default_rng(1).normal(size=(*pair(kernel), of_kernel, out)) / 3
    with jax.enable_x64(True):
        ours, theirs = (
            jax.jit(derivatives(function, strides, padding, order), compiler_options=QUICK_TO_COMPILE)(x, w)
            for function in (operation, native)
        )
    for mine, yours in zip(*map(jax.tree.leaves, jax.device_get((ours, theirs))), strict=True):
        scale = 1 + np.abs(yours).max()
        np.testing.assert_allclose(mine / scale, yours / scale, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("case", full_except(CONV_CASES[1:4], CONV_CASES), ids=str)
def test_conv_and_two_derivatives_are_the_native_ones(case):
    check_case(conv, native_conv, case, order=2)


def check_groups(case, order=2):
    groups, channels_in, channels_out, shape = case
    ours, native = (functools.partial(operation, groups=groups) for operation in (conv, native_conv))
    check_case(ours, native, shape, order, channels=(channels_in, channels_in // groups, channels_out))


@pytest.mark.parametrize("case", full_except(GROUP_CASES[:3], GROUP_CASES), ids=str)
def test_grouped_conv_and_two_derivatives_are_the_native_ones(case):
    check_groups(case)


def test_a_grouped_conv_is_a_conv_of_each_group():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 5, 4)), jnp.float32)
    w = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 6)), jnp.float32)
    halves = [conv(x[..., 2 * g : 2 * g + 2], w[..., 3 * g : 3 * g + 3]) for g in range(2)]
    np.testing.assert_allclose(conv(x, w, groups=2), jnp.concatenate(halves, -1), atol=1e-5)


@pytest.mark.parametrize("case", full_except(TRANSPOSE_CASES[1:4], TRANSPOSE_CASES), ids=str)
def test_conv_transpose_and_two_derivatives_are_the_native_ones(case):
    check_case(conv_transpose, native_conv_transpose, case, order=2)


@pytest.mark.slow
@pytest.mark.parametrize("case", FULL, ids=str)
@pytest.mark.parametrize(("operation", "native"), OPERATIONS, ids=["conv", "conv_transpose"])
def test_third_derivatives_are_the_native_ones(operation, native, case):
    # Sines of second derivatives in the thousands: what differs in the last bits is amplified as much.
    check_case(operation, native, case, order=3, tolerance=1e-8)


def test_conv_is_scipys_correlation():
    x = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
    w = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    full = scipy.signal.correlate2d(x, w, mode="valid")
    ours = conv(x[None, :, :, None], w[:, :, None, None], strides=(2, 3), padding="VALID")[0, :, :, 0]
    np.testing.assert_allclose(ours, full[::2, ::3], atol=1e-5)


def test_transposed_conv_spreads_the_kernel_around_each_pixel():
    """One bright pixel becomes the kernel itself, flipped (JAX's convention), at `strides` times its place."""
    w = jnp.arange(9.0).reshape(3, 3, 1, 1)
    x = jnp.zeros((1, 3, 3, 1)).at[0, 1, 2, 0].set(1.0)
    out = np.asarray(conv_transpose(x, w, strides=2, padding="VALID")[0, :, :, 0])
    assert out.shape == (7, 7)
    np.testing.assert_array_equal(out[2:5, 4:7], np.arange(9.0).reshape(3, 3)[::-1, ::-1])
    assert out.sum() == 36.0


@pytest.mark.parametrize(("kernel", "strides", "size"), [(3, 2, 15), (4, 3, 8)])
def test_the_three_operations_are_adjoint(kernel, strides, size):
    """sum(g conv(x, w)) = sum(x input_grad(g, w)) = sum(w kernel_grad(x, g)), for asymmetric padding too."""
    strides, padding = (strides, strides), ((1, 2), (0, 1))
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        x, w = random.normal(size=(2, size, size, 3)), random.normal(size=(kernel, kernel, 3, 4))
        y = conv(x, w, strides=strides, padding=padding)
        g = random.normal(size=y.shape)
        by_input = input_grad(g, w, strides=strides, padding=padding, size=(size, size))
        by_kernel = kernel_grad(x, g, strides=strides, padding=padding, kernel=(kernel, kernel))
        y, by_input, by_kernel = map(np.asarray, (y, by_input, by_kernel))
    np.testing.assert_allclose(np.sum(x * by_input), np.sum(g * y), rtol=1e-12)
    np.testing.assert_allclose(np.sum(w * by_kernel), np.sum(g * y), rtol=1e-12)


def penalized(operation):
    """WGAN-GP's penalty of a two-layer critic, a strided and a transposed convolution."""

    def penalty(params, x):
        def critic(x):
            h = jnp.tanh(operation[0](x, params["down"], strides=(2, 2), padding="SAME"))
            return jnp.sum(jnp.tanh(operation[1](h, params["up"], strides=(2, 2), padding="SAME")))

        norm = jnp.sqrt(jnp.sum(jnp.square(jax.grad(critic)(x)), (1, 2, 3)))
        return jnp.mean(jnp.square(norm - 1))

    return penalty


def critic_arrays():
    random = np.random.default_rng(0)
    params = {"down": random.normal(size=(4, 4, 2, 3)) / 3, "up": random.normal(size=(3, 3, 3, 2)) / 3}
    return params, random.normal(size=(6, 8, 8, 2))


@pytest.mark.full
def test_a_penaltys_parameter_gradient_agrees_with_finite_differences():
    params, x = critic_arrays()
    direction = jax.tree.map(lambda p: np.random.default_rng(1).normal(size=p.shape), params)
    with jax.enable_x64(True):
        penalty = jax.jit(penalized((conv, conv_transpose)))
        gradient = jax.jit(jax.grad(penalty))(params, x)
        slope = sum(np.sum(np.asarray(gradient[name]) * direction[name]) for name in params)
        ahead, behind = (
            float(penalty(optax.tree.add_scale(params, step, direction), x)) for step in (1e-5, -1e-5)
        )
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-7)


@pytest.mark.full
def test_gradient_descent_inside_a_scan_is_the_native_loop():
    params, x = critic_arrays()

    def descend(operation, params, x):
        def step(params, _):
            gradient = jax.grad(penalized(operation))(params, x)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), None

        return jax.lax.scan(step, params, None, length=3)[0]

    with jax.enable_x64(True):
        ours = jax.jit(lambda p, x: descend((conv, conv_transpose), p, x))(params, x)
        theirs = params
        slope = jax.jit(jax.grad(penalized((native_conv, native_conv_transpose))))
        for _ in range(3):
            theirs = jax.tree.map(lambda p, g: p - 0.1 * np.asarray(g), theirs, slope(theirs, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), ours, theirs)


def test_on_a_cpu_every_convolution_of_a_double_backward_pass_has_plain_operands():
    """Other dimension numbers are what is slow inside loops; the native program has them."""
    # The penalty's images, 4 x 4 and 8 x 8, have no fewer pixels than the kernels have taps.
    params, x = critic_arrays()

    def operands(operation):
        text = jax.jit(jax.grad(penalized(operation))).lower(params, x).as_text()
        return re.findall(r"stablehlo.convolution.*dim_numbers = (.*?), window", text)

    plain = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
    ours = operands((conv, conv_transpose))
    assert len(ours) > 6
    assert set(ours) == {plain}
    assert set(operands((native_conv, native_conv_transpose))) != {plain}


def test_shards_with_replicated_parameters_sum_to_the_full_batchs_gradient():
    params, x = critic_arrays()
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2], axis_types=(AxisType.Auto,))
    data, everywhere = PartitionSpec("data"), PartitionSpec()
    with jax.enable_x64(True):
        gradient = jax.grad(penalized((conv, conv_transpose)))
        sharded = jax.shard_map(gradient, mesh=mesh, in_specs=(everywhere, data), out_specs=everywhere)
        halves = jax.jit(sharded)(params, x)
        whole = jax.jit(gradient)(params, x)
    # Each shard's penalty is the mean over its own half: their sum is twice the whole mean.
    for name in params:
        np.testing.assert_allclose(np.asarray(halves[name]), 2 * np.asarray(whole[name]), rtol=1e-10)


def test_small_images_leave_no_convolution_to_exchange_the_operands_of():
    """XLA swaps image and kernel where the image is smaller, and then convolves in a naive loop."""

    def gradient(x, w):
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w, strides=2))), (0, 1))(x, w)

    text = jax.jit(gradient).lower(jnp.ones((64, 4, 4, 2)), jnp.ones((4, 4, 2, 3))).as_text()
    assert "stablehlo.convolution" not in text
    assert "stablehlo.dot_general" in text


def test_strides_leave_no_dilated_image_to_convolve():
    """XLA multiplies the zeros between the pixels, three quarters of the products with strides of two."""

    def gradient(x, w):
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w, strides=2))), (0, 1))(x, w)

    text = jax.jit(gradient).lower(jnp.ones((3, 12, 12, 2)), jnp.ones((4, 4, 2, 3))).as_text()
    assert text.count("stablehlo.convolution") == 2
    assert "lhs_dilate = [1, 1]" in text
    assert "lhs_dilate = [2, 2]" not in text


def test_no_convolution_without_padding_is_left_on_a_cpu():
    """XLA's takes up to four times as long there as one with padding."""

    def gradient(x, w):
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w, padding="VALID"))), (0, 1))(x, w)

    operands = jnp.ones((3, 12, 12, 2)), jnp.ones((3, 3, 2, 4))
    text = jax.jit(gradient).lower(*operands).as_text()
    pads = re.findall(r"stablehlo.convolution.*?pad = (\[\[.*?\]\])", text)
    assert len(pads) == 3
    assert "[[0, 0], [0, 0]]" not in pads
    elsewhere = jax.jit(gradient).trace(*operands).lower(lowering_platforms=("cuda",)).as_text()
    assert re.findall(r"stablehlo.convolution.*?pad = (\[\[.*?\]\])", elsewhere)[0] == "[[0, 0], [0, 0]]"


@pytest.mark.full
@pytest.mark.parametrize(
    "case", [(4, 2, 12, "SAME", 9), (2, 3, 12, "VALID", 9), ((3, 4), (3, 2), (11, 12), "VALID", 9)], ids=str
)
def test_beyond_the_columns_limit_the_gradient_by_the_input_is_a_convolution_per_phase(case, monkeypatch):
    monkeypatch.setattr(convolution, "COLUMNS_LIMIT", 0)
    monkeypatch.setattr(convolution, "FEW_CHANNELS", 0)
    kernel, strides, size, *_ = case
    x, w = jnp.ones((9, *pair(size), 3)), jnp.ones((*pair(kernel), 3, 2))
    text = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(conv(x, w, strides=strides))))).lower(x).as_text()
    phases = math.prod(min(k, s) for k, s in zip(pair(kernel), pair(strides), strict=True))
    assert text.count("stablehlo.convolution") == 1 + phases
    check_case(conv, native_conv, case, order=2)
    check_groups((2, 4, 6, case))


# Batches that no other test has, so that no trace is shared with one.
@pytest.mark.full
@pytest.mark.parametrize("case", [(4, 2, 4, "SAME", 6), (3, (2, 1), 9, "VALID", 7)], ids=str)
def test_the_form_for_other_platforms_is_exact_too(case, monkeypatch):
    """What a GPU or TPU would run, run here: the native operations, on small images and large ones."""
    chosen = []

    def elsewhere(*operands, default, cpu):
        chosen.append(default)
        return default(*operands)

    monkeypatch.setattr(jax.lax, "platform_dependent", elsewhere)
    for operation, native in OPERATIONS:
        check_case(operation, native, case, order=2)
    check_groups((2, 4, 6, case))
    assert len(chosen) > 9


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_native_convolutions(platform):
    """Lowered for an accelerator, the kernel's gradient has JAX's own dimension numbers; nothing is a product."""

    def gradient(x, w):
        return jax.grad(lambda x, w: jnp.sum(jnp.sin(conv(x, w, strides=2))), (0, 1))(x, w)

    traced = jax.jit(gradient).trace(jnp.ones((64, 4, 4, 2)), jnp.ones((4, 4, 2, 3)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 3
    assert "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]" in text
    assert "dot_general" not in text


def test_forward_mode_is_a_switch():
    params, x = critic_arrays()
    x, w = jnp.asarray(x, jnp.float32), jnp.asarray(params["down"], jnp.float32)
    curve = jax.jit(lambda scale: jnp.sum(jnp.sin(conv_transpose(conv(scale * x, w), w.swapaxes(2, 3)))))
    slope = jax.grad(curve)(1.0)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(curve, (1.0,), (1.0,))
    with forward_mode():
        _, forward = jax.jvp(curve, (1.0,), (1.0,))
    np.testing.assert_allclose(forward, slope, rtol=1e-5)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(curve, (1.0,), (1.0,))


def test_vmap_over_kernels_is_a_loop_over_them():
    x, kernels = jnp.ones((2, 5, 5, 2)), jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 2, 4)))

    @functools.partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
    def gradients(kernels):
        gradient = jax.grad(lambda w: jnp.sum(jnp.sin(conv(x, w, strides=2))))
        return jax.vmap(gradient)(kernels), jax.lax.map(gradient, kernels)

    batched, looped = gradients(kernels)
    np.testing.assert_allclose(batched, looped, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 1))), "Expected images"),
        (lambda: conv(jnp.ones((4, 4, 2)), jnp.ones((3, 3, 2, 1))), "Expected images"),
        (lambda: conv(jnp.ones((1, 4, 4, 4)), jnp.ones((3, 3, 4, 4)), groups=2), "with 2 groups"),
        (lambda: conv(jnp.ones((1, 4, 4, 4)), jnp.ones((3, 3, 2, 3)), groups=2), "groups=2 must divide"),
        (lambda: conv(jnp.ones((1, 4, 4, 4)), jnp.ones((3, 3, 2, 4)), groups=0), "groups=0 must divide"),
        (lambda: conv(jnp.ones((1, 4, 4, 1)), jnp.ones((5, 5, 1, 1)), padding="VALID"), "does not fit"),
        (lambda: conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), padding="FULL"), "padding is"),
        (
            lambda: conv_transpose(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), padding="FULL"),
            "padding is",
        ),
        (lambda: conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), strides=(1, 1, 1)), "pair of numbers"),
        (lambda: conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), padding=1), "pairs of numbers, got 1"),
        (
            lambda: conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), strides=0),
            "strides must be at least 1",
        ),
        (
            lambda: conv_transpose(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), strides=(1, 0)),
            "strides must be at least 1",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.full
@pytest.mark.parametrize(("strides", "channels"), [(1, 3), full(2, 5)])
def test_a_symbolic_batch_is_exported_for_every_platform(strides, channels):
    """By `jax.export` from a CPU; the program for any batch gives what the operations give."""

    def up_and_down(x, w):
        return conv(conv_transpose(x, w, strides=strides), jnp.swapaxes(w, 2, 3), strides=strides)

    w = jax.random.normal(jax.random.key(0), (4, 4, channels, 6))
    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, 8, 8, channels), jnp.float32)
    exported = export.export(jax.jit(up_and_down), platforms=("cpu", "cuda", "tpu"))(images, w)
    for n in (1, 5):
        x = jax.random.normal(jax.random.key(n), (n, 8, 8, channels))
        np.testing.assert_allclose(exported.call(x, w), up_and_down(x, w), rtol=1e-4, atol=1e-4)
