"""The safetensors format against its own library, and damaged files."""

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.data.safetensors import read_safetensors, write_safetensors

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1, 2], np.uint32),
    "scalar": np.float32(3),
    "empty": np.zeros((0, 2), np.float32),
    "flag": np.array([True, False]),
    "half": np.asarray(jnp.array([1.5, -2.0], jnp.bfloat16)),
}


def test_what_is_written_is_read():
    read = read_safetensors(write_safetensors(ARRAYS))
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_the_formats_own_library_reads_it_and_is_read():
    safetensors = pytest.importorskip("safetensors.numpy")
    plain = {name: np.asarray(array) for name, array in ARRAYS.items() if name != "half"}
    there = safetensors.load(write_safetensors(plain, {"round": "7"}))
    back = read_safetensors(safetensors.save(plain))
    for name, array in plain.items():
        np.testing.assert_array_equal(there[name], array)
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 16,
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{x",
        write_safetensors(ARRAYS)[:-1],
        write_safetensors(ARRAYS).replace(b'"F32"', b'"F31"'),
    ],
)
def test_damaged_files_are_refused(data):
    with pytest.raises(ValueError, match="header"):
        read_safetensors(data)
