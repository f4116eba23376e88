"""Every mistake of a user in one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from gan_jax.data.errors import DataError, DataTimeoutError
from gan_jax.runs.workdir import WorkdirError
from gan_jax.training.experiment import ExperimentError, closest


class UsageError(ValueError):
    """A command that cannot be carried out; the message is one line that says what to do."""


def user_errors() -> tuple[type[BaseException], ...]:
    """What a user can cause, each with a message for the user; anything else is a bug and keeps its traceback."""
    from absl import flags

    from gan_jax.distributed.hosts import HostsError
    from gan_jax.distributed.mesh import LayoutError
    from gan_jax.runs.checkpoint import CheckpointError
    from gan_jax.runs.finite import NonFiniteError

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
    )


def explain(error: BaseException, fields: Sequence[str] = ()) -> str:
    """An error in one line for the user.

    >>> explain(AttributeError("'objectiv'"), ["objective", "rounds"])
    "unknown field --config.objectiv (did you mean 'objective'?); the fields are objective, rounds."
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, AttributeError | KeyError) and fields:
        name = re.findall(r"[A-Za-z_]\w*", text)[0]
        known = ", ".join(sorted(fields))
        return f"unknown field --config.{name}{closest(name, fields)}; the fields are {known}."
    unknown = re.match(r"Unknown command line flag '(.+?)'", text)
    if unknown:
        from absl import flags

        name = unknown[1]
        return f"unknown flag --{name}{closest(name, list(flags.FLAGS))}; see python launch.py --help."
    return text


def fail(error: BaseException, fields: Sequence[str] = ()) -> None:
    """Prints the error's line to stderr and exits with 2."""
    print(f"launch.py: {explain(error, fields)}", file=sys.stderr)
    if isinstance(error, DataTimeoutError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)  # an orderly end would wait for the thread that hangs
    sys.exit(2)
