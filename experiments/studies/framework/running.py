"""Running studies: seed by seed into a JSON file, then the figure and the claims."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import importlib
import json
import math
import multiprocessing
import os
import pathlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.studies.framework import provenance
from experiments.studies.framework.study import Case, Result, Study, Verdict, judge
from gan_jax.cli.command_line import keep_compiled_programs
from gan_jax.pictures import save
from gan_jax.precision import at_highest_precision

DIGITS = 7
COLORS = (256, 128, 64, 32)
"""Numbers of colours of a study's PNG: the first is used with which it has no more bytes than `LARGEST_PICTURE`."""
LARGEST_PICTURE = 300_000


class Run:
    """A study that is being run: what is stored of it, and what is missing.

    Args:
      study: the study.
      folder: where `NAME.json` and `NAME.png` are kept.
      quick: the small version with looser bounds.
      seeds: how many; the study's own number if `None`.
      fresh: forget what is stored.
      full: its cases are those at the paper's scale, where it has such.
      changed: the numbers with which the study was loaded, where they are others than its file's.
    """

    def __init__(
        self,
        study: Study,
        folder: pathlib.Path,
        *,
        quick: bool = False,
        seeds: int | None = None,
        fresh: bool = False,
        full: bool = False,
        changed: Mapping[str, float] | None = None,
    ):
        if full and study.full is not None:
            study = dataclasses.replace(study, cases=study.full)
        self.study, self.folder = study, folder
        self.quick, self.full, self.changed = quick, full, changed or {}
        self.path = folder / f"{study.name}.json"
        self.count = seeds or (study.quick_seeds if quick else study.seeds)
        stored: dict[str, Any] = {} if fresh or not self.path.is_file() else read(self.path)
        self.runs: dict[str, dict[str, Any]] = stored.get("runs", {})
        self.launch = provenance.launch(study.module, command(study, quick, full, self.changed))
        self.launches = {**stored.get("launches", {}), provenance.identifier(self.launch): self.launch}
        self.old = warn_of_changes(study, stored)
        self.seconds = 0.0
        for seed in range(self.count):
            self.runs.setdefault(str(seed), {})

    def missing(self) -> list[tuple[int, str]]:
        """The seeds and cases that are not stored."""
        return [
            (seed, name)
            for seed in range(self.count)
            for name in self.study.cases
            if name not in self.runs[str(seed)]
        ]

    def keep(self, seed: int, name: str, computed: Mapping[str, Any]) -> None:
        """Stores what a case gave."""
        self.runs[str(seed)][name] = {**computed, "launch": provenance.identifier(self.launch)}
        write(self.path, record(self.study, self.runs, self.launches, self.quick))
        self.seconds += computed["seconds"]
        if computed["numbers"]:
            print(f"{self.study.name}: seed {seed}, {name}: {computed['seconds']:.1f} s", flush=True)

    def finish(self) -> list[Verdict]:
        """Judges the claims, stores them and draws the figure.

        Returns:
          A verdict for every claim.

        Raises:
          SystemExit: if numbers that another version stored lack what the claims are judged by.
        """
        results = results_of(self.runs, self.study, self.count)
        try:
            found = judge(self.study, results, self.quick)
        except (LookupError, TypeError) as error:
            if not self.old:
                raise
            raise SystemExit(
                f"{self.study.name}: this version cannot judge the stored numbers: add --fresh to compute them "
                "again."
            ) from error
        write(self.path, record(self.study, self.runs, self.launches, self.quick, found))
        draw(self.study, results, self.folder)
        return found


def finished(runs: Sequence[Run], jobs: int = 1) -> Iterator[tuple[Run, list[Verdict]]]:
    """Every run with its verdicts, as soon as all its cases are computed.

    Args:
      runs: of different studies.
      jobs: how many processes share what is missing of all of them, each with its own part of the cores.
    """
    left = {run.study.name: len(run.missing()) for run in runs}
    yield from ((run, run.finish()) for run in runs if not left[run.study.name])
    tasks = [(run, seed, name) for run in runs for seed, name in run.missing()]
    for run, seed, name, computed in computing(tasks, jobs):
        run.keep(seed, name, computed)
        left[run.study.name] -= 1
        if not left[run.study.name]:
            yield run, run.finish()


def draw(study: Study, results: Sequence[Result], folder: pathlib.Path) -> None:
    """Writes the study's figure as `NAME.png`, with as many colours as `LARGEST_PICTURE` allows."""
    figure, path = study.figure(results), folder / f"{study.name}.png"
    for colors in COLORS:
        save(figure, path, colors=colors)
        if path.stat().st_size <= LARGEST_PICTURE:
            return


def computing(
    tasks: Sequence[tuple[Run, int, str]], jobs: int
) -> Iterator[tuple[Run, int, str, dict[str, Any]]]:
    """`(run, seed, case, what it gave)` of every case, as each ends."""
    if jobs == 1 or len(tasks) < 2:
        for run, seed, name in tasks:
            yield run, seed, name, compute(run.study.cases[name], seed, run.quick)
        return
    spawn = multiprocessing.get_context("spawn")
    numbers = spawn.Queue()
    for number in range(jobs):
        numbers.put(number)
    with concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=spawn, initializer=_settle, initargs=(numbers, jobs)
    ) as workers:
        ends = {}
        for run, seed, name in tasks:
            of_run = run.study.module, name, seed, run.quick, run.full, run.changed
            ends[workers.submit(_compute_elsewhere, *of_run)] = run, seed, name
        try:
            for end in concurrent.futures.as_completed(ends):
                yield *ends[end], end.result()
        except BaseException:
            workers.shutdown(
                wait=False, cancel_futures=True
            )  # a case that fails does not wait for all others
            raise


def compute(case: Case, seed: int, quick: bool) -> dict[str, Any]:
    """A case's numbers, as JSON holds them, and what they took; at the highest precision of products."""
    began, processor = time.perf_counter(), time.process_time()
    numbers = plain(at_highest_precision(case)(seed, quick))
    return {
        "numbers": numbers,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - processor, 1),
    }


def _settle(numbers: Any, jobs: int) -> None:
    """Keeps a new process to its own part of the cores, its compiled programs with everyone's, and not for longer
    than the one that started it."""
    threading.Thread(target=_follow, daemon=True).start()
    number = numbers.get()
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[number::jobs]
        if cores:
            os.sched_setaffinity(0, cores)
    keep_compiled_programs()


def _follow() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _compute_elsewhere(
    module: str, name: str, seed: int, quick: bool, full: bool, changed: Mapping[str, float]
) -> dict[str, Any]:
    study: Study = importlib.import_module(module).STUDY
    if changed:
        package, _, file = module.rpartition(".")
        study = importlib.import_module(package).load(file, changed)
    cases = study.full if full and study.full is not None else study.cases
    return compute(cases[name], seed, quick)


def stored_verdicts(study: Study, folder: pathlib.Path) -> list[Verdict] | None:
    """The claims judged again on what is stored.

    `None` where not all cases of a seed are there, or another version stored numbers that lack what is judged.
    """
    path = folder / f"{study.name}.json"
    if not path.is_file():
        return None
    stored = read(path)
    complete = complete_seeds(study, stored["runs"])
    if complete == 0:
        return None
    try:
        return judge(study, results_of(stored["runs"], study, complete), stored["quick"])
    except (LookupError, TypeError):
        if not provenance.state(study.module, stored).current:
            return None
        raise


def verdicts_then(stored: Mapping[str, Any]) -> list[Verdict]:
    """The verdicts that a record was stored with, of the claims as they were then."""
    known = Verdict._field_defaults
    return [
        Verdict(**{field: revived(claim.get(field, known.get(field))) for field in Verdict._fields})
        for claim in stored.get("claims", [])
    ]


def complete_seeds(study: Study, runs: Mapping[str, Any]) -> int:
    """How many seeds, from 0 on, have all cases."""
    count = 0
    while all(name in runs.get(str(count), {}) for name in study.cases):
        count += 1
    return count


def results_of(runs: Mapping[str, Any], study: Study, count: int) -> list[Result]:
    """The first `count` seeds' numbers, `case -> numbers` each."""
    return [
        {name: revived(runs[str(seed)][name]["numbers"]) for name in study.cases} for seed in range(count)
    ]


def record(
    study: Study,
    runs: Mapping[str, Any],
    launches: Mapping[str, Any],
    quick: bool,
    found: Sequence[Verdict] = (),
) -> dict[str, Any]:
    """What is written to the JSON file: of the launches those that results are of."""
    used = {case.get("launch") for by_case in runs.values() for case in by_case.values()}
    return {
        "study": study.name,
        "title": study.title,
        "quick": quick,
        "launches": {name: launch for name, launch in launches.items() if name in used},
        "claims": [plain({**verdict._asdict(), "holds": verdict.holds}) for verdict in found],
        "runs": runs,
    }


def command(
    study: Study, quick: bool = False, full: bool = False, changed: Mapping[str, float] = MappingProxyType({})
) -> str:
    """What runs the study."""
    options = [" --quick"] * quick + [" --full"] * full
    options += [f" --set {name.lower()}={value}" for name, value in sorted(changed.items())]
    return f"python -m experiments.studies {study.name}{''.join(options)}"


def other_command(stored: Mapping[str, Any], wanted: str) -> str | None:
    """What computed stored numbers which `wanted` would not: they are of another size, or of other constants.

    Args:
      stored: a study's record.
      wanted: see `command`.

    Returns:
      The other command; `None` where all numbers are of `wanted`, or it is not recorded what they are of.
    """
    used = {case.get("launch") for by_case in stored["runs"].values() for case in by_case.values()}
    launches = stored.get("launches", {})
    commands = {launches[name]["command"] for name in used if "command" in launches.get(name, {})}
    return min(commands - {wanted}, default=None)


def warn_of_changes(study: Study, stored: Mapping[str, Any]) -> bool:
    """Whether stored numbers are older than the code, which is said on stderr."""
    found = provenance.state(study.module, stored) if stored else None
    changed = found is not None and bool(found.old or found.unknown)
    if changed:
        print(f"{found}; --fresh computes them again.", file=sys.stderr)
    return changed


# --- JSON ---------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Python values of seven significant digits that JSON can hold: what is not finite becomes a string.

    >>> plain({"a": np.float32(1 / 3), "b": np.array([1.0, np.inf])})
    {'a': 0.3333333, 'b': [1.0, 'inf']}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else str(number)
    return plain(np.asarray(value).tolist())


def revived(value: Any) -> Any:
    """The inverse of `plain` for what is not finite."""
    if isinstance(value, dict):
        return {name: revived(item) for name, item in value.items()}
    if isinstance(value, list):
        return [revived(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def read(path: pathlib.Path) -> dict[str, Any]:
    """A stored record."""
    return json.loads(path.read_text())


def write(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Replaces the file at once, so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".json.new")
    beside.write_text(_lines(content) + "\n")
    os.replace(beside, path)


def _lines(content: Mapping[str, Any]) -> str:
    """JSON with one line for each list of numbers: readable, and small."""
    return _pretty(content, 0)


def _pretty(value: Any, depth: int) -> str:
    if isinstance(value, Mapping) and value:
        pad = "  " * (depth + 1)
        inner = ",\n".join(
            f"{pad}{json.dumps(name)}: {_pretty(item, depth + 1)}" for name, item in value.items()
        )
        return f"{{\n{inner}\n{'  ' * depth}}}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        pad = "  " * (depth + 1)
        inner = ",\n".join(pad + _pretty(item, depth + 1) for item in value)
        return f"[\n{inner}\n{'  ' * depth}]"
    return json.dumps(value, allow_nan=False)
