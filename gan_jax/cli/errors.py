"""Every mistake of a user in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator

from gan_jax.cli import program
from gan_jax.data.errors import DataError, DataTimeoutError
from gan_jax.runs.files import reason
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import WorkdirError
from gan_jax.training.experiment import ExperimentError, closest

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM)

_OF_OBJECT_STORES = ("gcsfs", "google", "aiohttp")
"""Packages whose errors are of an object store: no `OSError`, most of them."""


class UsageError(ValueError):
    """A command that cannot be carried out; the message is one line that says what to do."""


def user_errors() -> tuple[type[BaseException], ...]:
    """What a user can cause, each with a message for the user; anything else is a bug and keeps its traceback."""
    from absl import flags

    from gan_jax.distributed.hosts import HostsError
    from gan_jax.distributed.mesh import LayoutError
    from gan_jax.runs.checkpoint import CheckpointError
    from gan_jax.runs.finite import NonFiniteError
    from gan_jax.runs.writer import WriterError

    return (
        HostsError,
        flags.Error,
        UsageError,
        ExperimentError,
        DataError,
        WorkdirError,
        CheckpointError,
        LayoutError,
        NonFiniteError,
        WriterError,
    )


def explain(error: BaseException) -> str:
    """An error in one line for the user.

    >>> explain(UsageError("one\\nof  two"))
    'one of two'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    unknown = re.match(r"Unknown command line flag '(.+?)'", text)
    if unknown:
        from absl import flags

        name = unknown[1]
        return f"unknown flag --{name}{closest(name, list(flags.FLAGS))}; see {' '.join(program.command())} --help."
    return text


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Makes usage errors of what a user causes, and other libraries report as their own.

    Raises:
      UsageError: if JAX has no such device here, a path begins with the home of somebody unknown, a disk is full
        or may not be written, or an object store refuses.
    """
    try:
        yield
    except user_errors():
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_DISKS:
            where = (
                f"{error.filename} cannot be opened or written"
                if error.filename
                else "a file cannot be written"
            )
            raise UsageError(f"{where}: {reason(error)}.") from error
        if type(error).__module__.partition(".")[0] in _OF_OBJECT_STORES:
            raise UsageError(f"the object store refuses, or cannot be reached: {reason(error)}.") from error
        if "Could not determine home directory" in str(error):
            raise UsageError("a path begins with ~ and a user that this machine does not know.") from error
        if missing := _missing_device():
            raise UsageError(missing) from error
        raise


def _missing_device() -> str:
    """Why JAX cannot begin here, or nothing; it reports a device that it lacks in many ways, asserts among them."""
    import jax

    try:
        jax.devices()
    except Exception as error:
        asked = os.environ.get("JAX_PLATFORMS")
        what = f"JAX_PLATFORMS={asked} asks for a device that" if asked else "the device"
        why = " ".join(str(error).split())[:200]
        return (
            f"{what} JAX does not find here{f' ({why})' if why else ''}: unset the variable, or install JAX for "
            "that device (see BUILD.md)."
        )
    return ""


def fail(error: BaseException) -> None:
    """Prints the error's line to stderr and exits with 2."""
    tell(f"{program.name()}: {explain(error)}", sys.stderr)
    if isinstance(error, DataTimeoutError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)  # an orderly end would wait for the thread that hangs
    sys.exit(2)
