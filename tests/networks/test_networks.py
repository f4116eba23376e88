"""The named networks: shapes at every size, ranges, heads, conditions, compute types, and what papers prescribe."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.networks import (
    DCGANCritic,
    DCGANGenerator,
    MLPCritic,
    MLPGenerator,
    PatchCritic,
    ResNetCritic,
    ResNetGenerator,
    SelfAttention,
    SemiSupervisedCritic,
    SemiSupervisedGenerator,
    UNet,
    from_linen,
)
from gan_jax.networks.patchgan import receptive_field
from tests.tiers import full, full_except

KEY = jax.random.key(0)
BATCH = 3
LATENT = jax.ShapeDtypeStruct((BATCH, 5), jnp.float32)
LABEL = jax.ShapeDtypeStruct((BATCH,), jnp.int32)


def images(size, channels=3):
    return jax.ShapeDtypeStruct((BATCH, size, size, channels), jnp.float32)


def shapes(module, *inputs, train=True):
    """Shapes and types of the output and of all variables, nothing computed."""
    network = from_linen(module, *inputs)

    def run(key):
        params, model_state = network.init(key)
        out, _ = network.apply(params, model_state, *inputs_of(inputs), train=train, key=key)
        return out, params, model_state

    return jax.eval_shape(run, KEY)


def inputs_of(inputs):
    return [jnp.zeros(x.shape, x.dtype) for x in inputs]


def run(module, *inputs, train=True):
    """The output and the parameters on random inputs, compiled as one program."""
    network = from_linen(module, *inputs)

    def program(key):
        params, model_state = network.init(key)
        out, _ = network.apply(params, model_state, *inputs, train=train, key=key)
        return out, params

    return quick(program, KEY)


def quick(function, *args):
    """Compiled without optimisation: these programs run once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*args)


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("size", full_except([8, 15, 28], [8, 9, 15, 28, 32, 99, 128]))
def test_dcgan_makes_and_judges_images_of_every_size(size):
    generator = DCGANGenerator(size=size, channels=2, width=4)
    image, *_ = shapes(generator, LATENT)
    assert image.shape == (BATCH, size, size, 2)
    score, *_ = shapes(DCGANCritic(width=4), images(size, 2))
    assert score.shape == (BATCH,)


@pytest.mark.parametrize("size", [7, 129])
def test_dcgan_refuses_other_sizes(size):
    with pytest.raises(ValueError, match="8 to 128"):
        shapes(DCGANGenerator(size=size), LATENT)


@pytest.mark.full
def test_dcgans_layers_are_the_papers():
    """32 x 32: project to 4 x 4 x 256, then 128, 64, 3 channels; kernels N(0, .02), biases in the norms."""
    out, params = run(DCGANGenerator(size=32), normal(1, 100))
    assert params["Dense_0"]["kernel"].shape == (100, 4 * 4 * 256)
    kernels = [params[f"ConvTranspose_{place}"]["kernel"] for place in range(3)]
    assert [kernel.shape for kernel in kernels] == [(4, 4, 256, 128), (4, 4, 128, 64), (4, 4, 64, 3)]
    assert "bias" not in params["ConvTranspose_0"]
    assert "bias" in params["ConvTranspose_2"]
    assert np.std(kernels[0]) == pytest.approx(0.02, rel=0.02)
    assert np.abs(out).max() < 1


@pytest.mark.parametrize("norm", ["instance", "group", "equalized", "layer+spectral"])
def test_every_norm_fits_both_players(norm):
    out, *_ = shapes(DCGANGenerator(size=8, channels=1, width=8, norm=norm), LATENT)
    assert out.shape == (BATCH, 8, 8, 1)
    score, *_ = shapes(DCGANCritic(width=8, norm=norm), images(8, 1))
    assert score.shape == (BATCH,)


@pytest.mark.parametrize("norm", [full("batch"), "layer", full("spectral"), full("weight")])
def test_a_penaltys_gradient_is_finite_through_every_kind_of_norm(norm):
    critic = from_linen(DCGANCritic(width=4, norm=norm), images(8, 1))

    def penalty(key, x):
        params, model_state = critic.init(key)

        def loss(params):
            slope = jax.grad(lambda x: critic.apply(params, model_state, x, train=True, key=key)[0].sum())(x)
            return jnp.sum(jnp.square(slope))

        return jax.grad(loss)(params)

    gradient = quick(penalty, KEY, normal(BATCH, 8, 8, 1))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert np.abs(gradient["Conv_0"]["kernel"]).max() > 0


@pytest.mark.parametrize("size", full_except([8, 20], [8, 20, 28, 48, 128]))
def test_resnet_makes_and_judges_images(size):
    image, *_ = shapes(ResNetGenerator(size=size, channels=1, width=4), LATENT)
    assert image.shape == (BATCH, size, size, 1)
    score, *_ = shapes(ResNetCritic(width=4, norm="layer"), images(size, 1))
    assert score.shape == (BATCH,)


@pytest.mark.parametrize("size", [6, 30, 160])
def test_resnet_refuses_other_sizes(size):
    for module, example in ((ResNetGenerator(size=size), LATENT), (ResNetCritic(), images(size))):
        with pytest.raises(ValueError, match="times a power of two"):
            shapes(module, example)


@pytest.mark.full
def test_resnets_have_the_papers_parameter_counts():
    """SNGAN's CIFAR-10 pair, counted by hand: 3 x 3 kernels, 1 x 1 shortcuts, biases, scales and shifts."""

    def conv(kernel, channels_in, channels_out):
        return kernel**2 * channels_in * channels_out + channels_out

    _, params, _ = shapes(ResNetGenerator(size=32, width=256), jax.ShapeDtypeStruct((1, 128), jnp.float32))
    block = 2 * conv(3, 256, 256) + conv(1, 256, 256) + 2 * 2 * 256
    expected = 129 * 4 * 4 * 256 + 3 * block + 2 * 256 + conv(3, 256, 3)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected

    _, params, model_state = shapes(ResNetCritic(width=128, norm="spectral"), images(32))
    first = conv(3, 3, 128) + conv(3, 128, 128) + conv(1, 3, 128)
    second = 2 * conv(3, 128, 128) + conv(1, 128, 128)
    plain = 2 * 2 * conv(3, 128, 128)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == first + second + plain + 128 + 1
    # One vector for each of the three, three, two and two convolutions and the last layer.
    assert len(jax.tree.leaves(model_state)) == 11


@pytest.mark.full
def test_resnets_take_attention_and_classes():
    z, y = normal(2, 6), jnp.array([0, 2])
    generator = ResNetGenerator(
        size=8, channels=1, width=8, norm="batch+spectral", attention=(8,), num_classes=3
    )
    image, _ = run(generator, z, y)
    assert image.shape == (2, 8, 8, 1)
    assert 0 < np.abs(image).max() <= 1
    critic = ResNetCritic(
        width=8,
        norm="spectral",
        attention=(4,),
        num_classes=3,
        conditioning="projection",
        heads={"classes": 3},
    )
    out, *_ = shapes(critic, images(8, 1), LABEL)
    assert {name: head.shape for name, head in out.items()} == {"score": (BATCH,), "classes": (BATCH, 3)}
    with pytest.raises(ValueError, match="attention at"):
        shapes(ResNetGenerator(size=32, attention=(7,)), LATENT)
    with pytest.raises(ValueError, match="batch norms"):
        shapes(ResNetGenerator(norm="layer", num_classes=3), LATENT, LABEL)


def test_attention_starts_as_the_identity_and_averages_values_where_all_keys_are_equal():
    x = normal(2, 3, 3, 8)
    layer = SelfAttention()
    variables = quick(layer.init, KEY, x)
    apply = jax.jit(layer.apply)
    np.testing.assert_array_equal(apply(variables, x), x)
    params = variables["params"]
    params = {**params, "gain": jnp.ones(()), "key": {"kernel": jnp.zeros_like(params["key"]["kernel"])}}
    mean = np.asarray(x).mean((1, 2)) @ params["value"]["kernel"][0, 0] @ params["out"]["kernel"][0, 0]
    np.testing.assert_allclose(apply({"params": params}, x), x + mean[:, None, None], atol=1e-5)


@pytest.mark.parametrize("size", full_except([13], [8, 13, 28]))
def test_unet_returns_an_image_of_the_same_size(size):
    image, *_ = shapes(UNet(channels=2, width=2), images(size))
    assert image.shape == (BATCH, size, size, 2)


def test_unet_takes_rectangles_latents_and_labels():
    rectangle = jax.ShapeDtypeStruct((BATCH, 12, 20, 1), jnp.float32)
    image, params, _ = shapes(UNet(channels=1, width=2, num_classes=4, depth=2), LATENT, rectangle, LABEL)
    assert image.shape == (BATCH, 12, 20, 1)
    # The bottleneck of 4 channels, the latent's 5 and the 4 classes.
    assert params["ConvTranspose_0"]["kernel"].shape == (4, 4, 4 + 5 + 4, 2)
    with pytest.raises(ValueError, match="one image"):
        shapes(UNet(), LATENT)
    with pytest.raises(ValueError, match="at most 3 times"):
        shapes(UNet(depth=4), images(8))


@pytest.mark.full
def test_unets_layers_are_pix2pixs():
    """256 x 256: C64-C128-C256-C512-C512-C512-C512-C512 and back, each decoder layer beside its encoder layer."""
    _, params, _ = shapes(UNet(), images(256))
    down = [params[f"Conv_{place}"]["kernel"].shape[2:] for place in range(8)]
    assert down == [(3, 64), (64, 128), (128, 256), (256, 512), *4 * [(512, 512)]]
    up = [params[f"ConvTranspose_{place}"]["kernel"].shape[2:] for place in range(8)]
    assert up == [(512, 512), *3 * [(1024, 512)], (1024, 256), (512, 128), (256, 64), (128, 3)]


@pytest.mark.full
def test_unets_noise_is_dropout_also_in_evaluation_where_a_key_is_given():
    x = normal(2, 4, 4, 1)
    network = from_linen(UNet(channels=1, width=4), x)

    def paint(init_key):
        params, model_state = network.init(init_key)
        keys = (jax.random.key(1), jax.random.key(2), None, None)
        return [network.apply(params, model_state, x, train=False, key=key)[0] for key in keys]

    first, second, quiet, again = quick(paint, KEY)
    assert np.abs(first - second).max() > 1e-7
    assert np.abs(first - quiet).max() > 1e-7
    np.testing.assert_array_equal(quiet, again)


@pytest.mark.parametrize(("layers", "size", "patches"), [(3, 256, 30), (2, 64, 14), (1, 28, 12), (0, 8, 8)])
def test_patches_are_pix2pixs(layers, size, patches):
    out, *_ = shapes(PatchCritic(layers=layers, width=2), images(size), images(size, 1))
    assert out["patches"].shape == (BATCH, patches, patches)
    assert out["score"].shape == (BATCH,)


@pytest.mark.full
@pytest.mark.parametrize("layers", [1, 2])
def test_a_patch_depends_on_its_receptive_field_only(layers):
    """The pixels that one logit's gradient reaches form a square of exactly the stated side."""
    side = receptive_field(layers)
    x = normal(1, side + 13, side + 13, 1)
    network = from_linen(PatchCritic(layers=layers, width=2, norm="none"), x)

    def middle(x, params):
        patches = network.apply(params, {}, x)[0]["patches"]
        return patches[0, patches.shape[1] // 2, patches.shape[2] // 2]

    reached = quick(lambda key: jax.grad(middle)(x, network.init(key)[0]), KEY)
    rows, columns = np.nonzero(np.asarray(reached)[0, :, :, 0])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (side, side)


def test_a_patch_critics_score_is_the_mean_of_its_patches_and_small_images_are_refused():
    out, _ = run(PatchCritic(layers=1, width=2), normal(2, 8, 8, 1))
    np.testing.assert_allclose(out["score"], np.asarray(out["patches"]).mean((1, 2)), atol=1e-6)
    with pytest.raises(ValueError, match="use fewer layers"):
        shapes(PatchCritic(layers=3), images(16))


def test_the_semi_supervised_pair_is_the_papers():
    """784-1000-500-250-250-250-10 with norms kept; 100-500-500-784 with batch norm and no free output scale."""
    out, params, model_state = shapes(SemiSupervisedCritic(), images(28, 1))
    widths = [784, 1000, 500, 250, 250, 250]
    hidden = [params[f"Dense_{place}"]["kernel"].shape for place in range(5)]
    assert hidden == list(itertools.pairwise(widths))
    assert set(params["Dense_0"]) == {"kernel", "bias"}
    assert params["classes"]["NormalizedWeight_0"]["scale"].shape == (10,)
    assert out["features"].shape == (BATCH, 250)
    assert model_state == {}

    image, params, model_state = shapes(
        SemiSupervisedGenerator(), jax.ShapeDtypeStruct((BATCH, 100), jnp.float32)
    )
    assert image.shape == (BATCH, 28, 28, 1)
    assert [params[name]["kernel"].shape for name in ("Dense_0", "Dense_1", "out")] == [
        (100, 500),
        (500, 500),
        (500, 784),
    ]
    assert set(params["out"]) == {"kernel", "bias"}
    assert set(model_state) == {"batch_stats"}


@pytest.mark.parametrize(
    "module",
    [
        SemiSupervisedCritic(num_classes=3, widths=(8, 4)),
        MLPCritic(widths=(8,), heads={"classes": 3}, score_from="classes"),
    ],
    ids=lambda module: type(module).__name__,
)
def test_k_class_logits_make_the_score_of_a_critic_of_k_plus_one_classes(module):
    """With a (K+1)th logit of 0 the probability of being real is sigmoid(score)."""
    out, _ = run(module, normal(4, 8, 8, 1), train=False)
    logits = np.concatenate([out["classes"], np.zeros((4, 1))], axis=1)
    real = 1 - np.exp(logits[:, -1]) / np.exp(logits).sum(1)
    np.testing.assert_allclose(jax.nn.sigmoid(out["score"]), real, rtol=1e-5)


@pytest.mark.parametrize(
    ("activation", "residual"),
    [("relu", True), ("leaky_relu", False), ("tanh", True), ("maxout", False), ("maxout", True)],
)
def test_mlps_take_every_activation(activation, residual):
    options = {"widths": (6, 6), "activation": activation, "residual": residual}
    sample, params, _ = shapes(MLPGenerator(output_shape=(4, 4, 1), **options), LATENT)
    assert sample.shape == (BATCH, 4, 4, 1)
    assert params["trunk"]["Dense_1"]["kernel"].shape == (6, 6 * (5 if activation == "maxout" else 1))
    score, *_ = shapes(MLPCritic(**options), images(4, 1))
    assert score.shape == (BATCH,)


def test_an_mlp_critic_is_its_formula():
    """Two inputs, one hidden ReLU layer with a residual second: written out in numpy, input scale included."""
    x = normal(4, 2)
    score, params = run(MLPCritic(widths=(3, 3), activation="relu", residual=True, input_scale=0.25), x)
    first, second = (params["trunk"][f"Dense_{place}"]["kernel"] for place in range(2))
    h = np.maximum(np.asarray(x) / 4 @ first, 0)
    h = h + np.maximum(h @ second, 0)
    np.testing.assert_allclose(score, (h @ params["scores"]["score"]["kernel"])[:, 0], atol=1e-5)


def test_the_clipping_studys_critic_has_twelve_layers():
    _, params, _ = shapes(
        MLPCritic(widths=(32,) * 12, activation="relu"), jax.ShapeDtypeStruct((1, 2), jnp.float32)
    )
    assert len(params["trunk"]) == 12


def test_residual_layers_need_one_width():
    with pytest.raises(ValueError, match="equal widths"):
        shapes(MLPCritic(widths=(4, 5), residual=True), images(4))


SHARED = {"size": 16, "channels": 1, "width": 4, "conditioning": "shared", "embedding": 6}


def test_shared_embeddings_and_parts_of_the_latent_have_biggans_shapes():
    """Two blocks: z of 11 is 5 for the first layer and 3 for each block, beside one embedding of 6."""
    z = jax.ShapeDtypeStruct((BATCH, 11), jnp.float32)
    _, params, _ = shapes(ResNetGenerator(**SHARED, num_classes=3), z, LABEL)
    assert params["embedding"]["kernel"].shape == (3, 6)
    assert params["Dense_0"]["kernel"].shape == (5, 4 * 4 * 4)
    norms = [name for name in params if name.startswith("ConditionalBatchNorm")]
    assert len(norms) == 4
    for name in norms:
        assert {leaf["kernel"].shape for leaf in params[name].values()} == {(6 + 3, 4)}
    _, params, _ = shapes(ResNetGenerator(**SHARED), z)
    assert "embedding" not in params
    assert params["ConditionalBatchNorm_0"]["scale"]["kernel"].shape == (3, 4)


@pytest.mark.parametrize("norm", ["batch", "batch+spectral"])
def test_a_part_of_the_latent_reaches_its_block_alone(norm):
    """With a block's kernels of its part at zero the images do not depend on that part, and on every other."""
    module = ResNetGenerator(**SHARED, num_classes=3, norm=norm)
    z, y = normal(BATCH, 9), jnp.array([0, 1, 2])
    network = from_linen(module, z, y)
    params, state = network.init(KEY)

    @jax.jit
    def slopes(params):
        def total(z):
            return jnp.sum(network.apply(params, state, z, y, train=False)[0] * normal(BATCH, 16, 16, 1))

        return jnp.abs(jax.grad(total)(z)).sum(0).reshape(3, 3).sum(1)

    assert np.all(slopes(params) > 1e-3)
    for block in range(2):
        without = dict(params)
        for name in (f"ConditionalBatchNorm_{2 * block}", f"ConditionalBatchNorm_{2 * block + 1}"):
            without[name] = jax.tree.map(lambda leaf: leaf.at[6:].set(0.0), params[name])
        silent = slopes(without) == 0
        assert silent.tolist() == [place == block + 1 for place in range(3)]


def test_labels_enter_a_shared_embedding_alone():
    module = ResNetGenerator(**SHARED, num_classes=3)
    z, y = normal(BATCH, 9), jnp.array([0, 1, 2])
    network = from_linen(module, z, y)
    params, state = network.init(KEY)
    made = jax.jit(lambda params, y: network.apply(params, state, z, y, train=False)[0])
    assert not np.allclose(made(params, y), made(params, y[::-1]), atol=1e-3)
    params = {**params, "embedding": jax.tree.map(jnp.zeros_like, params["embedding"])}
    np.testing.assert_array_equal(made(params, y), made(params, y[::-1]))


@pytest.mark.parametrize("critic", [MLPCritic, DCGANCritic, ResNetCritic])
def test_heads_and_minibatch_layers_are_asked_for(critic):
    width = {"widths": (8,)} if critic is MLPCritic else {"width": 4}
    options = {"heads": {"classes": 10, "code": 2}, "features": True, "minibatch": "discrimination"}
    out, params, _ = shapes(critic(**width, **options), images(8, 1))
    features = out["features"].shape[1]
    assert {name: head.shape for name, head in out.items()} == {
        "score": (BATCH,),
        "classes": (BATCH, 10),
        "code": (BATCH, 2),
        "features": (BATCH, features),
    }
    assert params["scores"]["score"]["kernel"].shape == (features + 100, 1)


@pytest.mark.full
@pytest.mark.parametrize(
    ("critic", "conditioning"),
    [(MLPCritic, "concat"), (DCGANCritic, "concat"), (ResNetCritic, "projection")],
)
def test_labels_change_the_score_through_either_conditioning(critic, conditioning):
    width = {"widths": (8,)} if critic is MLPCritic else {"width": 4}
    module = critic(**width, num_classes=3, conditioning=conditioning, norm="none")
    x = jnp.tile(normal(1, 8, 8, 1), (3, 1, 1, 1))
    score, _ = run(module, x, jnp.array([0, 1, 1]))
    assert score[1] == score[2]
    assert score[0] != score[1]


def test_a_projections_term_is_the_inner_product_with_the_labels_row():
    x, y = normal(3, 4), jnp.array([2, 0, 2])
    module = MLPCritic(widths=(5,), num_classes=3, conditioning="projection", features=True)
    out, params = run(module, x, y)
    h, head = np.asarray(out["features"]), params["scores"]
    expected = (h @ head["score"]["kernel"])[:, 0] + np.sum(
        h * np.asarray(head["projection"]["kernel"])[y], 1
    )
    np.testing.assert_allclose(out["score"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (MLPCritic(num_classes=3), (images(4),), "without a label"),
        (MLPCritic(), (images(4), LABEL), "num_classes="),
        (MLPCritic(conditioning="film"), (images(4),), "Unknown conditioning"),
        (MLPCritic(conditioning="projection"), (images(4), LABEL), "needs num_classes"),
        (MLPCritic(num_classes=3, conditioning="projection"), (images(4),), "needs labels"),
        (MLPCritic(score_from="classes"), (images(4),), "names no head"),
        (MLPCritic(minibatch="bag"), (images(4),), "Unknown minibatch"),
        (
            MLPGenerator(num_classes=3),
            (LATENT, jax.ShapeDtypeStruct((BATCH, 1), jnp.int32)),
            "Labels must be integers",
        ),
        (ResNetCritic(pool="max"), (images(32),), "Unknown pool"),
        (ResNetGenerator(conditioning="film"), (LATENT,), "Unknown conditioning 'film'"),
        (
            ResNetGenerator(conditioning="shared", norm="layer"),
            (LATENT,),
            "Conditional norms are batch norms",
        ),
        (
            ResNetGenerator(conditioning="shared"),
            (jax.ShapeDtypeStruct((BATCH, 3), jnp.float32),),
            "splits z into 4 parts, and z has 3",
        ),
        (
            DCGANCritic(),
            (jax.ShapeDtypeStruct((1, 8, 200, 1), jnp.float32),),
            "8 to 128 pixels a side, got 200",
        ),
        (
            ResNetCritic(),
            (jax.ShapeDtypeStruct((1, 64, 72, 1), jnp.float32),),
            "64 x 72 is not divisible by 16",
        ),
    ],
)
def test_misfits_are_named(module, inputs, message):
    with pytest.raises(ValueError, match=message):
        shapes(module, *inputs)


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (MLPGenerator(widths=(4,), norm="batch", dtype=jnp.bfloat16), (LATENT,)),
        (MLPCritic(widths=(4,), norm="spectral", features=True, dtype=jnp.bfloat16), (images(4),)),
        (DCGANGenerator(size=8, width=4, dtype=jnp.bfloat16), (LATENT,)),
        (DCGANCritic(width=4, heads={"code": 2}, dtype=jnp.bfloat16), (images(8),)),
        full(
            ResNetGenerator(size=8, width=8, attention=(8,), num_classes=3, dtype=jnp.bfloat16),
            (LATENT, LABEL),
        ),
        full(ResNetCritic(width=8, norm="layer+spectral", attention=(4,), dtype=jnp.bfloat16), (images(8),)),
        full(UNet(width=4, dtype=jnp.bfloat16), (images(8),)),
        (PatchCritic(layers=1, width=4, dtype=jnp.bfloat16), (images(8),)),
        (SemiSupervisedCritic(widths=(4,), dtype=jnp.bfloat16), (images(8),)),
        (SemiSupervisedGenerator(widths=(4,), dtype=jnp.bfloat16), (LATENT,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bf16_compute_leaves_parameters_statistics_and_outputs_in_f32(module, inputs):
    trees = shapes(module, *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(trees)} == {jnp.dtype("float32")}
    network = from_linen(module, *inputs)
    params, model_state = jax.eval_shape(network.init, KEY)
    text = str(
        jax.make_jaxpr(lambda p, s, key, *xs: network.apply(p, s, *xs, train=True, key=key))(
            params, model_state, KEY, *inputs
        )
    )
    assert "bf16" in text


@pytest.mark.parametrize(
    ("generator", "critic", "size"),
    [
        (DCGANGenerator(size=(9, 20), channels=4, width=4), DCGANCritic(width=4), (9, 20)),
        (ResNetGenerator(size=(8, 24), channels=4, width=4), ResNetCritic(width=4), (8, 24)),
        (ResNetGenerator(size=(48, 32), channels=4, width=4), ResNetCritic(width=4), (48, 32)),
    ],
)
def test_rectangles_are_made_and_judged(generator, critic, size):
    out, _, _ = shapes(generator, LATENT)
    assert out.shape == (BATCH, *size, 4)
    score, _, _ = shapes(critic, out)
    assert score.shape == (BATCH,)


@pytest.mark.full
def test_a_square_given_by_both_sides_is_the_same_network():
    """Rectangles change neither parameters nor what squares compute."""
    z = jax.random.normal(jax.random.key(0), (2, 4))
    for make in (DCGANGenerator, ResNetGenerator):
        outs = []
        for size in (16, (16, 16)):
            module = make(size=size, channels=1, width=4)
            outs.append(module.init_with_output(jax.random.key(1), z)[0])
        np.testing.assert_array_equal(*outs)
