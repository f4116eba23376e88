"""ONNX models of the library's generators: onnxruntime computes what JAX does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gj
from gan_jax.models.onnx_export import OnnxError, lacks_noise, to_onnx
from gan_jax.models.programs import Program, _program, weight_names
from gan_jax.networks import R3GANGenerator, ResNetGenerator, StyleGAN2Generator, UNet
from gan_jax.networks.layer_noise import noise_from
from tests.tiers import full, slow

onnxruntime = pytest.importorskip("onnxruntime")
KEY = np.zeros(2, np.uint32)


def compare(module, *inputs, tolerance=1e-5):
    network = gj.from_linen(module, *inputs)
    params, model_state = network.init(jax.random.key(0))
    # Weights that are not the first ones: zeros and ones would hide an error.
    shaken = jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.abs(jax.random.normal(jax.random.key(leaf.size), leaf.shape)),
        (params, model_state),
    )
    leaves = jax.tree.leaves(shaken)
    program = _program(network.apply, shaken, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs))
    weights = dict(zip(weight_names(shaken), map(np.asarray, leaves), strict=True))
    names = [f"input_{i}" for i in range(len(inputs))]
    session = onnxruntime.InferenceSession(
        to_onnx(program, weights, KEY, names), providers=["CPUExecutionProvider"]
    )
    for n in (1, 5):
        given = [
            np.arange(n, dtype=np.int32) % 3
            if x.dtype == jnp.int32
            else np.asarray(jax.random.normal(jax.random.key(n), (n, *x.shape[1:])))
            for x in inputs
        ]
        (there,) = session.run(["samples"], dict(zip(names, given, strict=True)))
        here, _ = network.apply(*shaken, *given, train=False, key=jax.random.key(0))
        assert there.dtype == np.float32
        np.testing.assert_allclose(there, here, atol=tolerance, rtol=0)


LABEL = jnp.zeros((1,), jnp.int32)


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        full(gj.MLPGenerator(output_shape=(2,), widths=(8,)), (jnp.zeros((1, 4)),)),
        full(gj.DCGANGenerator(size=8, channels=3, width=4, num_classes=3), (jnp.zeros((1, 4)), LABEL)),
        slow(ResNetGenerator(size=16, channels=3, width=4, num_classes=3), (jnp.zeros((1, 4)), LABEL)),
        slow(ResNetGenerator(size=16, channels=1, width=4, attention=(8,)), (jnp.zeros((1, 4)),)),
        slow(
            ResNetGenerator(size=8, width=4, norm="batch+spectral", conditioning="shared", num_classes=3),
            (jnp.zeros((1, 4)), LABEL),
        ),
        full(
            R3GANGenerator(size=8, channels=3, width=8, blocks=1, group_size=4, num_classes=3),
            (jnp.zeros((1, 4)), LABEL),
        ),
        slow(UNet(channels=3, width=4, depth=3, dropout_in_evaluation=False), (jnp.zeros((1, 8, 8, 1)),)),
    ],
    ids=["mlp", "dcgan", "resnet", "attention", "biggan", "r3gan", "unet"],
)
def test_onnxruntime_gives_the_same_samples(module, inputs):
    compare(module, *inputs)


@pytest.mark.full
def test_noise_of_layers_is_constant_or_given():
    """StyleGAN2's generator draws noise for each sample; in ONNX it is constant, or an input."""
    module = StyleGAN2Generator(size=8, channels=1, width=4, style=6, layers=2, num_classes=3)
    network = gj.from_linen(module, jnp.zeros((1, 4)), LABEL)
    shaken = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape),
        network.init(jax.random.key(0)),
    )
    shapes = (jax.ShapeDtypeStruct((1, 4), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32))
    weights = dict(zip(weight_names(shaken), map(np.asarray, jax.tree.leaves(shaken)), strict=True))
    model = to_onnx(_program(network.apply, shaken, shapes), weights, KEY, ["z", "labels"])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    z = np.asarray(jax.random.normal(jax.random.key(3), (5, 4)))
    labels = np.arange(5, dtype=np.int32) % 3
    (there,) = session.run(["samples"], {"z": z, "labels": labels})
    here, _ = network.apply(*shaken, z, labels, train=False, key=None)
    np.testing.assert_allclose(there, here, atol=1e-5, rtol=0)
    drawn, _ = network.apply(*shaken, z, labels, train=False, key=jax.random.key(0))
    assert np.abs(drawn - here).max() > 1e-4
    optional = {each.name: each.shape[1] for each in session.get_overridable_initializers()}
    assert optional == {"noise_0": 16, "noise_1": 64, "noise_2": 64}
    assert [each.name for each in session.get_inputs()] == ["z", "labels"]
    for rows in (1, 5):
        noise = [
            np.asarray(jax.random.normal(jax.random.key(place), (rows, pixels)))
            for place, pixels in enumerate(optional.values())
        ]
        given = {f"noise_{place}": numbers for place, numbers in enumerate(noise)}
        (there,) = session.run(["samples"], {"z": z, "labels": labels, **given})
        with noise_from(lambda place, pixels, noise=noise: noise[place]):
            here, _ = network.apply(*shaken, z, labels, train=False, key=None)
        np.testing.assert_allclose(there, here, atol=1e-5, rtol=0)
        assert np.abs(drawn - there).max() > 1e-4


def test_what_has_no_form_is_named():
    program = Program(
        lambda weights, key, x: jnp.sort(x, axis=1), {}, (jax.ShapeDtypeStruct((1, 3), jnp.float32),)
    )
    with pytest.raises(OnnxError, match="uses sort"):
        to_onnx(program, {}, KEY, ["z"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: z - z.mean(axis=0), "computes with the size of its batch"),
        (lambda z: z * z.shape[0], "computes with the size of its batch"),
        (lambda z: z[::-1], "computes with the size of its batch"),
        (lambda z: z + min(4, z.shape[0]), "another size of its batch"),
        (lambda z: jnp.roll(z, 1, axis=0), "another size of its batch"),
    ],
)
def test_samples_that_depend_on_the_size_of_the_batch_are_refused_in_one_line(call, message):
    program = Program(
        lambda weights, key, z: jax.jit(call)(z), {}, (jax.ShapeDtypeStruct((1, 3), jnp.float32),)
    )
    with pytest.raises(OnnxError, match=message) as raised:
        to_onnx(program, {}, KEY, ["z"])
    assert "\n" not in str(raised.value)


def test_noise_for_every_sample_is_lacking():
    """Dropout in evaluation, as in pix2pix's U-Net: the model in ONNX is called without a key."""

    def noisy(shape):
        def call(weights, key, z):
            drawn = 0.0 if key is None else jax.random.normal(jax.random.wrap_key_data(key), shape(z))
            return jax.jit(lambda z: z + drawn)(z)

        return Program(call, {}, (jax.ShapeDtypeStruct((1, 3), jnp.float32),))

    assert lacks_noise(noisy(lambda z: z.shape), {}, KEY)
    assert not lacks_noise(noisy(lambda z: (1, 3)), {}, KEY)
