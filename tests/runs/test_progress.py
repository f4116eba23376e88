import fcntl
import io
import os
import pty
import struct
import termios

import jax.numpy as jnp

from gan_jax.runs.progress import progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_progress_in_a_file_is_plain_lines():
    stream, clock = io.StringIO(), Clock()
    shown = progress(1000, start=100, stream=stream, clock=clock)
    for step in range(110, 1001, 10):
        clock.now += 0.5  # 20 rounds/s
        shown.update(step, {"critic": jnp.float32(0.69314), "generator": 1.25})
        if step == 500:
            shown.note("saved")
    shown.close()
    shown.close()
    text = stream.getvalue()
    assert text.isascii()
    assert not set(text) & {"\r", "\x1b"}
    assert text.splitlines() == [
        "300/1000 rounds (30%), 20 rounds/s, 0:35 left, critic 0.6931, generator 1.25",
        "500/1000 rounds (50%), 20 rounds/s, 0:25 left, critic 0.6931, generator 1.25",
        "saved",
        "700/1000 rounds (70%), 20 rounds/s, 0:15 left, critic 0.6931, generator 1.25",
        "900/1000 rounds (90%), 20 rounds/s, 0:05 left, critic 0.6931, generator 1.25",
        "1000/1000 rounds (100%), 20 rounds/s, 0:45 taken, critic 0.6931, generator 1.25",
    ]


def test_the_time_left_does_not_count_compilation():
    """30 s to compile, then 2 rounds a second; the last line has the time of all and the rate of the 99 others."""
    stream, clock = io.StringIO(), Clock()
    shown = progress(100, stream=stream, clock=clock)
    clock.now = 30.0
    shown.update(1)
    clock.now = 32.0
    shown.update(5)
    clock.now = 42.0
    shown.update(25)
    clock.now = 79.5
    shown.update(100)
    shown.close()
    assert stream.getvalue().splitlines() == [
        "1/100 rounds (1%), compiled in 0:30",
        "25/100 rounds (25%), 2 rounds/s, 0:37 left",
        "100/100 rounds (100%), 2 rounds/s, 0:00 left",
        "100/100 rounds (100%), 2 rounds/s, 1:19 taken",
    ]


def test_a_bar_does_not_count_compilation_either(monkeypatch):
    """tqdm reads its own clock: the first round after 30 s, 9 more in the next second."""
    monkeypatch.setenv("TERM", "xterm")
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])  # where it is imported already
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    clock = Clock()
    with os.fdopen(follower, "w") as stream:
        shown = progress(100, stream=stream, clock=clock)
        for step, seconds in ((1, 30.0), (10, 1.0), (19, 1.0)):
            now[0] += seconds
            clock.now += seconds
            shown.update(step)
        stream.flush()
        data = b""
        while b"19/100" not in data:
            data += os.read(leader, 1 << 16)
        shown.skip(10.0)  # an evaluation
        now[0] += 10.0
        clock.now += 10.0
        shown.close()
        stream.flush()
        while not data.endswith(b"\n"):
            data += os.read(leader, 1 << 16)
    os.close(leader)
    drawn = data.decode().split("\r")
    assert any("1/100 [00:30<?," in part for part in drawn), drawn
    assert any("10/100 [00:31<00:10,  9.00 rounds/s" in part for part in drawn), drawn
    assert any("19/100 [00:32<00:09,  9.00 rounds/s" in part for part in drawn), drawn
    last = drawn[-1].strip() or drawn[-2]
    assert "19/100 [00:32<" in last, drawn
    assert "9.00 rounds/s" in last, drawn


def test_a_long_run_does_not_fill_its_log():
    stream, clock = io.StringIO(), Clock()
    shown = progress(10**6, stream=stream, clock=clock)
    for hour in range(10):
        for second in range(3600):
            clock.now += 1
            shown.update(hour * 3600 + second)
    assert len(stream.getvalue().splitlines()) < 200


def test_losses_are_fetched_only_when_they_are_shown():
    class Loss:
        fetched = 0

        def __float__(self):
            Loss.fetched += 1
            return 0.5

    stream, clock = io.StringIO(), Clock()
    shown = progress(1000, stream=stream, clock=clock)
    for step in range(1000):
        clock.now += 0.0105
        shown.update(step, {"critic": Loss()})
    assert Loss.fetched == 1


def test_progress_on_a_terminal_is_one_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    clock = Clock()
    with os.fdopen(follower, "w") as stream:
        shown = progress(400, stream=stream, clock=clock)
        for step in range(100, 401, 100):
            clock.now += 1
            shown.update(step, {"critic": 0.69314})
            if step == 200:
                shown.note("a picture was drawn")
        shown.close()
        stream.flush()
        data = b""
        while b"400/400" not in data or not data.endswith(b"\n"):  # a terminal hands over what it has so far
            data += os.read(leader, 1 << 16)
    os.close(leader)
    text = data.decode()
    drawn = text.replace("\r\n", "\n").split("\r")
    assert any("50%" in part and "200/400" in part and "critic 0.6931" in part for part in drawn)
    assert "rounds/s" in drawn[-1]
    assert "400/400" in drawn[-1]
    assert drawn[-1].endswith("\n")
    assert text.count("a picture was drawn\r\n") == 1
    assert max(len(part.rstrip()) for part in drawn) <= 100


def test_a_closed_terminal_is_no_error():
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    clock = Clock()
    shown = progress(10, stream=Closed(), clock=clock)
    clock.now = 60.0
    shown.update(5)
    shown.note("text")
    shown.close()
    silent = progress(10, enabled=False)
    silent.update(3)
    silent.note("text")
    silent.close()
