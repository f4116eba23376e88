"""Norms, weights, noise and minibatch layers against numpy, Flax and numbers computed by hand."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.networks import (
    BatchNorm,
    ConditionalBatchNorm,
    Dense,
    Dropout,
    EqualizedWeight,
    MinibatchDiscrimination,
    MinibatchStddev,
    Normalize,
    NormalizedWeight,
    SpectralWeight,
    from_linen,
    maxout,
)
from gan_jax.networks.layers import activation, split_norm

KEY = jax.random.key(0)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def quick(function, *args):
    """Compiled once, as a whole and without optimisation: for the many small programs of these tests."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*args)


@pytest.mark.parametrize("shape", [(30, 12), (3, 3, 4, 8)], ids=str)
def test_spectral_estimate_converges_to_the_largest_singular_value(shape):
    kernel = normal(*shape)
    layer = SpectralWeight()

    def iterate(carried, _):
        _, written = layer.apply(carried, kernel, mutable=["spectral"])
        return written, None

    def converged(key):
        carried, _ = jax.lax.scan(iterate, dict(layer.init(key, kernel)), None, length=60)
        return layer.apply(carried, kernel)

    used = quick(converged, KEY)
    sigma = np.linalg.svd(np.asarray(kernel).reshape(-1, shape[-1]), compute_uv=False)[0]
    np.testing.assert_allclose(used, kernel / sigma, rtol=0.01)


def test_power_iterations_run_only_in_training():
    x = normal(2, 5)
    network = from_linen(Dense(4, weight=SpectralWeight), x)
    params, model_state = network.init(KEY)
    _, evaluated = network.apply(params, model_state, x, train=False)
    _, trained = quick(lambda: network.apply(params, model_state, x, train=True))
    chex.assert_trees_all_equal(evaluated, model_state)
    before, after = (s["spectral"]["SpectralWeight_0"]["u"] for s in (model_state, trained))
    assert np.abs(before - after).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(after), 1.0, rtol=1e-5)


def test_one_power_iteration_by_hand():
    """For W = diag(2, 1) and u = (1, 1) / sqrt 2 one iteration gives u = (4, 1) / sqrt 17."""
    kernel = jnp.diag(jnp.array([2.0, 1.0]))
    carried = {"spectral": {"u": jnp.ones(2) / jnp.sqrt(2.0)}}
    used, written = SpectralWeight().apply(carried, kernel, mutable=["spectral"])
    np.testing.assert_allclose(written["spectral"]["u"], np.array([4, 1]) / np.sqrt(17), rtol=1e-6)
    sigma = np.linalg.norm([8, 1]) / np.sqrt(17)
    np.testing.assert_allclose(used, kernel / sigma, rtol=1e-6)


def test_spectral_gradient_is_the_papers():
    """d sigma / dW = v u^T at convergence (Miyato et al., equation 11), hence the gradient of <A, W / sigma>."""
    kernel, against = normal(4, 3), normal(4, 3, seed=1)
    left, values, right = np.linalg.svd(np.asarray(kernel))
    carried = {"spectral": {"u": jnp.asarray(right[0])}}
    gradient = quick(jax.grad(lambda w: jnp.sum(against * SpectralWeight().apply(carried, w))), kernel)
    sigma = values[0]
    inner = np.sum(against * kernel)
    expected = against / sigma - inner / sigma**2 * np.outer(left[:, 0], right[0])
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.full
def test_weight_normalisation_starts_as_the_plain_layer_and_keeps_its_scale():
    x = normal(3, 6)
    layer = Dense(4, weight=NormalizedWeight)
    out, variables = quick(layer.init_with_output, KEY, x)
    params = variables["params"]
    np.testing.assert_allclose(out, np.asarray(x) @ params["kernel"], atol=1e-5)

    params["NormalizedWeight_0"]["scale"] = jnp.array([1.0, 2.0, 3.0, 4.0])
    identity = layer.apply({"params": {**params, "kernel": 7 * params["kernel"]}}, jnp.eye(6))
    np.testing.assert_allclose(np.linalg.norm(identity, axis=0), [1, 2, 3, 4], rtol=1e-5)


def test_weight_normalisation_can_keep_every_unit_at_one_norm():
    variables = NormalizedWeight(scale=2.0, train_scale=False).init(KEY, normal(5, 3))
    assert jax.tree.leaves(variables) == []
    kernel = quick(NormalizedWeight(scale=2.0, train_scale=False).apply, {}, normal(3, 3, 5, 2))
    np.testing.assert_allclose(np.linalg.norm(kernel.reshape(-1, 2), axis=0), 2.0, rtol=1e-5)
    with pytest.raises(ValueError, match="scale="):
        NormalizedWeight(train_scale=False).apply({}, normal(5, 3))


def test_equalized_weights_have_hes_variance_at_run_time():
    """sqrt(2 / (3 * 3 * 8)) = 1/6 for a 3 x 3 kernel on 8 channels."""
    np.testing.assert_allclose(EqualizedWeight().apply({}, jnp.ones((3, 3, 8, 4))), 1 / 6, rtol=1e-6)


def test_batch_norm_of_one_group_is_flaxs():
    x = normal(6, 4, 4, 3) * 2 + 1
    affine = {"scale": jnp.array([1.0, 2.0, 3.0]), "bias": jnp.array([0.0, 1.0, -1.0])}
    model_state = {"mean": jnp.array([0.1, 0.2, 0.3]), "var": jnp.array([1.0, 2.0, 3.0])}
    variables = {"params": affine, "batch_stats": model_state}
    for train in (True, False):
        out, written = run_batch_norm(BatchNorm(), variables, x, train)
        reference_layer = nn.BatchNorm(use_running_average=not train, momentum=0.9)
        apply_reference = functools.partial(reference_layer.apply, mutable=["batch_stats"])
        expected, reference = quick(apply_reference, variables, x)
        np.testing.assert_allclose(out, expected, atol=1e-5)
        chex.assert_trees_all_close(written, reference, atol=1e-6)


@pytest.mark.parametrize("offset", [1e3, 1e4, -1e5])
@pytest.mark.parametrize("shape", [(256, 3), (64, 6, 6, 3)])
def test_batch_norm_far_from_zero_is_that_of_float64(offset, shape):
    """The variance is of what deviates: E x^2 - (E x)^2 has no digit left at a mean of 10,000 deviations."""
    x = normal(*shape) + jnp.float32(offset)
    exact = np.asarray(x, np.float64)
    axes = tuple(range(len(shape) - 1))
    expected = (exact - exact.mean(axes)) / np.sqrt(exact.var(axes) + 1e-5)
    out, written = run_batch_norm(BatchNorm(), fresh_batch_norm(3), x)
    np.testing.assert_allclose(out, expected, atol=2e-5)
    np.testing.assert_allclose(written["batch_stats"]["var"], 0.9 + 0.1 * exact.var(axes), rtol=1e-5)
    np.testing.assert_allclose(written["batch_stats"]["mean"], 0.1 * exact.mean(axes), rtol=1e-6)


def test_batch_norm_of_an_outlying_first_example():
    """The first example is part of the batch: (mean - x_1)^2 is at most B times the variance, 256 here."""
    x = normal(256, 3).at[0].add(1e6)
    exact = np.asarray(x, np.float64)
    expected = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    out, _ = run_batch_norm(BatchNorm(), fresh_batch_norm(3), x)
    np.testing.assert_allclose(out, expected, rtol=1e-3)


def test_batch_norm_over_an_axis_is_exact_once_the_running_mean_is_near():
    """Replicas that average over an axis need one shift for all: what each of them remembers."""
    x = normal(8, 3) + 1e4
    variables = fresh_batch_norm(3)
    variables["batch_stats"]["mean"] = jnp.full(3, 9_990.0)

    def replica(part):
        return BatchNorm(axis_name="data").apply(variables, part, train=True, mutable=["batch_stats"])[0]

    exact = np.asarray(x, np.float64)
    expected = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    parts = quick(jax.vmap(replica, axis_name="data"), x.reshape(4, 2, 3))
    np.testing.assert_allclose(parts.reshape(8, 3), expected, atol=1e-3)


def test_batch_norm_in_use_is_exact_far_from_zero():
    x = normal(64, 3) + 1e4
    variables = fresh_batch_norm(3)
    variables["batch_stats"] = {"mean": jnp.full(3, 1e4), "var": jnp.full(3, 1.0)}
    out = quick(lambda x: BatchNorm().apply(variables, x, train=False), x)
    np.testing.assert_allclose(out, (np.asarray(x, np.float64) - 1e4) / np.sqrt(1 + 1e-5), atol=1e-6)


def run_batch_norm(layer, variables, x, train=True):
    return quick(lambda v, x: layer.apply(v, x, train=train, mutable=["batch_stats"]), variables, x)


def fresh_batch_norm(channels):
    return {
        "params": {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)},
        "batch_stats": {"mean": jnp.zeros(channels), "var": jnp.ones(channels)},
    }


def test_batch_norm_in_groups_is_what_each_replica_does():
    """Four groups under jit: each pair by its own statistics, as `pmap` has it; running averages are means."""
    x = normal(8, 3) * 2 + 1
    variables = fresh_batch_norm(3)
    out, written = run_batch_norm(BatchNorm(groups=4), variables, x)
    plain = jax.jit(lambda part: BatchNorm().apply(variables, part, train=True, mutable=["batch_stats"]))
    parts = [plain(part) for part in np.split(np.asarray(x), 4)]
    np.testing.assert_allclose(out, np.concatenate([part for part, _ in parts]), atol=1e-5)
    averaged = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *[model_state for _, model_state in parts])
    chex.assert_trees_all_close(written, averaged, atol=1e-6)
    with pytest.raises(ValueError, match="multiple"):
        BatchNorm(groups=3).apply(variables, x, train=True, mutable=["batch_stats"])


@pytest.mark.parametrize("norm", ["batch:4", "batch:4+spectral"])
def test_a_norms_name_has_the_groups_of_its_batch_normalisation(norm):
    x = normal(8, 3)
    variables = {kind: {"BatchNorm_0": fresh_batch_norm(3)[kind]} for kind in ("params", "batch_stats")}
    found, _ = run_batch_norm(Normalize(norm), variables, x)
    expected, _ = run_batch_norm(BatchNorm(groups=4), fresh_batch_norm(3), x)
    np.testing.assert_array_equal(found, expected)
    few, _ = run_batch_norm(Normalize(norm), variables, x[:2])
    np.testing.assert_array_equal(few, run_batch_norm(BatchNorm(), fresh_batch_norm(3), x[:2])[0])


@pytest.mark.parametrize("norm", ["batch:0", "batch:", "layer:2", "batch:2+batch"])
def test_groups_that_are_no_number_or_of_another_norm_are_refused(norm):
    with pytest.raises(ValueError, match="Unknown norm"):
        split_norm(norm)


def test_batch_norm_over_an_axis_is_the_global_one():
    x = normal(8, 3)
    variables = fresh_batch_norm(3)

    def replica(part):
        return BatchNorm(axis_name="data").apply(variables, part, train=True, mutable=["batch_stats"])[0]

    full, _ = run_batch_norm(BatchNorm(), variables, x)
    parts = quick(jax.vmap(replica, axis_name="data"), x.reshape(4, 2, 3))
    np.testing.assert_allclose(parts.reshape(8, 3), full, atol=1e-5)


def test_conditional_batch_norm_starts_plain_and_learns_a_scale_for_each_class():
    x, labels = normal(6, 4), jax.nn.one_hot(jnp.array([0, 1, 2, 0, 1, 2]), 3)
    layer = ConditionalBatchNorm()
    variables = quick(lambda: layer.init(KEY, x, labels, train=True))
    run = jax.jit(lambda v: layer.apply(v, x, labels, train=True, mutable=["batch_stats"])[0])
    plain = run(variables)
    x = np.asarray(x)
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    np.testing.assert_allclose(plain, expected, atol=1e-5)

    variables["params"]["scale"]["kernel"] = jnp.outer(jnp.array([0.0, 4.0, 0.0]), jnp.ones(4))
    variables["params"]["bias"]["kernel"] = jnp.outer(jnp.array([0.0, 0.0, 7.0]), jnp.ones(4))
    out = run(variables)
    np.testing.assert_allclose(out[1::3], 5 * expected[1::3], atol=1e-4)
    np.testing.assert_allclose(out[2::3], expected[2::3] + 7, atol=1e-4)


@pytest.mark.parametrize(
    ("norm", "axes"), [("batch", (0, 1, 2)), ("layer", (1, 2, 3)), ("instance", (1, 2)), ("none", None)]
)
def test_norms_standardize_over_their_axes(norm, axes):
    x = normal(4, 5, 5, 8) * 3 + 2
    out = np.asarray(quick(lambda x: Normalize(norm).init_with_output(KEY, x, train=True)[0], x))
    if axes is None:
        np.testing.assert_array_equal(out, x)
        return
    np.testing.assert_allclose(out.mean(axes), 0.0, atol=1e-5)
    np.testing.assert_allclose(out.std(axes), 1.0, atol=1e-4)


def test_group_norm_standardizes_groups_of_four_channels():
    x = normal(2, 5, 5, 8) * 3 + 2
    out = quick(lambda x: Normalize("group").init_with_output(KEY, x, train=True)[0], x)
    grouped = np.asarray(out).reshape(2, 25, 2, 4)
    np.testing.assert_allclose(grouped.std((1, 3)), 1.0, atol=1e-4)


def test_bf16_leaves_statistics_and_parameters_in_f32():
    x = (1000 + 8 * jnp.arange(8.0).reshape(8, 1)).astype(jnp.bfloat16)
    out, written = run_batch_norm(BatchNorm(dtype=jnp.bfloat16), fresh_batch_norm(1), x)
    assert out.dtype == jnp.bfloat16
    assert written["batch_stats"]["mean"].dtype == jnp.float32
    # The batch's mean 1028 and variance 336 are exact in float32 and far from it in bfloat16.
    np.testing.assert_allclose(written["batch_stats"]["mean"], 102.8, rtol=1e-6)
    np.testing.assert_allclose(written["batch_stats"]["var"], 0.9 + 33.6, rtol=1e-3)


def test_split_norm_knows_both_halves_and_refuses_the_rest():
    assert split_norm("spectral+batch") == ("batch", "spectral")
    for wrong in ("bathc", "batch+layer", "spectral+weight", ""):
        with pytest.raises(ValueError, match="Unknown norm"):
            split_norm(wrong)


def test_instance_norm_of_vectors_is_refused():
    with pytest.raises(ValueError, match="needs images"):
        Normalize("instance").init(KEY, jnp.ones((2, 3)), train=True)


def test_maxout_takes_the_largest_piece_and_needs_a_divisible_width():
    np.testing.assert_array_equal(maxout(jnp.array([[1, 5, -3, -1, 0, 2]]), 3), [[5, 2]])
    with pytest.raises(ValueError, match="multiple of 4"):
        maxout(jnp.ones((1, 6)), 4)


def test_minibatch_discrimination_by_hand():
    """With f(x) T = x: examples 0, 0 and log 2 are 1 + 1 + 1/2, 1 + 1 + 1/2 and 1/2 + 1/2 + 1 close."""
    x = jnp.array([[0.0], [0.0], [np.log(2.0)]])
    out = quick(MinibatchDiscrimination(1, 1).apply, {"params": {"tensor": jnp.ones((1, 1, 1))}}, x)
    np.testing.assert_allclose(out, [[0.0, 2.5], [0.0, 2.5], [np.log(2.0), 2.0]], rtol=1e-6)


def test_minibatch_discrimination_sums_distances_over_the_inner_dimension():
    """exp(-(|1 - 3| + |0 - 4|)) = exp(-6)."""
    x = jnp.array([[1.0, 0.0], [3.0, 4.0]])
    tensor = jnp.eye(2).reshape(2, 1, 2)
    out = quick(MinibatchDiscrimination(1, 2).apply, {"params": {"tensor": tensor}}, x)
    np.testing.assert_allclose(out[:, 2], 1 + np.exp(-6.0), rtol=1e-6)


def test_minibatch_stddev_by_hand():
    """Two groups of 2: the features' deviations are 1 and 2 in the first, 0 in the second."""
    x = jnp.array([[1.0, 0.0], [3.0, 4.0], [10.0, 5.0], [10.0, 5.0]])
    out = quick(lambda x: MinibatchStddev(group=2).apply({}, x), x)
    np.testing.assert_allclose(out[:, 2], [1.5, 1.5, 1e-4, 1e-4], atol=1e-6)
    np.testing.assert_array_equal(out[:, :2], x)
    images = jax.eval_shape(lambda: MinibatchStddev().apply({}, jnp.ones((4, 3, 3, 2))))
    assert images.shape == (4, 3, 3, 3)
    with pytest.raises(ValueError, match="multiple"):
        MinibatchStddev(group=3).apply({}, x)


def test_dropout_obeys_train_and_the_key():
    x = jnp.ones((2000, 1))
    plain, always = (from_linen(_Dropping(always), x[:1]) for always in (False, True))
    dropped = plain.apply({}, {}, x, train=True, key=KEY)[0]
    assert set(np.unique(dropped)) == {0.0, 4.0}
    assert 0.7 < np.mean(dropped == 0) < 0.8
    np.testing.assert_array_equal(plain.apply({}, {}, x, train=False, key=KEY)[0], x)
    np.testing.assert_array_equal(always.apply({}, {}, x, train=False, key=KEY)[0], dropped)
    np.testing.assert_array_equal(always.apply({}, {}, x, train=False, key=None)[0], x)


class _Dropping(nn.Module):
    always: bool

    @nn.compact
    def __call__(self, x, train=False):
        return Dropout(0.75, always=self.always)(x, train=train)


def test_activations_are_named():
    np.testing.assert_allclose(activation("leaky_relu")(jnp.array([-1.0, 1.0])), [-0.2, 1.0])
    assert activation(jnp.sin) is jnp.sin
    with pytest.raises(ValueError, match="Unknown activation"):
        activation("rellu")
