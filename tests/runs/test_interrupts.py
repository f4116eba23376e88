"""Signals, terminals that go away, and what names and files may send to one."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gan_jax.runs import terminal
from gan_jax.runs.interrupts import SIGNALS, Interrupt
from gan_jax.runs.progress import progress


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_acknowledged_at_once_while_one_long_call_runs(number):
    """As in an evaluation, no handler of Python's runs before the call has returned."""
    lines, at = [], []

    def acknowledge(text):
        lines.append(text)
        at.append(time.monotonic())

    outer = signal.signal(number, signal.default_int_handler)  # nohup has tests ignore SIGHUP
    try:
        with Interrupt(acknowledge).handling_signals() as interrupt:
            threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", 4_000_000)
            returned = time.monotonic()
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, outer)
    assert interrupt.by == number.name
    assert lines[0].startswith(f"{number.name}: stopping after this dispatch")
    assert at[0] < returned


def test_a_hang_up_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt().handling_signals() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
        assert interrupt.by is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_no_signal_is_handled_outside_the_main_thread():
    found = []

    def inside():
        with Interrupt().handling_signals() as interrupt:
            found.append(interrupt.by)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [None]


@pytest.mark.full
def test_a_closed_pipe_ends_nothing():
    """Neither the lines nor the interpreter's own flush at its end."""
    code = (
        "import sys, time; from gan_jax.runs.terminal import tell\n"
        "tell('first'); sys.stdin.readline()\n"
        "for _ in range(3): tell('more'); tell('more', sys.stderr)\n"
        "sys.exit(7)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.wait(timeout=60) == 7


HOSTILE = "runs/\x1b]0;owned\x07\x1b[2J\rfine\x9b31m\u202egnp\u2066\udcff"


def test_nothing_that_controls_a_terminal_reaches_it():
    shown = terminal.clean(HOSTILE)
    assert all(character.isprintable() for character in shown)
    assert shown.startswith(r"runs/\x1b]0;owned\x07\x1b[2J\x0dfine\x9b31m\u202egnp")
    assert terminal.clean("Zoë, 图像\n\t|") == "Zoë, 图像\n\t|"
    ascii_stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    terminal.tell(HOSTILE + "é", ascii_stream)
    assert ascii_stream.buffer.getvalue().decode("ascii") == shown + "\\xe9\n"
    stream = io.StringIO()
    progress(10, stream=stream).note(HOSTILE)
    assert stream.getvalue() == shown + "\n"


@pytest.mark.full
def test_warnings_log_messages_and_tracebacks_are_cleaned_too():
    code = (
        "import logging, warnings; from gan_jax.runs import terminal; terminal.guard()\n"
        "logging.getLogger('x').warning('skipped %s', 'c\\x1b[2J'); warnings.warn('a\\x1b[2J')\n"
        "raise RuntimeError('b\\x1b[2J')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert r"warning: a\x1b[2J" in done.stderr.splitlines()
    assert r"skipped c\x1b[2J" in done.stderr
    assert r"RuntimeError: b\x1b[2J" in done.stderr
