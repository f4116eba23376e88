"""Inception-V3 against pytorch-fid's patched blocks on the same random weights (reference/make_inception.py)."""

import importlib.util
import json
import pathlib
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import metrics
from gan_jax.metrics import PROTOCOLS, frechet_distance
from gan_jax.metrics._files import read_arrays
from gan_jax.metrics.inception import InceptionV3, expected_shapes, to_params

REFERENCE = pathlib.Path(__file__).resolve().parent / "reference"
_spec = importlib.util.spec_from_file_location("make_inception", REFERENCE / "make_inception.py")
make_inception = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_inception)


@pytest.fixture(scope="module")
def stored():
    with np.load(REFERENCE / "inception.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def arrays(stored):
    shapes = {}
    for line in stored["shapes"]:
        name, *sizes = str(line).split()
        shapes[name] = tuple(map(int, sizes))
    return make_inception.seeded_arrays(shapes)


def test_names_and_shapes_are_the_ports(stored):
    ports = {str(line) for line in stored["shapes"]}
    assert {f"{name} {' '.join(map(str, shape))}" for name, shape in expected_shapes().items()} == ports
    # torchvision documents 27,161,264 parameters; 3,326,696 are the auxiliary head's; eight classes more are here.
    parameters = sum(np.prod(shape) for name, shape in expected_shapes().items() if "running" not in name)
    assert parameters == 27_161_264 - 3_326_696 + 8 * 2049


@pytest.mark.full
def test_the_forward_pass_is_pytorch_fids(stored, arrays):
    images = jnp.asarray(2 * make_inception.seeded_images(107) - 1)
    out = jax.jit(InceptionV3().apply)({"params": to_params(arrays)}, images)
    scale = np.abs(stored["features"]).max()
    np.testing.assert_allclose(out["features"], stored["features"], atol=1e-4 * scale)
    np.testing.assert_allclose(out["logits"], stored["logits"], atol=1e-4 * np.abs(stored["logits"]).max())
    assert stored["features"].std() > 0.01 * scale  # features that differ, not zeros that agree


def test_resizing_is_torchs(stored):
    images = jnp.asarray(make_inception.seeded_images(40))
    found = (PROTOCOLS["pytorch"](2 * images - 1) + 1) / 2
    np.testing.assert_allclose(found[:, ::23, ::23], stored["resized"], atol=1e-5)


@pytest.mark.slow
def test_the_extractor_from_a_file_at_full_size(stored, arrays, tmp_path):
    np.savez(tmp_path / "inception.npz", **arrays)
    extractor = metrics.inception_extractor(tmp_path / "inception.npz")
    images = 2 * make_inception.seeded_images(40) - 1
    found = metrics.extract(extractor, images)
    scale = np.abs(stored["features_at_299"]).max()
    np.testing.assert_allclose(found.features, stored["features_at_299"], atol=1e-4 * scale)
    assert found.logits.shape == (2, 1008)
    scores = metrics.image_scores(found, found, extractor, which=("frechet", "kernel", "score"))
    assert {"fid", "kid", "inception_score"} <= set(scores.values)
    assert scores.fingerprint.weights == extractor.weights
    assert "bilinear to 299" in scores.fingerprint.resize


def test_frechet_distance_is_pytorch_fids(stored):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 24)) @ rng.normal(size=(24, 24))
    y = rng.normal(size=(200, 24)) + 0.5
    assert frechet_distance(x, y) == pytest.approx(float(stored["frechet"]), rel=1e-6)


def write_safetensors(path, arrays):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        kind = {"f4": "F32", "f2": "F16", "i8": "I64"}[array.dtype.str[1:]]
        end = len(data) + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), end]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_safetensors_and_npz_hold_the_same(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b.c": np.ones(4, np.float16),
        "n": np.array(7),
    }
    np.savez(tmp_path / "w.npz", **arrays)
    write_safetensors(tmp_path / "w.safetensors", arrays)
    for suffix in ("npz", "safetensors"):
        found = read_arrays(tmp_path / f"w.{suffix}")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.full
def test_wrong_files_and_weights_are_named(arrays, tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        metrics.inception_extractor(tmp_path / "none.npz")
    objects = tmp_path / "objects.npz"
    np.savez(objects, a=np.array([{"code": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"not a complete \.npz file"):
        read_arrays(objects)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ValueError, match=r"not a complete \.safetensors file"):
        read_arrays(tmp_path / "cut.safetensors")
    (tmp_path / "weights.pkl").write_bytes(b"x")
    with pytest.raises(ValueError, match="can run code"):
        read_arrays(tmp_path / "weights.pkl")
    with pytest.raises(ValueError, match=r"2 missing \(fc.bias, fc.weight"):
        to_params({name: array for name, array in arrays.items() if not name.startswith("fc.")})
    torchvisions = {**arrays, "fc.weight": arrays["fc.weight"][:1000], "fc.bias": arrays["fc.bias"][:1000]}
    with pytest.raises(ValueError, match=r"fc.weight has shape \(1000, 2048\), not \(1008, 2048\)"):
        to_params(torchvisions)
    with pytest.raises(ValueError, match="1 unknown"):
        to_params({**arrays, "Mixed_8a.conv.weight": np.zeros(1)})
    with pytest.raises(ValueError, match="Unknown protocol 'nearest'"):
        metrics.inception_extractor(tmp_path / "none.npz", protocol="nearest")
