"""Streams give what the device-resident source gives, and go on where they stopped."""

import json
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from gan_jax.data import DataError, from_arrays, open_source, stream
from gan_jax.data.augment import augmented
from gan_jax.functional.augment import Augment


def data(n=23):
    x = np.random.default_rng(0).integers(0, 256, (n, 4, 4, 1), np.uint8)
    return {"x": x, "y": np.arange(n, dtype=np.int32)}


def batches(source, cursor, count):
    host_batch = source.host_batches(cursor, count)
    return [
        source.get_batch(source.device_data, jax.tree.map(lambda leaf, i=i: leaf[i], host_batch))
        for i in range(count)
    ]


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("replace", [False, True])
def test_a_stream_is_the_resident_source_from_elsewhere(replace):
    device_data = from_arrays(data(), 5, seed=3, replace=replace)
    streaming = stream.from_reader(stream.array_reader(data()), 23, 5, seed=3, replace=replace)
    for cursor, count in ((0, 3), (3, 3), (6, 1), (50, 2), (1, 4)):
        assert_same(batches(streaming, cursor, count), batches(device_data, cursor, count))
    streaming.close()


def test_batches_are_read_once_and_ahead():
    read, done = [], threading.Semaphore(0)

    def reader(indices):
        read.append(tuple(indices))
        done.release()
        return {"x": indices[:, None].astype(np.float32)}

    source = stream.from_reader(reader, 12, 4, ahead=2)
    source.host_batches(0, 1)
    for _ in range(3):
        assert done.acquire(timeout=10)
    assert len(read) == 3  # batch 0, and batches 1 and 2 before they are asked for
    source.host_batches(1, 2)
    source.close()
    assert len(set(read)) == len(read)


def test_an_error_while_reading_reaches_the_caller():
    def reader(indices):
        raise DataError("the disk is gone")

    source = stream.from_reader(reader, 12, 4)
    with pytest.raises(DataError, match="the disk is gone"):
        source.host_batches(0, 1)
    source.close()


class Counting:
    """An iterator of batches with grain's two methods; its state is a number, as JSON or as bytes."""

    def __init__(self, kind):
        self.number, self.kind = 0, kind

    def __next__(self):
        self.number += 1
        return {"x": np.full((2, 1), self.number, np.float32)}

    def __iter__(self):
        return self

    def get_state(self):
        return json.dumps(self.number).encode() if self.kind == "bytes" else {"number": self.number}

    def set_state(self, state):
        self.number = json.loads(state) if self.kind == "bytes" else state["number"]


def numbers(host_batch):
    return host_batch["x"][:, 0, 0].tolist()


def test_what_is_no_iterator_is_refused_at_once():
    for given in (lambda: iter([]), [{"x": np.zeros((2, 3))}]):
        with pytest.raises(DataError, match=r"takes an iterator, got (function|list): give iter"):
            stream.from_iterator(given, batch_size=2)


@pytest.mark.parametrize("kind", ["bytes", "json"])
def test_an_iterator_goes_on_from_its_state(kind):
    source = stream.from_iterator(Counting(kind), batch_size=2)
    assert numbers(source.host_batches(0, 3)) == [1, 2, 3]
    saved = source.state()
    assert numbers(source.host_batches(3, 2)) == [4, 5]
    resumed = stream.from_iterator(Counting(kind), batch_size=2)
    resumed.restore(saved)
    assert numbers(resumed.host_batches(3, 2)) == [4, 5]


def test_a_state_saved_by_a_loop_that_reads_ahead_still_resumes():
    """The loop has asked for batches 3 and 4 when it saves after training on batch 2."""
    source = stream.from_iterator(Counting("json"), batch_size=2)
    source.host_batches(0, 3)
    source.host_batches(3, 2)
    resumed = stream.from_iterator(Counting("json"), batch_size=2)
    resumed.restore(source.state())
    assert numbers(resumed.host_batches(3, 2)) == [4, 5]
    assert numbers(resumed.host_batches(7, 1)) == [8]
    assert numbers(resumed.host_batches(4, 1)) == [5]


class Reusing:
    """An iterator that fills one array again and again, and hands out the object in which it counts."""

    def __init__(self):
        self.state, self.x = {"number": 0}, np.zeros((2, 1), np.float32)

    def __next__(self):
        self.state["number"] += 1
        self.x[:] = self.state["number"]
        return {"x": self.x}

    def __iter__(self):
        return self

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state


def test_an_iterator_may_reuse_its_arrays_and_its_state():
    source = stream.from_iterator(Reusing(), batch_size=2)
    assert numbers(source.host_batches(0, 3)) == [1, 2, 3]
    assert numbers(source.host_batches(3, 2)) == [4, 5]
    resumed = stream.from_iterator(Reusing(), batch_size=2)
    resumed.restore(source.state())
    assert numbers(resumed.host_batches(3, 2)) == [4, 5]
    assert numbers(resumed.host_batches(4, 1)) == [5]


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.zeros((2, 1), np.uint8)},
        {"x": np.zeros((2, 2), np.float32)},
        {"x": np.zeros((2, 1), np.float32), "y": np.zeros(2, np.int32)},
    ],
)
def test_batches_of_other_kinds_are_not_mixed(other):
    """uint8 beside float32 would be promoted, and levels of [0, 255] taken for numbers of [-1, 1]."""
    source = stream.from_iterator(iter([{"x": np.zeros((2, 1), np.float32)}, other]), batch_size=2)
    with pytest.raises(DataError, match=r"x float32\[2, 1\] and x "):
        source.host_batches(0, 2)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda s: s.host_batches(0, 3), "ended after 2 batches"),
        (lambda s: (s.host_batches(0, 2), s.host_batches(0, 1)), "stands at batch 2 and cannot go back to 0"),
    ],
)
def test_an_iterator_that_cannot_go_on_says_so(act, said):
    plain = stream.from_iterator(iter([{"x": np.zeros((2, 1))}] * 2), batch_size=2)
    assert plain.state is None
    with pytest.raises(DataError, match=said):
        act(plain)


def test_other_mistakes_of_streams():
    with pytest.raises(DataError, match="gave a batch of 3, expected 2"):
        stream.from_iterator(iter([{"x": np.zeros((3, 1))}]), batch_size=2).host_batches(0, 1)
    with pytest.raises(DataError, match="cannot be read"):
        stream.from_iterator(Counting("json"), batch_size=2).restore(b"{")
    with pytest.raises(DataError, match="larger than the data set"):
        stream.from_reader(stream.array_reader(data(3)), 3, 4)
    with pytest.raises(DataError, match="1 or more workers"):
        stream.from_reader(stream.array_reader(data()), 23, 4, workers=0)


def test_grain_resumes_where_it_stopped():
    grain = pytest.importorskip("grain")

    def iterator():
        examples = [{"x": np.full(3, k, np.float32)} for k in range(20)]
        return iter(grain.MapDataset.source(examples).shuffle(seed=1).repeat().to_iter_dataset().batch(4))

    whole = stream.from_iterator(iterator(), batch_size=4).host_batches(0, 12)["x"]
    first = stream.from_iterator(iterator(), batch_size=4)
    np.testing.assert_array_equal(first.host_batches(0, 7)["x"], whole[:7])
    resumed = stream.from_iterator(iterator(), batch_size=4)
    resumed.restore(first.state())
    np.testing.assert_array_equal(resumed.host_batches(7, 5)["x"], whole[7:])


@pytest.fixture
def folder(tmp_path):
    for k in range(12):
        path = tmp_path / "images" / str(k % 2) / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), k, np.uint8)).save(path)
    return tmp_path / "images"


def test_sets_above_the_limit_stream_and_give_the_same_batches(folder, tmp_path):
    np.save(tmp_path / "some.npy", data()["x"])
    for spec, size in ((str(folder), 8), (str(tmp_path / "some.npy"), None)):
        device_data = open_source(spec, 4, seed=1, size=size, value_range="standard")
        streaming = open_source(spec, 4, seed=1, size=size, value_range="standard", resident_limit=100)
        assert jax.tree.leaves(streaming.device_data) == []
        assert streaming.size == device_data.size
        assert_same(batches(streaming, 2, 3), batches(device_data, 2, 3))
        streaming.close()
    with pytest.raises(DataError, match="where 8 x 8 is asked for"):
        open_source(str(tmp_path / "some.npy"), 4, size=8, resident_limit=100)


@pytest.mark.full
def test_augmentation_is_a_function_of_the_batch_number_and_keeps_pairs_aligned():
    x = data(16)["x"]
    source = augmented(from_arrays({"x": x, "condition": x}, 8), "flip", "crop", seed=4)
    plain = from_arrays({"x": x, "condition": x}, 8)
    together = batches(source, 3, 2)
    np.testing.assert_array_equal(together[1]["x"], batches(source, 4, 1)[0]["x"])
    np.testing.assert_array_equal(together[0]["x"], together[0]["condition"])
    before = batches(plain, 3, 2)
    assert not np.array_equal(together[0]["x"], before[0]["x"])
    flipped = augmented(plain, "flip")
    for changed, original in zip(batches(flipped, 0, 1)[0]["x"], batches(plain, 0, 1)[0]["x"], strict=True):
        assert np.array_equal(changed, original) or np.array_equal(changed, original[:, ::-1])


def test_pairs_of_two_sizes_are_flipped_alike_and_not_shifted():
    """Images that are black left and white right: a flipped one is white left in both of a pair."""
    x = np.zeros((64, 8, 8, 1), np.uint8)
    x[:, :, 4:] = 255
    plain = from_arrays({"x": x, "condition": x[:, ::2, ::2]}, 64)
    (changed,) = batches(augmented(plain, "flip"), 0, 1)
    np.testing.assert_array_equal(changed["x"][:, ::2, ::2], changed["condition"])
    assert 16 < (changed["x"][:, 0, 0, 0] > 0).sum() < 48  # 32 of 64 on average, with a deviation of 4
    for name in ("crop", "translation"):
        with pytest.raises(DataError, match=rf"x is 8 x 8 and its condition 4 x 4: .* got {name}\."):
            batches(augmented(plain, "flip", name), 0, 1)
    with pytest.raises(DataError, match="got an Augment"):
        batches(augmented(plain, Augment(0, lambda u, x: -x)), 0, 1)


@pytest.mark.full
def test_a_replica_augments_its_share_as_the_whole_would():
    """Under pmap a replica sees a slice of everything that was fed: of indices and of numbers alike."""
    source = augmented(from_arrays(data(16), 8), "flip", "translation")
    host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(2, 1))
    assert {leaf.shape for leaf in jax.tree.leaves(host_batch)} == {(8,)}
    whole = source.get_batch(source.device_data, host_batch)
    share = source.get_batch(source.device_data, jax.tree.map(lambda leaf: leaf[4:], host_batch))
    np.testing.assert_array_equal(share["x"], whole["x"][4:])


def test_labelled_images_are_augmented_on_their_own():
    own = {"x": data(8)["x"], "y": np.arange(8)}
    plain = from_arrays(data(), 8, labelled=own)
    changed = batches(augmented(plain, Augment(0, lambda u, x: -x)), 0, 1)[0]
    (before,) = batches(plain, 0, 1)
    np.testing.assert_array_equal(changed["labelled"]["x"], -before["labelled"]["x"])
    np.testing.assert_array_equal(changed["labelled"]["y"], before["labelled"]["y"])
    with pytest.raises(DataError, match=r"got \['rotate'\]"):
        augmented(plain, "rotate")
