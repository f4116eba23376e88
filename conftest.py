"""Every test runs on CPU with eight simulated devices and the persistent compilation cache."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    ).strip()
_ROOT = pathlib.Path(__file__).resolve().parent
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import gc  # noqa: E402

import jax  # noqa: E402  the flags are read when it is imported
import pytest  # noqa: E402
from jax._src.interpreters import mlir  # noqa: E402  see `_one_context`
from jaxlib.mlir import ir  # noqa: E402

_OPTIMISED = {"training", "distributed", "runs", "test_field.py", "test_memory_for_time.py", "test_play.py"}
_CHOSEN = "JAX_DISABLE_MOST_OPTIMIZATIONS" in os.environ


def _is_optimised(path):
    """Whether the programs of a file's tests are compiled as those of a user."""
    return _CHOSEN or not _OPTIMISED.isdisjoint(path.relative_to(_ROOT).parts)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Drops programs that are not optimised before a test whose programs are.

    JAX keeps a small one, as a draw of a shape, whatever the setting, and by it a run in this process would differ
    in the last bit from one in a process of its own.
    """
    if nextitem is not None and _is_optimised(nextitem.path) and not _is_optimised(item.path):
        jax.clear_caches()


@pytest.fixture(autouse=True)
def _quick_to_compile(request):
    """Programs are compiled unoptimised, in two thirds of the time, unless the environment says how.

    JAX_DISABLE_MOST_OPTIMIZATIONS=0 optimises all, as those of steps, rollouts, runs and devices always are.
    """
    if _is_optimised(request.path):
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def _one_context(monkeypatch):
    """A test's programs are lowered in one MLIR context, whose dialects JAX would else load for each.

    Loading them takes up to a fifth of the time of a test of many small programs. What is compiled while another
    program is lowered has a context of its own: in the same one it would become a part of the other. With a JAX
    that has no function of this name, programs are lowered as ever.
    """
    make = getattr(mlir, "make_ir_context", None)
    contexts = []

    def shared():
        if getattr(ir.Context, "current", None) is not None:
            return make()
        if not contexts:
            contexts.append(make())
        return contexts[0]

    if make is not None:
        monkeypatch.setattr(mlir, "make_ir_context", shared)


def pytest_collection_finish():
    """The tests themselves are no garbage, and what they allocate is searched for cycles a tenth as often."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
