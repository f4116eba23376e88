"""Memory goes back to the system around a compilation, and not at other times."""

import ctypes
import gc
import subprocess
import sys
import weakref

import jax
import jax.numpy as jnp
import pytest

from gan_jax.memory import COLLECT_AFTER, COMPILED, LOWERED, collect_garbage_less_often, trim_after_compiling

GLIBC = hasattr(ctypes.CDLL(None), "malloc_trim")
FREED = """
import ctypes
import pathlib
import jax
from gan_jax.memory import COMPILED, trim_after_compiling

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
blocks = [libc.malloc(100_000) for _ in range(1000)]  # below the size that is mapped: the heap grows by 95 MiB
for block in blocks:
    ctypes.memset(block, 1, 100_000)
top = libc.malloc(100_000)  # holds the heap's end
before = resident()
for block in blocks:
    libc.free(ctypes.c_void_p(block))
kept = resident()
trim_after_compiling()
jax.monitoring.record_event_duration_secs(COMPILED, 0.001)
short = resident()
jax.monitoring.record_event_duration_secs(COMPILED, 1.0)
print(before - kept, kept - short, short - resident())
"""


class Held:
    """Something that a reference cycle can hold."""


def test_the_events_are_jaxs_own():
    """A compilation reports the events that collecting and trimming wait for, in this order."""
    x, events = jnp.ones(3), []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: events.append(event))
    jax.jit(lambda x: jnp.sin(x) * 1.234567)(x).block_until_ready()
    assert [event for event in events if event in (LOWERED, COMPILED)] == [LOWERED, COMPILED]


@pytest.mark.skipif(not GLIBC, reason="this C library has no malloc_trim")
def test_garbage_is_collected_before_a_large_program_is_compiled(monkeypatch):
    """What only a reference cycle holds is there until then."""
    listeners = []
    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", listeners.append)
    trim_after_compiling.cache_clear()
    trim_after_compiling()
    trim_after_compiling.cache_clear()
    (heard,) = listeners
    gc.disable()
    try:
        held = Held()
        held.itself = held
        seen = weakref.ref(held)
        del held
        heard(LOWERED, 0.05, fun_name="small")
        heard(COMPILED, 9.0)
        assert seen() is not None
        heard(LOWERED, 1.0, fun_name="large")
        assert seen() is None
    finally:
        gc.enable()


def test_it_listens_once(monkeypatch):
    """A second call adds no second listener."""
    added = []
    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", added.append)
    trim_after_compiling.cache_clear()
    assert trim_after_compiling() == trim_after_compiling() == GLIBC
    assert len(added) == GLIBC
    trim_after_compiling.cache_clear()


@pytest.mark.skipif(not GLIBC, reason="this C library has no malloc_trim")
def test_freed_blocks_leave_the_process():
    """95 MiB of freed blocks below the heap's end stay until a program was compiled that took its time."""
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    freed, short, trimmed = map(float, done.stdout.split())
    assert abs(freed) < 5
    assert abs(short) < 5
    assert 80 < trimmed < 110


def test_what_is_imported_is_left_out_of_collections():
    """What is made afterwards is collected as before."""
    before = gc.get_threshold()
    try:
        collect_garbage_less_often()
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[0] == COLLECT_AFTER
        held = Held()
        held.itself = held
        seen = weakref.ref(held)
        del held
        gc.collect()
        assert seen() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
