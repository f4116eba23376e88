import io
import json
import os
import struct
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from PIL import Image

from gan_jax.pictures import figure, image_grid, scatter, to_array
from gan_jax.runs import events as event_files
from gan_jax.runs import files
from gan_jax.runs import writer as module
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.workdir import Workdir
from gan_jax.runs.writer import Writer, WriterError


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "run")


def strict(line):
    """JSON as the standard has it: without NaN and Infinity."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def long_log(workdir, until, monkeypatch, killed_at=(), every=5):
    """Logs rounds up to `until`; killed at some, it goes on from the checkpoint before, of every fifth round."""
    monkeypatch.setattr(module, "MOST_LINES", 40)
    step = 0
    for end in (*killed_at, until):
        begin = None if step == 0 else step - step % every
        with Writer(workdir, resumed_from=begin, tensorboard=False) as writer:
            for step in range((begin or 0) + 1, end + 1):
                writer.scalars(step, {"loss": step / 2})
    return [line["step"] for line in read_metrics(workdir)]


def test_a_long_log_is_thinned_where_it_is_old(workdir, tmp_path, monkeypatch):
    """At 40 lines every second of the first 20 goes; a log of kills is thinned as one without."""
    assert long_log(workdir, 39, monkeypatch) == list(range(1, 40))
    alone = Workdir(tmp_path / "alone")
    assert long_log(alone, 45, monkeypatch) == [*range(1, 20, 2), *range(21, 46)]
    bounded = long_log(Workdir(tmp_path / "long"), 1000, monkeypatch)
    assert len(bounded) < 40
    assert bounded[0] == 1
    assert bounded[-20:] == list(range(981, 1001))
    killed = Workdir(tmp_path / "killed")
    assert long_log(killed, 1000, monkeypatch, killed_at=(7, 38, 41, 44, 52, 61, 503, 999)) == bounded


def test_event_files_are_followed_by_others_and_the_oldest_go(workdir, monkeypatch):
    monkeypatch.setattr(event_files, "FILE_BYTES", 1000)
    monkeypatch.setattr(event_files, "ALL_BYTES", 5000)
    workdir.events.mkdir(parents=True)
    (workdir.events / "notes.txt").write_text("mine" * 5000)
    with Writer(workdir) as writer:
        for step in range(400):
            writer.scalars(step, {"loss": float(step)})
    found = sorted(path for path in workdir.events.iterdir() if path.name != "notes.txt")
    assert (workdir.events / "notes.txt").exists()
    assert 2 < len(found) <= 6
    assert sum(path.stat().length for path in found) <= 5000 + 100
    last = found[-1].read_bytes()
    assert b"brain.Event:2" in last[:60], "each file can be read by itself"


# ---------------------------------------------------------------------------------------------------------
# The log


def test_scalars_are_appended_in_order(workdir):
    with Writer(workdir, tensorboard=False) as writer:
        for step in range(200):
            writer.scalars(step, {"loss": jnp.float32(step) / 4, "norms": jnp.ones(2)})
    records = [strict(line) for line in workdir.metrics.read_text().splitlines()]
    assert [(r["step"], r["loss"], r["norms"]) for r in records] == [(s, s / 4, [1, 1]) for s in range(200)]
    times = [r["time"] for r in records]
    assert times == sorted(times)
    assert not workdir.events.exists()


def test_a_resumed_log_equals_an_uninterrupted_one(workdir, tmp_path):
    def without_time(path):
        return [{**strict(line), "time": 0} for line in path.read_text().splitlines()]

    whole = Workdir(tmp_path / "whole")
    with Writer(whole, tensorboard=False) as writer:
        for step in (10, 20, 30, 40):
            writer.scalars(step, {"loss": step})
    with Writer(workdir, tensorboard=False) as writer:
        for step in (10, 20, 30):
            writer.scalars(step, {"loss": step})
    with open(workdir.metrics, "ab") as file:
        file.write(b'{"step": 40, "ti')  # the kill
    with Writer(workdir, resumed_from=20, tensorboard=False) as writer:
        for step in (30, 40):
            writer.scalars(step, {"loss": step})
    assert without_time(workdir.metrics) == without_time(whole.metrics)
    with Writer(workdir, tensorboard=False) as writer:  # from the beginning
        writer.scalars(0, {"loss": 0})
    assert [record["step"] for record in read_metrics(workdir)] == [0]


def test_flush_means_that_it_is_in_the_file(workdir):
    with Writer(workdir) as writer:
        for step in range(20):
            writer.scalars(step, {"loss": step})
            writer.flush()
            assert len(workdir.metrics.read_bytes().splitlines()) == step + 1


def test_reserved_names_and_file_names_are_checked_at_the_call(workdir):
    with Writer(workdir, tensorboard=False) as writer:
        with pytest.raises(ValueError, match="'step'"):
            writer.scalars(0, {"step": 1})
        for name in ("", "../up", "a/b", ".hidden"):
            with pytest.raises(ValueError, match="plain file name"):
                writer.picture(0, name, np.zeros((1, 1, 1), np.uint8))


def test_storage_that_cannot_append_is_written_whole(workdir, monkeypatch):
    workdir.root.mkdir(parents=True)
    workdir.metrics.write_text('{"step": 1, "loss": 1}\n')
    monkeypatch.setattr(files, "is_local", lambda path: False)
    with Writer(workdir, resumed_from=1) as writer:
        writer.scalars(2, {"loss": 2})
        assert len(read_metrics(workdir)) == 1
        writer.flush()
        assert len(read_metrics(workdir)) == 2
        writer.scalars(3, {"loss": 3})
    assert [record["loss"] for record in read_metrics(workdir)] == [1, 2, 3]
    (path,) = workdir.events.iterdir()
    assert [event.step for event in events(path)] == [2, 2, 2, 3]


# ---------------------------------------------------------------------------------------------------------
# Errors and load


def test_an_error_of_the_thread_is_raised_by_the_next_call_and_once(workdir):
    def broken():
        raise OSError(28, "No space left on device")

    writer = Writer(workdir, tensorboard=False)
    writer.picture(1, "samples", broken)
    with pytest.raises(WriterError, match=r"Cannot write .*samples: the disk is full") as raised:
        writer.flush()
    assert isinstance(raised.value.__cause__, OSError)
    writer.scalars(2, {"loss": 1.0})
    writer.close()
    assert [record["step"] for record in read_metrics(workdir)] == [2]
    writer.close()
    with pytest.raises(WriterError, match="closed"):
        writer.scalars(3, {})


def test_a_full_disk_leaves_no_half_line(workdir, monkeypatch):
    writer = Writer(workdir, tensorboard=False)
    writer.scalars(1, {"loss": 1.0})
    writer.flush()
    real = os.write

    def short(descriptor, data):
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return real(descriptor, bytes(data)[:20])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        writer.scalars(2, {"loss": 2.0})
        with pytest.raises(WriterError, match=r"metrics\.jsonl: the disk is full"):
            writer.flush()
    writer.scalars(3, {"loss": 3.0})
    writer.close()
    assert [strict(line)["step"] for line in workdir.metrics.read_text().splitlines()] == [1, 3]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_the_systems_own_full_disk(workdir, monkeypatch):
    monkeypatch.setattr(Workdir, "metrics", property(lambda self: epath.Path("/dev/full")))
    monkeypatch.setattr(module, "truncate_metrics", lambda *_: 0)
    monkeypatch.setattr(module, "count_lines", lambda *_: 0)
    monkeypatch.setattr(os, "ftruncate", lambda *_: None)
    writer = Writer(workdir, tensorboard=False)
    writer.scalars(1, {"loss": 1.0})
    with pytest.raises(WriterError, match="/dev/full: the disk is full"):
        writer.close()


def test_the_queue_is_bounded(workdir):
    go, started = threading.Event(), threading.Event()

    def slow():
        started.set()
        go.wait(30)
        return np.zeros((1, 1, 1), np.uint8)

    writer = Writer(workdir, tensorboard=False)
    writer.picture(0, "slow", slow)
    started.wait(30)
    filler = threading.Thread(target=lambda: [writer.scalars(s, {"x": s}) for s in range(module._QUEUE + 5)])
    filler.start()
    filler.join(0.2)
    assert filler.is_alive()  # waits for room
    go.set()
    filler.join(30)
    writer.close()
    assert len(read_metrics(workdir)) == module._QUEUE + 5


def test_a_disabled_writer_touches_nothing(workdir):
    with Writer(workdir, enabled=False) as writer:
        writer.scalars(1, {"loss": 1.0})
        writer.picture(1, "samples", np.zeros((1, 1, 1), np.uint8))
        writer.flush()
    assert not workdir.root.exists()


def test_an_error_under_way_is_not_hidden_by_the_writers(workdir):
    def run():
        with Writer(workdir, tensorboard=False) as writer:
            writer.picture(0, "samples", np.zeros(3))
            raise KeyError("the run's own")

    with pytest.raises(KeyError):
        run()


# ---------------------------------------------------------------------------------------------------------
# Pictures and events


def test_a_png_has_the_right_pixels(workdir):
    images = np.linspace(-1, 1, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    with Writer(workdir, tensorboard=False) as writer:
        writer.picture(7, "samples", lambda: image_grid(jnp.asarray(images), 2, gap=1))
        writer.picture(8, "gray", image_grid(images[..., :1], 1, gap=0))
    color = np.asarray(Image.open(workdir.samples / "samples_00000007.png"))
    assert color.shape == (4, 9, 3)
    expected = np.rint((images + 1) * 127.5)
    np.testing.assert_allclose(color[:, :4], expected[0], atol=0.51)
    np.testing.assert_allclose(color[:, 5:], expected[1], atol=0.51)
    assert (color[:, 4] == 255).all()
    with Image.open(workdir.samples / "gray_00000008.png") as gray:
        assert (gray.mode, gray.size) == ("L", (4, 8))


def test_a_chart_is_drawn_on_the_writers_thread(workdir):
    with Writer(workdir, tensorboard=False) as writer:
        writer.picture(3, "samples", lambda: to_array(figure(scatter([[0.0, 0.0]]), width=2.0)))
    with Image.open(workdir.samples / "samples_00000003.png") as chart:
        assert chart.size == (300, 450)


def test_the_newest_pictures_of_each_name_stay(workdir):
    """By round, beyond eight digits too; other names and what somebody sampled are not touched."""
    picture = np.zeros((2, 2, 1), np.uint8)
    workdir.samples.mkdir(parents=True)
    others = [
        "sampled_00000001.png",
        "samples_seed_1_00000001.png",
        "samples_00000001.npz",
        "samples_notes.png",
    ]
    for name in others:
        (workdir.samples / name).touch()
    with Writer(workdir, tensorboard=False, keep_pictures=2) as writer:
        for step in (99_999_999, 5, 100_000_000, 100_000_010):
            writer.picture(step, "samples", picture)
    names = {path.name for path in workdir.samples.iterdir()}
    assert names == {*others, "samples_100000000.png", "samples_100000010.png"}


def _crc32c(data):
    """CRC-32C bit by bit, from its polynomial (RFC 3720)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = _crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
    """An event file's records, their framing checked by hand."""
    from tensorboardX.proto.event_pb2 import Event

    assert _crc32c(b"123456789") == 0xE3069283
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12]) == (masked(data[:8]),)
        body = data[12 : 12 + length]
        assert struct.unpack("<I", data[12 + length : 16 + length]) == (masked(body),)
        found.append(Event.FromString(body))
        data = data[16 + length :]
    return found


def test_a_histogram_is_one_in_tensorboard_and_a_list_in_json(workdir):
    """A quarter of the values in (0, 1], three quarters in (1, 3]: a mean of about .125 + 1.5."""
    with Writer(workdir) as writer:
        writer.scalars(5, {"critic/score_histogram": jnp.array([[0.0, 1.0, 3.0], [0.0, 0.25, 0.75]])})
    (record,) = read_metrics(workdir)
    assert record["critic/score_histogram"] == [[0.0, 1.0, 3.0], [0.0, 0.25, 0.75]]
    (value,) = [v for event in events(next(workdir.events.iterdir())) for v in event.summary.value]
    assert (value.tag, list(value.histo.bucket_limit)) == ("critic/score_histogram", [0.0, 1.0, 3.0])
    assert list(value.histo.bucket) == [0.0, 0.25, 0.75]
    assert (value.histo.num, value.histo.sum) == (1.0, 0.25 * 0.5 + 0.75 * 2)


def test_a_launch_whose_clock_has_gone_back_comes_after_those_before_it(workdir, monkeypatch):
    """TensorBoard reads files by name: an earlier name would have the old launch hide what the new one has written,
    and the newest file be deleted first."""
    for step, now in ((0, 2e9), (10, 1.9e9), (20, 1.9e9)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        with Writer(workdir, resumed_from=step) as writer:
            writer.scalars(step + 1, {"loss": 0.5})
    names = sorted(path.name for path in workdir.events.iterdir())
    assert [events(workdir.events / name)[0].step for name in names] == [1, 11, 21]


def test_tensorboard_reads_scalars_and_pictures(workdir):
    grid = image_grid(np.zeros((4, 2, 2, 3)))
    with Writer(workdir, resumed_from=40) as writer:
        writer.scalars(50, {"critic/loss": 0.25, "norms": np.array([1.0, 2.0]), "word": "text"})
        writer.picture(50, "samples", grid)
    (path,) = workdir.events.iterdir()
    assert "tfevents" in path.name
    first, started, scalars, picture = events(path)
    assert first.file_version == "brain.Event:2"
    assert (started.session_log.status, started.step) == (1, 41)  # START: rounds from 41 are played again
    values = {value.tag: value.simple_value for value in scalars.summary.value}
    assert (scalars.step, values) == (50, {"critic/loss": 0.25, "norms/0": 1.0, "norms/1": 2.0})
    image = picture.summary.value[0].image
    assert (image.height, image.width, image.colorspace) == (5, 5, 3)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), grid)
