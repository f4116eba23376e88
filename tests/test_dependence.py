"""Which examples results depend on, found from programs: known answers, and what perturbations really change."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from gan_jax import networks
from gan_jax.dependence import couples_batch, example_dependence, is_per_example
from gan_jax.functional.packing import pack
from gan_jax.metrics import extractor_named
from gan_jax.networks import from_linen
from tests.tiers import full_except

B = 4
KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (B, 6))
IMAGES = jax.random.normal(jax.random.key(2), (B, 8, 8, 4))
LABELS = jnp.array([0, 2, 1, 2])
W = jax.random.normal(jax.random.key(3), (6, 3))
KERNEL = jax.random.normal(jax.random.key(4), (3, 3, 4, 4))
EACH = [1, 2, 4, 8]
ALL = [15] * B


def rows(function, *args, argnums=0):
    """For each row of the result, the union over its entries."""
    bits = example_dependence(function, *args, argnums=argnums)
    return np.bitwise_or.reduce(bits.reshape(len(bits), -1), axis=1).tolist()


def score(x):
    return jnp.tanh(x.reshape(len(x), -1) @ jnp.ones((x[0].size, 3))).sum(1)


def normalised(x):
    return (x - x.mean(0)) * jax.lax.rsqrt(x.var(0) + 1e-5)


def attention(x):
    """Over the second axis of `[B, L, C]`."""
    return nn.MultiHeadDotProductAttention(2).init_with_output(KEY, x)[0]


def conv(x, w=KERNEL, **options):
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


PER_EXAMPLE = {
    "affine": lambda x: x @ W + 1,
    "constants": lambda x: jnp.ones((B, 3)),
    "softmax": lambda x: jax.nn.softmax(x),
    "gelu": jax.nn.gelu,
    "leaky relu": jax.nn.leaky_relu,
    "layer norm": lambda x: nn.LayerNorm().init_with_output(KEY, x)[0],
    "twice reversed": lambda x: x[::-1][::-1],
    "cumsum over features": lambda x: jnp.cumsum(x, axis=1),
    "sort of features": lambda x: jnp.sort(x, axis=1),
    "top k of features": lambda x: lax.top_k(x, 2)[0],
    "argmax of features": lambda x: jnp.argmax(x, axis=1),
    "attention over features": lambda x: attention(x.reshape(B, 3, 2)),
    "outer product": lambda x: jnp.einsum("bi,bj->bij", x, x),
    "hinge": lambda x: jnp.maximum(0.0, 1 - score(x)) + jnp.maximum(0.0, 1 + score(-x)),
    "focal": lambda x: optax.sigmoid_focal_loss(score(x), jnp.ones(B)),
    "weight decay beside it": lambda x: score(x) + jnp.sum(W**2),
    "penalty by vmap": lambda x: jnp.linalg.norm(jax.vmap(jax.grad(lambda r: score(r[None])[0]))(x), axis=1),
    "penalty by the sum": lambda x: jnp.linalg.norm(jax.grad(lambda x: score(x).sum())(x), axis=1),
    "penalty of a penalty": lambda x: jax.grad(lambda x: jnp.sum(jax.grad(lambda x: score(x).sum())(x) ** 2))(
        x
    ),
    "forward mode": lambda x: jax.jvp(score, (x,), (jnp.ones_like(x),))[1],
    "dropout": lambda x: jnp.where(jax.random.bernoulli(KEY, 0.5, x.shape), x, 0),
    "keys of rows": lambda x: jax.vmap(lambda k, r: r * jax.random.normal(k, r.shape))(
        jax.random.split(KEY, B), x
    ),
    "real and fake at once": lambda x: jnp.tanh(jnp.concatenate([x, 2 * x]) @ W)[B:],
    "flattened and back": lambda x: jnp.tanh(x.reshape(-1, 2)).reshape(B, -1),
    "pad and slice": lambda x: jnp.pad(x, ((1, 2), (0, 3)))[1:-2],
    "map over rows": lambda x: lax.map(lambda r: jnp.cumsum(r), x),
    "scan over time": lambda x: (
        lax.scan(lambda h, t: (jnp.tanh(h + t[:, None]), h.sum(1)), jnp.zeros((B, 3)), x.T)[1].T
    ),
    "reversed scan over rows": lambda x: lax.scan(lambda h, r: (h, r + h), jnp.ones(6), x, reverse=True)[1],
    "counted loop": lambda x: lax.fori_loop(0, 5, lambda i, h: jnp.tanh(h) + i, x),
    "while with a separate counter": lambda x: lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x)
    )[1],
    "cond of a constant": lambda x: lax.cond(jnp.sum(W) > 0, jnp.sin, jnp.cos, x),
    "a composite": lambda x: lax.composite(lambda x: jnp.sin(x), "test.sine")(x),
    "rematerialised": jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))),
    "rows by constants": lambda x: x[jnp.array([2, 0, 1, 3])][jnp.array([1, 2, 0, 3])],
    "writing rows": lambda x: jnp.zeros((B, 6)).at[jnp.arange(B), 1].set(x[:, 0]),
    "writing one column": lambda x: x.at[:, 2].add(x[:, 1]),
    "rows one by one": lambda x: jnp.stack([jnp.sin(x[i]) for i in range(B)]),
    "dynamic rows at constants": lambda x: jnp.stack(
        [lax.dynamic_index_in_dim(x, jnp.int32(i), 0, False) for i in range(B)]
    ),
    "update at constants": lambda x: lax.dynamic_update_slice(jnp.zeros((B, 6)), x[2:], (2, 0)),
    "fourier of features": lambda x: jnp.abs(jnp.fft.fft(x)),
    "solves of rows": lambda x: jnp.linalg.solve(jnp.einsum("bi,bj->bij", x, x) + jnp.eye(6), x[..., None])[
        ..., 0
    ],
    "eigenvalues of rows": lambda x: jnp.linalg.eigvalsh(jnp.einsum("bi,bj->bij", x, x)),
    "logarithm of sums of exponentials": lambda x: jax.nn.logsumexp(x, axis=1),
    "custom gradient": lambda x: jax.vjp(jax.nn.relu, x)[1](x)[0],
}

COUPLED = {
    "centred": lambda x: x - x.mean(0),
    "batch normalised": normalised,
    "scaled by zero": lambda x: x + 0 * normalised(x),
    "sorted": lambda x: jnp.sort(x, axis=0),
    "softmax over the batch": lambda x: jax.nn.softmax(x, axis=0),
    "attention over the batch": lambda x: attention(x[None])[0],
    "minibatch discrimination": lambda x: jnp.abs(x[:, None] - x[None]).sum((1, 2)),
    "relativistic average": lambda x: jax.nn.softplus(score(-x) - score(x).mean()),
    "gradient of a mean squared": lambda x: jax.grad(lambda x: jnp.mean(score(x)) ** 2)(x),
    "penalty of a coupled critic": lambda x: jax.grad(lambda x: score(normalised(x)).sum())(x),
    "through a stopped gradient": lambda x: x - lax.stop_gradient(x.mean(0)),
    "a choice by the batch": lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    "a loop as long as the batch says": lambda x: lax.while_loop(lambda h: h.sum() < 100, lambda h: h + 1, x),
    "a shared carry": lambda x: lax.scan(
        lambda h, t: (h + t.sum(), t * h), 1.0, jnp.concatenate([x, x], 1).T
    )[1].T[:, 1:],
    "a key of the batch": lambda x: x * jax.random.normal(jax.random.key(jnp.int32(x.sum())), (B, 6)),
    "rows by the batch": lambda x: x[jnp.argsort(x[:, 0])],
    "permuted by a key": lambda x: jax.random.permutation(KEY, x),
    "gram matrix": lambda x: x @ x.T,
    "an unknown primitive": lambda x: jax.pure_callback(
        lambda x: np.asarray(x), jax.ShapeDtypeStruct(x.shape, x.dtype), x
    ),
}


@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_rows_that_are_independent(name):
    assert is_per_example(PER_EXAMPLE[name], X)


@pytest.mark.parametrize("name", COUPLED)
def test_rows_that_are_coupled(name):
    assert not is_per_example(COUPLED[name], X)


def numerical_dependence(function, x, draws=2):
    """Bit `i` where replacing row `i` changes an entry."""
    function = jax.jit(function)
    before = np.asarray(function(x))
    changed = np.zeros(before.shape, np.uint64)
    for draw in range(draws):
        for i in range(len(x)):
            other = jax.random.normal(jax.random.fold_in(KEY, draw), x[i].shape)
            changed |= (np.asarray(function(x.at[i].set(other))) != before).astype(np.uint64) << np.uint64(i)
    return changed


@pytest.mark.parametrize("name", [*PER_EXAMPLE, *COUPLED])
def test_what_a_perturbation_changes_is_found(name):
    function = {**PER_EXAMPLE, **COUPLED}[name]
    assert not np.any(numerical_dependence(function, X) & ~example_dependence(function, X))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x[::-1], [8, 4, 2, 1]),
        (lambda x: jnp.cumsum(x, axis=0), [1, 3, 7, 15]),
        (lambda x: lax.cumsum(x, axis=0, reverse=True), [15, 14, 12, 8]),
        (lambda x: x + jnp.roll(x, 1, axis=0), [9, 3, 6, 12]),
        (lambda x: pack(x, 2), [3, 12]),
        (lambda x: jnp.repeat(x, 2, axis=0), [1, 1, 2, 2, 4, 4, 8, 8]),
        (lambda x: jnp.tile(x, (2, 3)), [*EACH, *EACH]),
        (lambda x: jnp.tile(x[:1], (2, 1)), [1, 1]),
        (lambda x: jnp.stack([x, x[::-1]], axis=1).reshape(2 * B, 6)[:3], [1, 8, 2]),
        (lambda x: lax.unstack(x.T, axis=1)[2][None], [4]),
        (lambda x: x[1:3], [2, 4]),
        (lambda x: x[::2], [1, 4]),
        (lambda x: jnp.split(x, 2)[1], [4, 8]),
        (lambda x: x[jnp.array([3, 3, 0])], [8, 8, 1]),
        (lambda x: x.at[1].set(0.0), EACH),
        (lambda x: jnp.zeros((3, 6)).at[jnp.array([0, 0, 2, 2])].add(x), [3, 0, 12]),
        (lambda x: lax.dynamic_update_slice(jnp.zeros((5, 6)), x, (1, 0)), [0, *EACH]),
        (lambda x: lax.pad(x, 0.0, ((1, 0, 1), (0, 0, 0))), [0, 1, 0, 2, 0, 4, 0, 8]),
        (lambda x: lax.reduce_window(x, 0.0, lax.add, (2, 1), (1, 1), "VALID"), [3, 6, 12]),
        (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 1), (2, 1), "VALID"), [3, 12]),
        (lambda x: x.reshape(2, 2, 6).sum(1), [3, 12]),
        (lambda x: x.T.reshape(6 * B, 1)[:5], [1, 2, 4, 8, 1]),
        (lambda x: lax.scan(lambda h, r: (h + r, h), jnp.zeros(6), x)[1], [0, 1, 3, 7]),
        (lambda x: lax.scan(lambda h, r: (h + r, h), jnp.zeros(6), x, reverse=True)[1], [14, 12, 8, 0]),
        (lambda x: jnp.convolve(x[:, 0], jnp.ones(2), "valid"), [3, 6, 12]),
        (lambda x: lax.fori_loop(0, 1000, lambda i, h: jnp.roll(h, 2, 0) + h, x), [5, 10, 5, 10]),
    ],
)
def test_sets_that_can_be_counted_by_hand(function, expected):
    assert rows(function, X) == expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (conv, EACH),
        (functools.partial(conv, w=KERNEL[:, :, :1], feature_group_count=4), EACH),
        (functools.partial(conv, w=KERNEL[:, :, :2], feature_group_count=2), EACH),
        (functools.partial(conv, w=KERNEL, batch_group_count=2), [5, 10]),
        (functools.partial(conv, w=KERNEL, batch_group_count=4), [15]),
        (lambda x: nn.avg_pool(x, (2, 2), (2, 2)), EACH),
        (lambda x: nn.max_pool(x, (3, 3), (2, 2), "SAME"), EACH),
        (lambda x: jax.grad(lambda x: (nn.max_pool(x, (2, 2), (2, 2)) ** 2).sum())(x), EACH),
        (lambda x: jnp.tanh(x.reshape(-1, 4) @ jnp.ones((4, 3))).reshape(B, 8, 8, 3), EACH),
        (lambda x: attention(x.reshape(B, 64, 4)), EACH),
        (lambda x: jax.image.resize(x, (B, 16, 16, 4), "bilinear"), EACH),
        (lambda x: networks.conv(x, KERNEL), EACH),
        (lambda x: networks.conv(x, KERNEL, strides=2), EACH),
        (lambda x: networks.conv_transpose(x, KERNEL, strides=2), EACH),
        (lambda x: jax.grad(lambda x: (networks.conv(x, KERNEL, strides=2) ** 2).sum())(x), EACH),
        (
            lambda x: jax.grad(
                lambda x: (jax.grad(lambda x: jnp.tanh(networks.conv(x, KERNEL)).sum())(x) ** 2).sum()
            )(x),
            EACH,
        ),
        (lambda x: jax.grad(lambda w: jnp.tanh(networks.conv(x, w)).sum())(KERNEL), [15] * 3),
        (lambda x: jax.vmap(lambda r: jax.grad(lambda w: conv(r[None], w).sum())(KERNEL))(x), EACH),
        (lambda x: networks.conv(x.transpose(3, 1, 2, 0), KERNEL), [15] * 4),
    ],
)
def test_sets_of_image_operations(function, expected):
    assert rows(function, IMAGES) == expected
    assert not np.any(numerical_dependence(function, IMAGES, 1) & ~example_dependence(function, IMAGES))


def test_groups_of_features_are_followed():
    """Examples laid out as channels stay independent in a depthwise convolution and mix in a full one."""
    depthwise = functools.partial(conv, w=KERNEL[:, :, :1], feature_group_count=4)

    def by_channel(function, x):
        return function(x.transpose(3, 1, 2, 0)).transpose(3, 1, 2, 0)

    assert rows(functools.partial(by_channel, depthwise), IMAGES) == EACH
    assert rows(functools.partial(by_channel, conv), IMAGES) == ALL


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: jax.nn.one_hot(y, 3) * x[:, :3],
        lambda x, y: x[jnp.arange(B), y],
        lambda x, y: jnp.take_along_axis(x, y[:, None], axis=1),
        lambda x, y: jax.vmap(lambda r, i: r[i])(x, y),
        lambda x, y: W[y] + x[:, :3],
        lambda x, y: optax.softmax_cross_entropy_with_integer_labels(x, y),
        lambda x, y: jax.grad(lambda x: x[jnp.arange(B), y].sum())(x),
        lambda x, y: jax.grad(lambda x: jnp.take_along_axis(x, y[:, None], axis=1).sum())(x),
    ],
)
def test_labels_are_examples(function):
    assert is_per_example(function, X, LABELS, argnums=(0, 1))


def test_labels_with_and_without_other_conditions():
    assert rows(lambda x, y: W[y] + 0 * x[:, :3], X, LABELS, argnums=1) == EACH
    assert rows(lambda x, y: W[y[::-1]], X, LABELS, argnums=1) == [8, 4, 2, 1]
    assert rows(lambda x, y: x[y], X, LABELS, argnums=1) == EACH
    assert rows(lambda x, y: x[y], X, LABELS, argnums=(0, 1)) == ALL


def test_entries_are_followed_within_a_row():
    bits = example_dependence(lambda x: jnp.concatenate([x[:, :1], x[::-1, 1:2]], axis=1), X)
    np.testing.assert_array_equal(bits, [[1, 8], [2, 4], [4, 2], [8, 1]])


def test_trees_of_arguments_and_results():
    shapes = {"x": jax.ShapeDtypeStruct((B, 6), jnp.float32), "count": jax.ShapeDtypeStruct((), jnp.int32)}
    found = example_dependence(lambda w, b: {"s": b["x"] @ w * b["count"], "w": w}, W, shapes, argnums=1)
    assert found["s"].dtype == np.uint64
    assert found["s"][:, 0].tolist() == EACH
    assert not found["w"].any()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: {"score": score(x), "decay": jnp.sum(W)}, True),
        (lambda x: {"score": score(x), "mean": score(x).mean()}, False),
        (lambda x: {"score": score(x), "mean": score(x).mean()}["score"], True),
        (lambda x: pack(x, 2), False),
        (lambda x: x[::-1], False),
    ],
)
def test_results_of_other_shapes_depend_on_no_example(function, expected):
    assert is_per_example(function, X) is expected


def test_batches_that_cannot_be_followed_are_refused():
    for args in ((jnp.ones((65, 1)),), (jnp.ones(()),), ((jnp.ones(2), jnp.ones(3)),)):
        with pytest.raises(ValueError, match="Expected batches of one size"):
            example_dependence(lambda x: x, *args)
    assert rows(lambda x: x, jnp.ones((64, 1)))[-1] == 2**63


def test_nothing_is_computed():
    """A matrix of a quarter of a terabyte cannot be."""
    huge = jax.ShapeDtypeStruct((B, 2**17, 2**17), jnp.float32)
    assert rows(lambda x: (x @ x).sum((1, 2)) - x.mean((1, 2)), huge) == EACH


STEPS = {
    "matmul": lambda x: x @ jax.random.normal(KEY, (6, 6)),
    "tanh": jnp.tanh,
    "reverse": lambda x: x[::-1],
    "roll features": lambda x: jnp.roll(x, 1, axis=1),
    "halves": lambda x: jnp.concatenate([x[2:], x[:2]]),
    "pairs": lambda x: x.reshape(2, 2, 6).swapaxes(0, 1).reshape(B, 6),
    "mix reshape": lambda x: x.reshape(6, B).T,
    "pair mean": lambda x: x + x.reshape(2, 2, 6).mean(1, keepdims=True).repeat(2, 1).reshape(B, 6),
    "cumsum": lambda x: jnp.cumsum(x, axis=0),
    "sort pairs": lambda x: jnp.sort(x.reshape(2, 2, 6), axis=1).reshape(B, 6),
    "take": lambda x: x[jnp.array([1, 1, 3, 0])],
    "put": lambda x: x.at[jnp.array([0, 2])].add(x[1:3] ** 2),
    "put column": lambda x: x.at[jnp.arange(B), jnp.array([0, 3, 3, 5])].set(x[:, 1] * 2),
    "pad": lambda x: jnp.pad(x, ((1, 0), (0, 1)))[:-1, 1:],
    "interior": lambda x: lax.pad(x, 0.0, ((0, 0, 1), (0, 0, 0)))[1:5],
    "window": lambda x: lax.reduce_window(x, 0.0, lax.add, (2, 3), (1, 1), "SAME"),
    "conv over rows": lambda x: (
        lax.conv_general_dilated(x.T[:, None], jnp.ones((1, 1, 2)), (1,), [(1, 1)], rhs_dilation=(2,))[:, 0].T
    ),
    "scan": lambda x: lax.scan(lambda h, r: (h + r, h * r), jnp.ones(6), x)[1],
    "slice scan": lambda x: lax.scan(lambda h, t: (h + t, h[::-1]), jnp.ones(B), x.T)[1].T,
    "dynamic": lambda x: lax.dynamic_slice(x, (jnp.int32(3) - 2, 0), (2, 6)).repeat(2, 0),
    "dynamic by data": lambda x: x + lax.dynamic_slice(x, (jnp.argmax(x[:, 0]), 0), (1, 6)),
    "gradient": lambda x: jax.grad(lambda x: jnp.sum(jnp.sin(jnp.diff(x, axis=0))))(x),
    "gram": lambda x: (x[:2] @ x[2:].T).repeat(2, 0).repeat(3, 1),
    "select": lambda x: jnp.where(x[::-1] > 0, x, 0),
}


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4))
@pytest.mark.full
def test_real_dependence_is_found_in_random_programs(names):
    def program(x):
        for name in names:
            x = STEPS[name](x)
        return x

    assert not np.any(numerical_dependence(program, X) & ~example_dependence(program, X))


# --- networks --------------------------------------------------------------------------------------------------


class Zeroed(nn.Module):
    """What couples the batch, behind weights that are zero."""

    layer: nn.Module

    @nn.compact
    def __call__(self, x, train):
        kwargs = {"train": train} if isinstance(self.layer, networks.BatchNorm | networks.Normalize) else {}
        mixed = self.layer(nn.Dense(4)(x), **kwargs)
        return nn.Dense(3, kernel_init=nn.initializers.zeros_init())(mixed)


@pytest.mark.parametrize(
    ("layer", "couples"),
    [
        (nn.BatchNorm(use_running_average=False, scale_init=nn.initializers.zeros_init()), True),
        (nn.BatchNorm(use_running_average=True), False),
        (networks.BatchNorm(), True),
        (networks.BatchNorm(groups=8), True),
        (networks.MinibatchDiscrimination(2, 2), True),
        (networks.MinibatchStddev(), True),
        (networks.MinibatchStddev(group=3), True),
        (networks.Normalize("layer"), False),
        (nn.LayerNorm(), False),
        (nn.GroupNorm(2), False),
    ],
    ids=str,
)
def test_zero_weights_hide_nothing(layer, couples):
    network = from_linen(Zeroed(layer), jnp.zeros((1, 3)))
    assert network.couples_batch is couples


def test_a_network_without_a_possible_batch_says_why():
    def apply(params, model_state, x, *, train, key):
        raise ValueError("seven examples, not " + str(len(x)))

    with pytest.raises(ValueError, match="seven examples, not 64"):
        couples_batch(lambda key: ({}, {}), apply, (jnp.zeros((1, 3)),))


def test_reducing_over_devices_couples():
    def apply(params, model_state, x, *, train, key):
        return lax.pmean(x, "data"), model_state

    assert couples_batch(lambda key: ({}, {}), apply, (jnp.zeros((1, 3)),))


def test_the_given_batch_is_the_last_resort():
    def apply(params, model_state, x, *, train, key):
        return x.reshape(7, -1) - x.mean(), model_state

    assert couples_batch(lambda key: ({}, {}), apply, (jnp.zeros((7, 3)),))


SHIPPED = {
    "mlp": (networks.MLPCritic(widths=(8,)), [(2,)], False),
    "mlp generator": (networks.MLPGenerator(output_shape=(2,), widths=(8,)), [(3,)], None),
    "mlp with discrimination": (networks.MLPCritic(widths=(8,), minibatch="discrimination"), [(2,)], True),
    "patch": (networks.PatchCritic(width=4), [(32, 32, 3)], None),
    "resnet": (networks.ResNetCritic(width=4), [(32, 32, 3)], False),
    "attentive resnet": (networks.ResNetCritic(width=8, attention=(16,)), [(32, 32, 3)], False),
    "resnet generator": (networks.ResNetGenerator(width=4), [(8,)], True),
    "projected": (networks.ProjectedCritic(extractor_named("classifier:digits")), [(16, 16, 1)], False),
    "dcgan generator": (networks.DCGANGenerator(width=4), [(8,)], True),
    "unet": (networks.UNet(channels=1, width=4), [(16, 16, 1)], None),
}


@pytest.mark.parametrize("name", full_except(["mlp", "mlp generator"], SHIPPED))
def test_networks_of_the_library(name):
    """What is found contains every dependence of the first score on another example."""
    module, shapes, expected = SHIPPED[name]
    network = from_linen(module, *(jnp.zeros((1, *shape)) for shape in shapes))
    found = network.couples_batch
    assert expected is None or found is expected
    params, model_state = network.init(KEY)
    x = jax.random.normal(KEY, (4, *shapes[0]))

    @jax.jit
    def outputs(x):
        return network.apply(params, model_state, x, train=True, key=KEY)[0]

    changed = any(
        bool(np.any(before[0] != after[0]))
        for before, after in zip(
            jax.tree.leaves(outputs(x)), jax.tree.leaves(outputs(x.at[3].set(9.0))), strict=True
        )
    )
    assert found or not changed
