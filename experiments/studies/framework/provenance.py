"""Where a study's numbers come from: the code that computed them, the commit, the date and the machine.

The code of a study is that of its cases and every function, class and constant of this repository that they reach,
directly or through others: what is changed beside them in the same files does not make a result old. Nor does a
better explanation: comments, docstrings and blank lines are not code, and neither are statements that only refuse.
"""

from __future__ import annotations

import ast
import datetime
import functools
import hashlib
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.studies.framework.reached import reached, refusals
from gan_jax.runs.provenance import code_of, computed_by, git_commit, library_versions

ROOT = pathlib.Path(__file__).resolve().parents[3]
DIGITS = 12
"""Hexadecimal digits that are kept of a digest."""


class State(NamedTuple):
    """How a study's stored numbers stand to the code as it is now.

    Attributes:
      name: the study.
      current: the cases whose code is that of now.
      old: the cases that other code computed.
      unknown: the cases of which nothing is recorded.
    """

    name: str
    current: int
    old: int
    unknown: int

    def __str__(self) -> str:
        cases = self.current + self.old + self.unknown
        if not cases:
            return f"{self.name}: nothing is stored"
        if self.unknown:
            return f"{self.name}: of {self.unknown} of {cases} results it is not recorded what computed them"
        if self.old:
            return f"{self.name}: {self.old} of {cases} results are older than the code"
        return f"{self.name}: all {cases} results are the code's"


def state(module: str, stored: Mapping[str, Any], root: pathlib.Path = ROOT) -> State:
    """How the stored numbers of a study's module stand to the code below `root`."""
    now = digest(module, root)
    launches = stored.get("launches", {})
    cases = [case for by_case in stored["runs"].values() for case in by_case.values()]
    known = [launches[case["launch"]]["code"] for case in cases if case.get("launch") in launches]
    name = module.rpartition(".")[2]
    return State(name, known.count(now), len(known) - known.count(now), len(cases) - len(known))


def launch(module: str, command: str) -> dict[str, Any]:
    """What is recorded of a launch: code, commit, date, machine, computation, versions and command.

    Args:
      module: the study's module.
      command: what was called.
    """
    return {
        "code": digest(module),
        "commit": git_commit() or "unknown",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": {"processor": _processor(), "cores": os.cpu_count()},
        "computation": computed_by("highest"),
        "versions": library_versions(),
        "command": command,
    }


def identifier(record: Mapping[str, Any]) -> str:
    """The name by which results refer to a launch: launches that do not differ have the same."""
    return hashlib.sha256(repr(sorted(record.items())).encode()).hexdigest()[:8]


def digest(module: str, root: pathlib.Path = ROOT) -> str:
    """The first digits of the SHA-256 of the code that a module reaches, its own included; see `reached`."""
    total = hashlib.sha256()
    for definition in sorted(reached(module, root)):
        total.update(f"{definition.file.as_posix()}\n{_code(definition.text)}\n".encode())
    return total.hexdigest()[:DIGITS]


@functools.cache
def _code(text: str) -> str:
    lines = text.split("\n")
    for statement in refusals(ast.parse(text)):
        assert statement.end_lineno is not None
        lines[statement.lineno - 1 : statement.end_lineno] = [""] * (
            statement.end_lineno - statement.lineno + 1
        )
    return code_of("\n".join(lines))


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
