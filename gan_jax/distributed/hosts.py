"""Several processes of one run: joining them, agreeing, and noticing that one is lost.

Every process runs the same program on its devices. Only process 0 writes logs and pictures, and it runs the service
through which the others find one another.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator

import jax
import numpy as np

from gan_jax.distributed.service import Store

HEARTBEAT_SECONDS = 45
"""After so long without a sign of life the runtime ends the other processes itself, with its own trace."""
_BEAT_SECONDS, _MISSED_BEATS = 4.0, 6
_ROLL_CALL_SECONDS = 8.0
# Where a job's launcher says how many processes it has started; a single process needs no service.
_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
_UNKNOWN_COUNTS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE")
"""Where launchers say so that JAX may not know: Open MPI from 5 on, MPICH and Intel MPI, torchrun."""
_KUBERNETES = "KUBERNETES_SERVICE_HOST"
_GIVE = "give --coordinator, --num_processes and --process_id, or --num_processes=1 if it trains by itself"
_LOST = re.compile(
    r"gloo|nccl|connection (closed|reset)|coordination|heartbeat|unavailable|peer", re.IGNORECASE
)


class HostsError(RuntimeError):
    """Processes that cannot go on with one another; the message is one line for the user."""


# ---------------------------------------------------------------------------------------------------------
# Joining


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    seconds: int = 300,
    *,
    by_itself: bool = False,
) -> bool:
    """Makes this process one of several, before JAX is used for anything else; a single process stays single.

    Without arguments the processes that Slurm, Open MPI, Kubernetes or a TPU pod has started find one another.

    Args:
      coordinator: `host:port` of process 0, reachable by all.
      num_processes: how many there are; 1 is a single process whatever the environment says.
      process_id: which of them this is, from 0.
      seconds: how long the others are waited for.
      by_itself: there is no harm in being one of several that do not find one another: nothing is trained.

    Returns:
      Whether this is one of several.

    Raises:
      HostsError: if some are given without the others, or not all processes come; or if this may be one of several
        that cannot find one another, each of which would train by itself.
    """
    given = (coordinator, num_processes, process_id)
    if num_processes == 1 and process_id in (None, 0):
        return False
    if any(value is not None for value in given):
        address, count, this = _check(coordinator, num_processes, process_id)
        if this == 0:
            _wait_for_others(address, count, seconds)
        else:
            _report_to_first(address, this, seconds)
    elif any(os.environ.get(name) == "1" for name in _COUNTS):
        return False
    # Its handler of SIGTERM would be in the way of the loop's.
    jax.config.update("jax_enable_preemption_service", False)
    alone = all(value is None for value in given)
    try:
        with warnings.catch_warnings():
            # JAX warns that Kubernetes' client is not installed, and goes on: that is refused below.
            warnings.filterwarnings("ignore", message="\\s*Kubernetes environment detected")
            jax.distributed.initialize(
                *given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS, initialization_timeout=seconds
            )
    except ValueError:
        if not alone:
            raise
        if not by_itself:
            _refuse_unknown_processes()
        return False  # no environment that JAX knows
    except Exception as error:
        if alone and "before any JAX" in str(error):
            return False  # JAX is already in use here: nobody has started this process as one of several
        if alone and by_itself and _KUBERNETES in os.environ:
            return False  # a pod that may not ask who the others are
        if alone:
            raise HostsError(
                f"The processes of this job could not find one another ({_first_line(error)}): {_GIVE}."
            ) from error
        if not isinstance(error, RuntimeError):
            raise
        raise HostsError(
            f"Process {process_id} could not join the others at {coordinator} ({_first_line(error)}): start all "
            f"{num_processes} within {seconds} s, with an address of process 0 that all can reach."
        ) from error
    if several():
        _Beats().start()
    return several()


def _check(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> tuple[str, int, int]:
    if coordinator is None or num_processes is None or process_id is None:
        raise HostsError(
            "Several processes need --coordinator=HOST:PORT, --num_processes and --process_id, all three (or none, "
            "under Slurm, Open MPI, Kubernetes or on a TPU pod)."
        )
    if not re.fullmatch(r".+:\d+", coordinator):
        raise HostsError(f"--coordinator is HOST:PORT of process 0, got {coordinator!r}.")
    if not 0 <= process_id < num_processes:
        raise HostsError(f"--process_id is 0 to {num_processes - 1}, got {process_id}.")
    return coordinator, num_processes, process_id


def _refuse_unknown_processes() -> None:
    """Checks that a process which JAX takes for a single one is not one of several.

    Raises:
      HostsError: if it may be: each would train by itself, all in one work directory.
    """
    if _KUBERNETES in os.environ:
        # Whether there are other pods is known to the cluster only: not every job numbers its pods.
        raise HostsError(
            "This is a pod of Kubernetes, maybe one of several, and the package that lets them find one another is "
            f"not installed: pip install kubernetes; or {_GIVE}."
        )
    for name in _UNKNOWN_COUNTS:
        if os.environ.get(name, "1") != "1":
            raise HostsError(
                f"{name}={os.environ[name]} says that this is one of several processes, and JAX cannot find the "
                f"others here: {_GIVE}."
            )


# Where a process never comes, JAX's runtime ends the others by an abort, so they meet here first. Process 0 is the
# only one to listen, on the port that JAX's service takes over once all have come.


def _wait_for_others(coordinator: str, count: int, seconds: float) -> None:
    """Process 0 waits until all others have come, and lets them go on.

    Raises:
      HostsError: naming who has not come.
    """
    port = int(coordinator.rpartition(":")[2])
    until = time.monotonic() + seconds
    come: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as held:
        try:
            listening = held.enter_context(socket.create_server(("", port), backlog=count))
        except (OSError, OverflowError) as error:
            raise HostsError(f"Process 0 cannot listen on port {port} ({error}): give another.") from error
        while missing := set(range(1, count)) - come.keys():
            if time.monotonic() > until:
                who = f"Process {min(missing)}" if len(missing) == 1 else f"Processes {sorted(missing)}"
                raise HostsError(
                    f"{who} of {count} did not join the others at {coordinator} within {seconds:g} s: start all "
                    f"{count}, with an address of process 0 that all can reach."
                )
            with contextlib.suppress(OSError):
                listening.settimeout(1.0)
                connection = held.enter_context(listening.accept()[0])
                connection.settimeout(1.0)
                greeting, _, number = connection.recv(64).partition(b" ")
                if greeting == _GREETING and number.isdigit():
                    come[int(number)] = connection
        for connection in come.values():
            with contextlib.suppress(OSError):
                connection.sendall(_GREETING)


def _report_to_first(coordinator: str, process_id: int, seconds: float) -> None:
    """Another process reports to process 0 that it has come, and waits for the rest.

    Raises:
      HostsError: if process 0 is not there, or not all have come.
    """
    host, _, port = coordinator.rpartition(":")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0) as connection:
                connection.sendall(_GREETING + b" %d" % process_id)
                connection.settimeout(until - time.monotonic() + _GRACE_SECONDS)
                if connection.recv(64) == _GREETING:
                    return
                break  # process 0 has given up
        except (OSError, OverflowError):
            time.sleep(0.2)
    raise HostsError(
        f"Process {process_id} could not join the others at {coordinator} within {seconds:g} s: start all of them, "
        "with an address of process 0 that all can reach."
    )


_GREETING = b"gan_jax"
_GRACE_SECONDS = 5.0
"""How much longer than process 0 the others wait, so that it is process 0 that names who is missing."""


def several() -> bool:
    """Whether this is one of several processes."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


# ---------------------------------------------------------------------------------------------------------
# Agreeing


def agree(*numbers: int) -> np.ndarray:
    """Every process's numbers, `[processes, numbers]`; all processes call this at the same point."""
    if not several():
        return np.asarray([numbers], np.int32)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(np.asarray(numbers, np.int32)))


@contextlib.contextmanager
def all_succeed() -> Iterator[None]:
    """The block has succeeded on every process before any of them goes on; all processes enter it.

    Raises:
      HostsError: on the other processes, if it has failed on one of them.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        if not several():
            raise
        failure = error
    failed = agree(failure is not None)[:, 0]
    if failure is not None:
        raise failure
    if failed.any():
        raise HostsError(f"Process {int(np.argmax(failed))} failed: see its message.")


# ---------------------------------------------------------------------------------------------------------
# Losing one


def explained(error: BaseException) -> BaseException:
    """The error, or a `HostsError` that names the process that is gone, where that is why a collective failed."""
    if isinstance(error, HostsError) or not several() or not _LOST.search(str(error)):
        return error
    return HostsError(
        f"{_named(_roll_call())} was lost, and the run cannot go on without it ({_first_line(error)}). Launch "
        "again on all hosts: it goes on from the last checkpoint."
    )


def leave(code: int) -> None:
    """Ends this process at once: an orderly end would wait for the others, which may never come."""
    sys.stdout.flush()
    sys.stderr.flush()
    if first():
        time.sleep(1.0)  # the service is here: the others shall say first what they have to say
    os._exit(code)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _named(missing: list[int]) -> str:
    if len(missing) == 1:
        return f"Process {missing[0]} of {jax.process_count()}"
    if missing:
        return f"One of the processes {missing} of {jax.process_count()}"
    return f"Another of the {jax.process_count()} processes"


def _roll_call() -> list[int]:
    """Who does not answer: every survivor of a failed collective comes here within a few seconds."""
    others = set(range(jax.process_count())) - {jax.process_index()}
    if len(others) == 1:
        return sorted(others)
    try:
        store = Store()
        store.set(f"gan_jax/here/{jax.process_index()}", "1")
        until = time.monotonic() + _ROLL_CALL_SECONDS
        while len(others) > 1 and time.monotonic() < until:
            others -= set(map(int, store.under("gan_jax/here/")))
            time.sleep(0.2)
    except Exception:  # the store is process 0's
        return [0]
    return sorted(others)


class Heartbeat:
    """Signs of life, by which the processes find out who hangs.

    Process 0 reads those of all others and publishes who has given none; the others read only what it publishes, so
    that a beat of N processes costs N writes and 2 N reads. The beats of this process are counted, not seconds: a
    machine that was suspended has lost nobody.

    Args:
      store: where they are left.
      process: which process this is.
      processes: how many there are.
    """

    def __init__(self, store: Store, process: int, processes: int):
        self._store, self._process = store, process
        others = range(1, processes) if process == 0 else (0,)
        self._missed, self._previous = dict.fromkeys(others, 0), dict[int, str]()
        self._count = 0

    def beat(self) -> list[int]:
        """Leaves a sign of life, and returns the processes that have given none for `_MISSED_BEATS` beats."""
        self._count += 1
        if self._process == 0:
            beats = {int(name): value for name, value in self._store.under("gan_jax/beat/").items()}
            lost = self._silent(beats)
            self._store.set("gan_jax/roll", f"{self._count} {' '.join(map(str, lost))}")
            return lost
        self._store.set(f"gan_jax/beat/{self._process}", str(self._count))
        number, _, lost_text = (self._store.get("gan_jax/roll") or "").partition(" ")
        return [int(process) for process in lost_text.split()] or self._silent({0: number})

    def _silent(self, beats: dict[int, str]) -> list[int]:
        for process in self._missed:
            moved = beats.get(process, "") != self._previous.get(process, "")
            self._missed[process] = 0 if moved else self._missed[process] + 1
        self._previous = beats
        return sorted(process for process, missed in self._missed.items() if missed >= _MISSED_BEATS)


class _Beats(threading.Thread):
    """Beats every few seconds, and ends this process with a line where another hangs."""

    def __init__(self) -> None:
        super().__init__(name="heartbeat", daemon=True)

    def run(self) -> None:
        heartbeat = Heartbeat(Store(), jax.process_index(), jax.process_count())
        while True:
            time.sleep(_BEAT_SECONDS)
            try:
                lost = heartbeat.beat()
            except Exception:  # process 0 is gone or at its end: the runtime knows what to do
                return
            if lost:
                seconds = round(_BEAT_SECONDS * _MISSED_BEATS)
                print(
                    f"{os.path.basename(sys.argv[0])}: {_named(lost)} gave no sign of life for {seconds} s, and "
                    "the run cannot go on without it. Launch again on all hosts: it goes on from the last "
                    "checkpoint.",
                    file=sys.stderr,
                )
                leave(1)
