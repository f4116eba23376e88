"""What several processes that train, save and restore must agree on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from gan_jax import processes
from gan_jax.distributed import hosts
from gan_jax.runs.files import is_local, is_there, read_regular, reason
from gan_jax.runs.workdir import Workdir

_NAMED_IN_ERRORS = 3
_SHARED_SECONDS = 60.0
"""How long a network disk may take to show a file that another host has made."""


def refuse_others(described: Mapping[str, str]) -> None:
    """Checks that all processes are about to train the same; all of them call this at the same point.

    Otherwise each would compute its share of a gradient by its own formula and data, and nobody would notice.

    Args:
      described: what this process trains, by name: settings, digests of code and data, versions.

    Raises:
      HostsError: on every process, naming one that differs from process 0, and in what.
    """
    digest = hashlib.sha256(json.dumps(dict(described), sort_keys=True).encode()).digest()
    if len(set(processes.gather_bytes(digest))) == 1:
        return
    first, *others = processes.gather(dict(described))
    place, other = next((place, other) for place, other in enumerate(others, 1) if other != first)
    names = [name for name in sorted({*first, *other}) if first.get(name) != other.get(name)]
    shown = [
        f"{name} is {other.get(name, 'absent')} there and {first.get(name, 'absent')} on process 0"
        for name in names[:_NAMED_IN_ERRORS]
    ]
    more = f"; and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    raise hosts.HostsError(
        f"Process {place} would train something else than process 0: {'; '.join(shown)}{more}. Start all with the "
        "same command, code and data."
    )


def refuse_unshared(workdir: Workdir, seconds: float = _SHARED_SECONDS) -> None:
    """Checks that all processes see the work directory of process 0, which holds its lock; all of them call this.

    Otherwise each would write its part of a checkpoint where the others do not find it.

    Raises:
      HostsError: on the processes that do not see it, and on the others naming one of them.
    """
    if not hosts.several() or not is_local(workdir.root):
        return
    path = workdir.root / ".lock"

    def lock() -> bytes | None:
        return read_regular(path) if is_there(path) else None

    holder = processes.gather_bytes((lock() or b"") if hosts.first() else b"")[0]
    with hosts.all_succeed():
        until = time.monotonic() + seconds
        while not hosts.first() and (found := _answer(lock)) != holder:
            if time.monotonic() > until:
                there = found if isinstance(found, str) else "it is not there, or another"
                raise hosts.HostsError(
                    f"Process {jax.process_index()} does not see the work directory {workdir.root} of process 0 "
                    f"({there}): give a --workdir that all can reach, by the same path."
                )
            time.sleep(0.2)


def _answer(read: Callable[[], bytes | None]) -> bytes | str | None:
    """What is read, or why it cannot be."""
    try:
        return read()
    except OSError as error:
        return reason(error)


def gather_bytes(payload: bytes | None) -> tuple[bytes, ...]:
    """Every process's bytes; a single element where they are all the same."""
    if payload is None:
        return ()
    gathered = tuple(processes.gather_bytes(payload))
    return gathered[:1] if len(set(gathered)) == 1 else gathered


def from_process_0(choose: Callable[[], int | None]) -> int | None:
    """Process 0's choice of a step, on every process: the others do not hash, and must not choose another."""
    if jax.process_count() == 1:
        return choose()
    chosen, failure = None, None
    if jax.process_index() == 0:
        try:
            chosen = choose()
        except Exception as error:
            failure = error
    agreed = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if chosen is None else chosen)))
    if failure is not None:
        raise failure
    return None if agreed < 0 else agreed
