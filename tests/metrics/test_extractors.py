"""VGG16, LPIPS, CLIP and DINOv2 against other libraries on the same weights (reference/make_extractors.py)."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gan_jax import metrics
from gan_jax.metrics import inception
from gan_jax.metrics.clip import clip_network
from gan_jax.metrics.dinov2 import dinov2_network
from gan_jax.metrics.named import extractor_named
from gan_jax.metrics.vgg16 import VGG16, vgg16_params
from gan_jax.metrics.vision_inputs import CLIP, IMAGENET, RULES, VisionInput, resized, torch_bicubic

REFERENCE = pathlib.Path(__file__).resolve().parent / "reference"
_spec = importlib.util.spec_from_file_location("make_extractors", REFERENCE / "make_extractors.py")
make_extractors = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_extractors)
seeded_images = make_extractors.seeded_images


@pytest.fixture(scope="module")
def stored():
    with np.load(REFERENCE / "extractors.npz") as archive:
        return dict(archive)


def weights(stored, name):
    shapes = {}
    for line in stored[f"{name}_shapes"]:
        array, *sizes = str(line).split()
        shapes[array] = tuple(map(int, sizes))
    return make_extractors.seeded_arrays(shapes)


def assert_close(found, expected):
    """Within 1e-4 of the largest number."""
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    assert np.std(expected) > 0.01 * np.abs(expected).max()  # features that differ, not zeros that agree


# ---------------------------------------------------------------------------------------------------------
# Forward passes


def test_clips_features_are_those_of_transformers(stored):
    module, params = clip_network(weights(stored, "clip"))
    assert_close(jax.jit(module.apply)({"params": params}, seeded_images(32))["features"], stored["clip"])


@pytest.mark.parametrize("size", [20, 36])
def test_dinov2s_features_are_those_of_transformers(stored, size):
    """The positions of a grid of 9 are interpolated to one of 5 for images of 20 pixels."""
    module, params = dinov2_network(weights(stored, "dinov2"), offset=0.0)
    found = jax.jit(module.apply)({"params": params}, seeded_images(size))["features"]
    assert_close(found, stored[f"dinov2_{size}"])


def test_positions_are_interpolated_as_the_authors_of_dinov2_do(stored):
    positions = weights(stored, "dinov2")["embeddings.position_embeddings"][0, 1:].reshape(9, 9, -1)
    matrix = torch_bicubic(9, 5, 9 / 5.1)
    found = np.einsum("oh,pw,hwd->opd", matrix, matrix, positions)[..., :5]
    np.testing.assert_allclose(found, stored["positions_of_the_authors"], atol=1e-5)
    plain = torch_bicubic(9, 5, 9 / 5)
    assert np.abs(np.einsum("oh,pw,hwd->opd", plain, plain, positions)[..., :5] - found).max() > 1e-2


def test_vgg16s_hidden_layer_is_torchvisions(stored, tmp_path):
    np.savez(tmp_path / "vgg16.npz", **weights(stored, "vgg16"))
    extractor = metrics.vgg16_extractor(tmp_path / "vgg16.npz", resize="none")
    mean, deviation = np.array(IMAGENET, np.float32)
    images = (seeded_images(224) * deviation + mean) * 2 - 1  # so that the network sees the seeded images
    found = jax.jit(extractor.apply)(extractor.params, images)["features"]
    assert_close(found, stored["vgg16"])


@pytest.mark.full
def test_inceptions_spatial_features_and_logits_without_bias(stored):
    with np.load(REFERENCE / "inception.npz") as archive:
        lines = [str(line).split() for line in archive["shapes"]]
    shapes = {name: tuple(map(int, sizes)) for name, *sizes in lines}
    params = inception.to_params(make_extractors.make_inception.seeded_arrays(shapes))
    found = jax.jit(inception.InceptionV3().apply)({"params": params}, 2 * seeded_images(107) - 1)
    assert_close(found["spatial"], stored["spatial"].reshape(2, -1))
    assert_close(found["unbiased_logits"] + params["fc"]["bias"], found["logits"])
    at_299 = jax.eval_shape(inception.InceptionV3().apply, {"params": params}, jnp.zeros((1, 299, 299, 3)))
    assert at_299["spatial"].shape == (1, 2023)


@pytest.mark.full
def test_lpips_is_its_authors(stored, tmp_path):
    arrays = weights(stored, "lpips")
    convolutions, heads = {}, {}
    for name, array in arrays.items():
        if name.startswith("net."):  # net.slice1.0.weight is torchvision's features.0.weight
            convolutions["features." + name.split(".", 2)[2]] = array
        elif name.startswith("lins."):  # the same modules as lin0 to lin4, and the last to be set
            heads[name.replace("lins.", "lin")] = array
    np.savez(tmp_path / "vgg16.npz", **convolutions)
    np.savez(tmp_path / "heads.npz", **heads)
    distance = jax.jit(metrics.lpips_distance(tmp_path / "vgg16.npz", tmp_path / "heads.npz"))
    images = 2 * seeded_images(32) - 1
    np.testing.assert_allclose(distance(images, images[::-1] * 0.5), stored["lpips"], rtol=1e-4)
    np.testing.assert_allclose(distance(images, images), 0, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------
# Names of weights


def clip_of_openai(arrays):
    """The same weights as OpenAI's code names and stacks them."""
    prefix, layers = "vision_model.embeddings", "vision_model.encoder.layers"
    theirs = {
        "visual.class_embedding": arrays[f"{prefix}.class_embedding"],
        "visual.conv1.weight": arrays[f"{prefix}.patch_embedding.weight"],
        "visual.positional_embedding": arrays[f"{prefix}.position_embedding.weight"],
        "visual.proj": arrays["visual_projection.weight"].T,
        "text_projection": np.zeros((2, 2), np.float32),
    }
    for kind in ("weight", "bias"):
        theirs[f"visual.ln_pre.{kind}"] = arrays[f"vision_model.pre_layrnorm.{kind}"]
        theirs[f"visual.ln_post.{kind}"] = arrays[f"vision_model.post_layernorm.{kind}"]
        for layer in range(2):
            a, b = f"visual.transformer.resblocks.{layer}", f"{layers}.{layer}"
            theirs[f"{a}.attn.in_proj_{kind}"] = np.concatenate(
                [arrays[f"{b}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            )
            theirs[f"{a}.attn.out_proj.{kind}"] = arrays[f"{b}.self_attn.out_proj.{kind}"]
            for i in (1, 2):
                theirs[f"{a}.ln_{i}.{kind}"] = arrays[f"{b}.layer_norm{i}.{kind}"]
            theirs[f"{a}.mlp.c_fc.{kind}"] = arrays[f"{b}.mlp.fc1.{kind}"]
            theirs[f"{a}.mlp.c_proj.{kind}"] = arrays[f"{b}.mlp.fc2.{kind}"]
    return theirs


def dinov2_of_the_authors(arrays):
    """The same weights as the authors' code names and stacks them."""
    theirs = {
        "cls_token": arrays["embeddings.cls_token"],
        "pos_embed": arrays["embeddings.position_embeddings"],
        "mask_token": arrays["embeddings.mask_token"],
    }
    for kind in ("weight", "bias"):
        theirs[f"patch_embed.proj.{kind}"] = arrays[f"embeddings.patch_embeddings.projection.{kind}"]
        theirs[f"norm.{kind}"] = arrays[f"layernorm.{kind}"]
        for layer in range(2):
            a, b = f"blocks.{layer}", f"encoder.layer.{layer}"
            theirs[f"{a}.attn.qkv.{kind}"] = np.concatenate(
                [arrays[f"{b}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            )
            theirs[f"{a}.attn.proj.{kind}"] = arrays[f"{b}.attention.output.dense.{kind}"]
            for i in (1, 2):
                theirs[f"{a}.norm{i}.{kind}"] = arrays[f"{b}.norm{i}.{kind}"]
                theirs[f"{a}.mlp.fc{i}.{kind}"] = arrays[f"{b}.mlp.fc{i}.{kind}"]
                theirs[f"{a}.ls{i}.gamma"] = arrays[f"{b}.layer_scale{i}.lambda1"]
    return theirs


@pytest.mark.parametrize(
    ("name", "network", "renamed"),
    [("clip", clip_network, clip_of_openai), ("dinov2", dinov2_network, dinov2_of_the_authors)],
)
def test_the_authors_names_are_the_same_network(stored, name, network, renamed):
    arrays = weights(stored, name)
    (module, params), (other, same) = network(arrays), network(renamed(arrays))
    assert module == other
    jax.tree.map(np.testing.assert_array_equal, params, same)


def test_wrong_weights_are_named(stored, tmp_path):
    clip, dinov2, vgg16 = (weights(stored, name) for name in ("clip", "dinov2", "vgg16"))
    with pytest.raises(ValueError, match=r"not the weights of CLIP's image tower: .* missing \(vision_model"):
        clip_network(dinov2)
    with pytest.raises(ValueError, match=r"not the weights of DINOv2: .* missing \(embeddings.cls_token"):
        dinov2_network(clip)
    with pytest.raises(ValueError, match=r"register tokens"):
        dinov2_network({**dinov2, "embeddings.register_tokens": np.zeros((1, 4, 128))})
    with pytest.raises(ValueError, match=r"1 missing \(features.28.bias\)"):
        vgg16_params({name: array for name, array in vgg16.items() if name != "features.28.bias"})
    with pytest.raises(
        ValueError, match=r"features.0.weight has shape \(4, 3, 1, 1\), not \(any, any, 3, 3\)"
    ):
        vgg16_params({**vgg16, "features.0.weight": np.zeros((4, 3, 1, 1))})
    narrow = {**clip, "visual_projection.weight": np.zeros((48, 64), np.float32)}
    with pytest.raises(ValueError, match=r"visual_projection.weight has shape \(48, 64\), not \(any, 128\)"):
        clip_network(narrow)
    np.savez(tmp_path / "w.npz", **clip)
    with pytest.raises(ValueError, match="Unknown resize 'nearest': one of pillow, bicubic, tf, none"):
        metrics.clip_extractor(tmp_path / "w.npz", resize="nearest")


# ---------------------------------------------------------------------------------------------------------
# Extractors


@pytest.mark.full
def test_clip_from_a_file_resizes_crops_and_repeats(stored, tmp_path):
    np.savez(tmp_path / "clip.npz", **weights(stored, "clip"))
    extractor = metrics.clip_extractor(tmp_path / "clip.npz")
    wide = np.round(255 * seeded_images(50)[:, :40]).astype(np.uint8)
    found = metrics.extract(extractor, wide)
    assert found.features.shape == (2, 48)
    assert extractor.resize == "Pillow's bicubic of bytes to 32 (dgm-eval, clean-fid's CLIP)"
    cropped = []
    for image in wide:  # torchvision's Resize(32) and CenterCrop(32) of 40 x 50
        small = np.asarray(Image.fromarray(image).resize((40, 32), Image.Resampling.BICUBIC))
        cropped.append(small[:, 4:36])
    same = metrics.extract(extractor, np.stack(cropped))
    np.testing.assert_allclose(found.features, same.features, atol=0.05 * np.abs(same.features).max())
    grey = metrics.extract(extractor, wide[..., :1])
    repeated = metrics.extract(extractor, np.repeat(wide[..., :1], 3, axis=3))
    np.testing.assert_allclose(grey.features, repeated.features, rtol=1e-5, atol=1e-5)


def test_dinov2_from_a_file_has_224_pixels_and_the_authors_positions(stored, tmp_path):
    np.savez(tmp_path / "dinov2.npz", **weights(stored, "dinov2"))
    extractor = metrics.dinov2_extractor(tmp_path / "dinov2.npz")
    shapes = jax.eval_shape(extractor.apply, extractor.params, jnp.zeros((1, 8, 8, 3)))
    assert shapes["features"].shape == (1, 128)
    assert shapes["tokens"].shape == (1, 1 + 56**2, 128)
    assert "positions as authors" in extractor.resize
    with pytest.raises(ValueError, match="Unknown positions 'mine': one of authors, transformers"):
        metrics.dinov2_extractor(tmp_path / "dinov2.npz", positions="mine")


@pytest.mark.full
def test_clips_gradient_by_the_images_is_the_slope(stored, tmp_path):
    """Central differences along a random direction, through the resizing."""
    np.savez(tmp_path / "w.npz", **weights(stored, "clip"))
    extractor = metrics.clip_extractor(tmp_path / "w.npz", resize="bicubic")

    def value(x):
        return extractor.apply(extractor.params, x)["features"].sum()

    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(-0.9, 0.9, size=(1, 20, 20, 3)), jnp.float32)
    direction = jnp.asarray(rng.normal(size=images.shape), jnp.float32)
    step = 2e-3
    both = jax.jit(jax.value_and_grad(value))
    slope = float(jnp.vdot(both(images)[1], direction))
    ahead, behind = (float(both(images + side * step * direction)[0]) for side in (1, -1))
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=0.02)
    assert abs(slope) > 1e-2


@pytest.mark.full
def test_vgg16s_pyramid_without_biases_is_its_gradient_times_the_images(stored):
    """Euler's identity of positively homogeneous functions, `<grad f(x), x> = f(x)`."""
    arrays = weights(stored, "vgg16")
    arrays = {name: array * (not name.endswith("bias")) for name, array in arrays.items()}
    params = vgg16_params(arrays, pyramid_only=True)
    module = VGG16(make_extractors.SMALL_VGG16, pyramid_only=True)

    @jax.jit
    @jax.value_and_grad
    def both(x):
        return sum(stage.mean() for stage in module.apply({"params": params}, x)["pyramid"])

    images = jnp.asarray(seeded_images(20) - 0.5)
    value, gradient = both(images)
    assert float(jnp.vdot(gradient, images)) == pytest.approx(float(value), rel=1e-4)
    assert value > 0.01


# ---------------------------------------------------------------------------------------------------------
# Resizing


@pytest.mark.parametrize("size", [40, 500])
def test_antialiased_bicubic_is_pytorchs(stored, size):
    found = resized(jnp.asarray(seeded_images(size)), (224, 224), "bicubic")[:, ::23, ::23]
    np.testing.assert_allclose(found, stored[f"bicubic_{size}"], atol=1e-5)


@pytest.mark.parametrize("given", [40, 300])
def test_resizing_of_bytes_is_pillows(given):
    rng = np.random.default_rng(given)
    images = rng.integers(256, size=(2, given, given, 3), dtype=np.uint8)  # noise overshoots and is clipped
    found = resized(jnp.asarray(images / np.float32(127.5) - 1), (224, 224), "pillow")
    levels = np.round((np.asarray(found) + 1) * 127.5)
    pillows = np.stack(
        [np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)) for image in images]
    )
    difference = np.abs(levels - pillows)
    assert difference.max() <= 1  # its weights are fixed-point numbers of 22 bits
    assert (difference > 0).mean() < 1e-3
    assert pillows.min() == 0
    assert pillows.max() == 255


def test_statistics_and_unknown_rules():
    for statistics in (IMAGENET, CLIP):
        grey = VisionInput("tf", 4, statistics)(jnp.zeros((1, 2, 2, 1)))
        np.testing.assert_allclose(grey[0, 0, 0], (0.5 - np.array(statistics[0])) / statistics[1], rtol=1e-5)
    assert set(RULES) == {"pillow", "bicubic", "tf", "none"}
    with pytest.raises(ValueError, match="Unknown resize 'area'"):
        VisionInput("area", 4, CLIP)


# ---------------------------------------------------------------------------------------------------------
# ONNX, functions, names


def test_an_onnx_file_makes_features_and_logits():
    pytest.importorskip("onnxruntime")
    extractor = metrics.onnx_extractor(REFERENCE / "state_dicts" / "channels.onnx", value_range="bytes")
    images = np.random.default_rng(0).integers(256, size=(5, 4, 4, 3), dtype=np.uint8)
    found = metrics.extract(extractor, images, batch_size=2)
    np.testing.assert_allclose(found.features, images.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.logits, 2 * images.mean(axis=(1, 2)), rtol=1e-5)
    grey = metrics.extract(
        extractor, np.full((2, 9, 9, 1), 51, np.uint8)
    )  # resized, and repeated to three channels
    np.testing.assert_allclose(grey.features, 51, rtol=1e-5)
    assert extractor.weights != "none"


def test_files_that_are_no_onnx_network_are_named(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "w.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"w\.onnx' is not read as an ONNX network"):
        metrics.onnx_extractor(tmp_path / "w.onnx")
    with pytest.raises(ValueError, match="Unknown range 'wide'"):
        metrics.onnx_extractor(tmp_path / "w.onnx", value_range="wide")


def brightness(images):
    return images.mean(axis=(1, 2))


def test_names_of_extractors(stored, tmp_path):
    """A name, its file, and options after commas; commas in a file's name stay in it."""
    file = tmp_path / "a,b.npz"
    np.savez(file, **weights(stored, "dinov2"))
    extractor = extractor_named(f"dinov2:{file},resize=bicubic,positions=transformers")
    assert extractor.resize == "antialiased bicubic of floats to 224 (EDM2), positions as transformers"
    assert extractor_named(f"dinov2:{file}", resize="tf").protocol == "tf, authors"
    images = np.random.default_rng(0).uniform(-1, 1, size=(3, 4, 4, 3))
    by_name = extractor_named(f"function:{brightness.__module__}.brightness")
    np.testing.assert_allclose(metrics.extract(by_name, images).features, brightness(images), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet:w.pth", "Unknown extractor 'resnet': expected one of pixels, classifier:DATA"),
        ("clip", "'clip' is not understood"),
        ("pixels:w.pth", "'pixels:w.pth' is not understood"),
        ("clip:none.npz", "There is no file 'none.npz'"),
        ("clip:none.npz,side=3", r"'clip' does not take the options \['side'\]"),
        ("function:nothing.here", "There is no function 'nothing.here'"),
        ("function:gan_jax.metrics", "'gan_jax.metrics' is no function"),
    ],
)
def test_names_that_are_wrong_are_explained(name, reason):
    with pytest.raises(ValueError, match=reason):
        extractor_named(name)
