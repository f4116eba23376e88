"""`--sweep=config.FIELD=VALUE,VALUE`: a run for every combination of values, each trained and evaluated."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import gan_jax
from gan_jax.cli import mode_flags, program, request, sweep_report
from gan_jax.cli.errors import UsageError
from gan_jax.cli.training import new_workdir
from gan_jax.files import reason, replace_file, write_atomically
from gan_jax.runs.files import is_link, is_there, read_regular
from gan_jax.runs.interrupts import Interrupt
from gan_jax.runs.provenance import modules_beside, source_digest
from gan_jax.runs.strict_json import dumps
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir

OF_THE_SWEEP = ("sweep", "jobs", "slurm", "workdir", "mode")
"""Flags that are not handed on to the runs."""
OF_EVALUATION = tuple(
    name for name, modes in mode_flags.MODES_OF.items() if "evaluate" in modes and "train" not in modes
)
"""Flags that are handed on to the evaluation of a run."""
_POLL_SECONDS = 0.2
_MADE = ".made"
"""The ending of a file beside a run: an element of an array job says there for which point it has finished it."""
_WRITTEN = "written"
"""The entry of `sweep.json` with the digests of the files that a sweep has written, by name; no point's name."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A run of a sweep.

    Attributes:
      name: of its work directory, below the sweep's.
      values: what is another than in the other runs, by field.
      train: the launcher's arguments that train it, but for `--workdir`.
      evaluate: those that evaluate it.
      code: the digest of the experiment's code.
    """

    name: str
    values: Mapping[str, str]
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    code: str = ""

    @property
    def record(self) -> list[str]:
        """What is recorded of it once it is finished; a point with another record is launched again."""
        return [*self.train, *self.evaluate, f"code {self.code}"]

    @property
    def mark(self) -> str:
        """What an element of an array job writes once it has finished the run: the digest of the record."""
        return hashlib.sha256(json.dumps(self.record).encode()).hexdigest()


def sweep(
    argv: Sequence[str],
    swept: Sequence[str],
    *,
    config: Any,
    workdir: str | None,
    jobs: int,
    slurm: str | None,
) -> None:
    """Trains and evaluates a run for every combination unless it is finished; then writes their table and plot.

    Args:
      argv: the command line, whose other flags are handed on.
      swept: `config.FIELD=VALUE,VALUE`, for each field.
      config: the experiment's configuration, which has these fields.
      workdir: the sweep's directory; by default a new one under `runs`.
      jobs: the number of runs at the same time.
      slurm: write an array job of SLURM to this file and run nothing.

    Raises:
      UsageError: if a field or a value cannot be swept, or a run failed.
    """
    if jobs < 1:
        raise UsageError(f"--jobs is 1 or more, got {jobs}.")
    points = grid(argv, parse(swept, config), code=_code(request.experiment_of(argv)))
    root = pathlib.Path(workdir or new_workdir("sweep"))
    if slurm is not None:
        _write_slurm(pathlib.Path(slurm), root, points)
        return
    _make(root)
    _refuse_links(root, points)
    _adopt(root)
    for name in sweep_report.FILES:
        _refuse_other(root / name, root)
    with Interrupt().handling_signals() as interrupt:
        failed = _run_all(root, points, jobs, interrupt)
    if interrupt.by is not None:
        again = shlex.join([*program.command(), *request.without(argv[1:], "workdir"), f"--workdir={root}"])
        tell(f"{interrupt.by}: the runs are saved. Go on with: {again}")
        return
    rows = [
        sweep_report.Row(point.values, found, _examples(root, point))
        for point in points
        if (found := _evaluation(root, point)) is not None and point.name not in failed
    ]
    if rows:
        tell(sweep_report.shown(rows))
        try:
            _write_report(root, sweep_report.files(rows))
        except OSError as error:  # what took hours is shown where it cannot be written
            raise UsageError(f"the table in {root} could not be written: {reason(error)}.") from error
    if failed:
        logs = ", ".join(str(root / f"{name}.log") for name in failed[:3])
        raise UsageError(
            f"{len(failed)} of {len(points)} runs failed: see {logs}; the same command with "
            f"--workdir={shlex.quote(str(root))} tries them again."
        )


def _refuse_links(root: pathlib.Path, points: Sequence[Point]) -> None:
    """Checks that nothing is written through a link in a sweep's directory; a run's directory may be one.

    Raises:
      UsageError: naming the link.
    """
    names = (
        "sweep.json",
        "table.md",
        "sweep.png",
        *(point.name + end for point in points for end in (".log", _MADE)),
    )
    for path in (Workdir(root).root / name for name in names):
        if is_link(path):
            raise UsageError(f"{path} is a link, and nothing is written through one: remove it.")


def _adopt(root: pathlib.Path) -> None:
    """Begins the record of a sweep's directory, or goes on with it; another file of its name is renamed.

    Raises:
      UsageError: if it cannot be renamed or written.
    """
    path = _record(root)
    stored = _recorded(root)
    if is_there(path) and not all(isinstance(stored[name], list) for name in stored.keys() - {_WRITTEN}):
        stored = {}
    if is_there(path) and not stored:
        aside = path.with_name(f"sweep_unread_{secrets.token_hex(4)}.json")
        try:
            path.rename(aside)
        except OSError as error:
            raise UsageError(f"cannot rename {path}, which is no sweep's record: {reason(error)}.") from error
        tell(f"What stood in {path} is no record of a sweep: it is {aside.name} now.", sys.stderr)
    if _WRITTEN not in stored:
        # Of a sweep that was made before digests were recorded, the files are its own.
        there = [name for name in sweep_report.FILES if stored and (root / name).is_file()]
        _write_record(root, {**stored, _WRITTEN: {name: [_digest(root / name)] for name in there}})


def _digest(path: pathlib.Path) -> str:
    """The sha256 of a file.

    Raises:
      UsageError: if it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}.") from error


def _written(root: pathlib.Path) -> dict[str, list[str]]:
    """The digests of what a sweep of this directory has written, by the files' names."""
    stored = _recorded(root).get(_WRITTEN)
    found = stored if isinstance(stored, dict) else {}
    return {name: digests for name, digests in found.items() if isinstance(digests, list)}


def _refuse_other(path: pathlib.Path, root: pathlib.Path) -> None:
    """Checks that a file which is to be replaced is as a sweep of this directory has written it.

    Raises:
      UsageError: if it is somebody's own, or was edited since, or cannot be read.
    """
    if path.is_file() and _digest(path) not in _written(root).get(path.name, ()):
        raise UsageError(
            f"{path} is there, not as an earlier sweep has written it: move it, or name another."
        )


def _record_written(root: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Records what a sweep is about to write, beside what is there until then.

    Raises:
      UsageError: if it cannot.
    """
    before = _written(root)
    made = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    now = {name: [*before.get(name, [])[-1:], digest] for name, digest in made.items()}
    _write_record(root, {**_recorded(root), _WRITTEN: {**before, **now}})


def _write_report(root: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Writes the table and the plot, in place of those of an earlier sweep.

    Raises:
      UsageError: if one of them is not as that has written it.
      OSError: the file system's own error; an existing file is then as it was.
    """
    for name in files:
        _refuse_other(root / name, root)
    _record_written(root, files)
    for name, content in files.items():
        write_atomically(root / name, content)
    tell(f"Written to {' and '.join(str(root / name) for name in files)}")


def parse(swept: Sequence[str], config: Any) -> dict[str, tuple[str, ...]]:
    """The values of each field.

    Raises:
      UsageError: if a field is unknown or named twice, or a value is missing or not of the field's type.

    >>> parse(["config.learning_rate=1e-4,2e-4"], {"learning_rate": 0.0})
    {'learning_rate': ('1e-4', '2e-4')}
    """
    fields: dict[str, tuple[str, ...]] = {}
    for text in swept:
        match = re.fullmatch(r"config\.([\w.]+)=(.+)", text, re.DOTALL)
        if match is None:
            raise UsageError(f"--sweep is config.FIELD=VALUE,VALUE, as in config.seed=0,1; got {text!r}.")
        field, values = match[1], tuple(match[2].split(","))
        request.check_fields(["", f"--config.{field}="], config)
        if field in fields:
            raise UsageError(f"--sweep names {field} twice: give all its values at once.")
        default = config
        for name in field.split("."):
            default = default[name]
        if "" in values or len({_typed(field, value, default) for value in values}) != len(values):
            raise UsageError(
                f"--sweep=config.{field} needs different values, separated by commas; got {match[2]!r}."
            )
        fields[field] = values
    return fields


def _typed(field: str, value: str, default: Any) -> bool | int | float | str:
    """A value as the field's type has it: 1e-4 and 0.0001 are one.

    Raises:
      UsageError: if it is not of that type.
    """
    kind = type(default)
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise UsageError(f"--sweep: {field} is true or false, got {value!r}.")
        return value.lower() == "true"
    if kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            raise UsageError(f"--sweep: {field} is a number like {default!r}, got {value!r}.") from None
    return value


def grid(argv: Sequence[str], fields: Mapping[str, Sequence[str]], code: str = "") -> list[Point]:
    """A point for every combination of values, the last field's changing fastest.

    >>> [p.name for p in grid(["launch.py"], {"lr": ("1", "2"), "objective": ("gan",)})]
    ['lr=1,objective=gan', 'lr=2,objective=gan']
    """
    handed_on = list(argv)
    for name in OF_THE_SWEEP:
        handed_on = request.without(handed_on, name)
    evaluate = []
    for name in OF_EVALUATION:
        if (value := request.given(handed_on, name)) is not None:
            evaluate.append(f"--{name}={value}")
            handed_on = request.without(handed_on, name)
    experiment = request.given(argv, "config")
    if experiment is not None:
        evaluate.append(f"--config={experiment}")
    points, taken = [], set()
    for values in itertools.product(*fields.values()):
        chosen = dict(zip(fields, values, strict=True))
        written = ",".join(f"{name}={value}" for name, value in chosen.items())
        name = plain = re.sub(r"[^\w.=,+-]", "_", written)[:150]
        number = 1
        while name in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name)
        train = (*handed_on[1:], *(f"--config.{field}={value}" for field, value in chosen.items()))
        points.append(Point(name, chosen, train, ("--mode=evaluate", *evaluate), code))
    return points


def _code(experiment: pathlib.Path) -> str:
    """What identifies the code of an experiment, of the modules beside it, and of this package."""
    parts = {"": source_digest(experiment), **modules_beside(experiment), "gan_jax": gan_jax.__version__}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass
class _Running:
    """A point whose training or, after it, evaluation runs in a process."""

    point: Point
    process: subprocess.Popen[bytes]
    evaluates: bool = False


def _run_all(root: pathlib.Path, points: Sequence[Point], jobs: int, interrupt: Interrupt) -> list[str]:
    """Runs what is not finished, `jobs` at a time; returns the names of those that failed."""
    done = _finished(root, points)
    waiting = [point for point in points if point.name not in done]
    tell(f"{len(points)} runs in {root}, {len(done)} of them finished; {min(jobs, len(waiting))} at a time.")
    running: list[_Running] = []
    failed: list[str] = []
    try:
        while running or waiting:
            if interrupt.by is not None:
                _stop(running)
                break
            while waiting and len(running) < jobs:
                point = waiting.pop(0)
                running.append(_Running(point, _start(root, point.name, point.train, jobs)))
            time.sleep(_POLL_SECONDS)
            for run in list(running):
                code, name = run.process.poll(), run.point.name
                if code is None:
                    continue
                if code == 0 and not run.evaluates and interrupt.by is None:
                    run.process, run.evaluates = _start(root, name, run.point.evaluate, jobs), True
                    continue
                running.remove(run)
                if code == 0 and run.evaluates and (problem := _unfinished(root, run.point)) is None:
                    done[name] = run.point.record
                    # Another sweep of this directory has its own points there, now or before.
                    _write_record(root, _recorded(root) | done)
                    (root / f"{name}{_MADE}").unlink(missing_ok=True)  # by an array job before
                    tell(f"finished {name} ({len(done)} of {len(points)})")
                elif interrupt.by is None:
                    failed.append(name)
                    tell(f"failed {name}: {problem if code == 0 else _last_line(root / f'{name}.log')}")
    except Exception:
        _stop(running)  # nobody would evaluate them
        raise
    return failed


def _stop(running: Sequence[_Running]) -> None:
    """Ends processes; those that train save their state."""
    for run in running:
        run.process.terminate()
    for run in running:
        run.process.wait()


def _make(root: pathlib.Path) -> None:
    """Makes the sweep's directory.

    Raises:
      UsageError: if it cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--workdir={root} cannot be written: {reason(error)}.") from error


def _write_record(root: pathlib.Path, done: Mapping[str, Any]) -> None:
    """Writes which runs are done, and how they were made.

    Raises:
      UsageError: if it cannot.
    """
    try:
        write_atomically(_record(root), (dumps(done, indent=1) + "\n").encode())
    except OSError as error:
        raise UsageError(f"cannot write {_record(root)}: {reason(error)}.") from error


def _start(root: pathlib.Path, name: str, arguments: Sequence[str], jobs: int) -> subprocess.Popen[bytes]:
    """Starts the launcher for a point; its output goes to the point's log.

    Raises:
      UsageError: if the log cannot be written.
    """
    environment = dict(os.environ)
    environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / jobs:.3f}")  # runs share an accelerator
    try:
        log = (root / f"{name}.log").open("ab")
    except OSError as error:
        raise UsageError(f"cannot write {root / name}.log: {reason(error)}.") from error
    with log:
        return subprocess.Popen(
            [*_launcher(), *arguments, f"--workdir={root / name}"],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
        )


def _launcher() -> list[str]:
    """The launcher as another process starts it."""
    return [sys.executable, sys.argv[0]] if sys.argv[0].endswith(".py") else [sys.argv[0]]


def _record(root: pathlib.Path) -> Any:
    return Workdir(root).root / "sweep.json"


def _recorded(root: pathlib.Path) -> dict[str, Any]:
    """What `sweep.json` holds of each point, whatever it is; empty where there is none."""
    try:
        stored = json.loads(read_regular(_record(root)))
    except (OSError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _finished(root: pathlib.Path, points: Sequence[Point]) -> dict[str, list[str]]:
    """The records of those points that were finished with the arguments and the code that they have now."""
    stored = _recorded(root)

    def is_made(point: Point) -> bool:
        try:
            return read_regular(Workdir(root).root / f"{point.name}{_MADE}").decode().strip() == point.mark
        except (OSError, UnicodeDecodeError):  # by no array job
            return bool(stored.get(point.name) == point.record)

    return {
        point.name: point.record for point in points if is_made(point) and _unfinished(root, point) is None
    }


def _evaluation(root: pathlib.Path, point: Point) -> dict[str, Any] | None:
    """The evaluation of a run's newest checkpoint, if there is one.

    Of several of the same state it is one that was made as the sweep's are: with its `--standing_statistics`, and
    without `--weights` of both kinds of weights, where somebody has evaluated those themselves by themselves.
    """
    flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in point.evaluate)
    try:
        entries = json.loads((root / point.name / "evaluation.json").read_text())["checkpoints"]
        last = entries[-1]
        same = [entry for entry in entries if _of_one_state(entry, last)]
        standing = [
            e for e in same if str(e.get("standing_statistics", "")) == flags.get("standing_statistics", "")
        ]
        if weights := flags.get("weights"):
            fitting = [entry for entry in standing if list(entry.get("samples", ())) == [weights]]
        else:
            kinds = max((len(entry.get("samples", ())) for entry in standing), default=0)
            fitting = [entry for entry in standing if len(entry.get("samples", ())) == kinds]
        return (fitting or [last])[-1]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _of_one_state(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(entry.get(name) == other.get(name) for name in ("step", "checkpoint"))


_EXAMPLES = re.compile(r"(source\.)*(all\.)?x( \(of .*\))?")
"""What `config.json` calls the examples: `all.x` on the device, `x (of 50000 examples)` of a stream, either within
the `source.` of another source; `labelled.x` is a part of them."""


def _examples(root: pathlib.Path, point: Point) -> str:
    """What identifies the examples that a run was trained on; empty where it has recorded none."""
    try:
        stored = json.loads((root / point.name / "config.json").read_text())["data"]
        return ", ".join(str(value) for name, value in stored.items() if _EXAMPLES.fullmatch(name))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""


def _unfinished(root: pathlib.Path, point: Point) -> str | None:
    """Why a run that ended in order is not finished; `None` if it is."""
    evaluation = _evaluation(root, point)
    if evaluation is None:
        return "there is no evaluation"
    try:
        rounds = json.loads((root / point.name / "config.json").read_text())["config"]["rounds"]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # an experiment without this field
    return None if evaluation["step"] >= rounds else f"it was stopped at round {evaluation['step']}"


def _last_line(log: pathlib.Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


def _write_slurm(path: pathlib.Path, root: pathlib.Path, points: Sequence[Point]) -> None:
    """Writes an array job, an element a run; launched again, finished runs train nothing.

    Raises:
      UsageError: if it cannot be written, or the directory's name has a line break: the rest would be a command.
    """
    if not str(root).isprintable():
        raise UsageError(f"--workdir={str(root)!r} has a name that a job file cannot give to SLURM.")
    launcher, cases = shlex.join(_launcher()), ""
    for number, point in enumerate(points):
        workdir = f"--workdir={root / point.name}"
        train, evaluate = (shlex.join([*flags, workdir]) for flags in (point.train, point.evaluate))
        made = f"echo {point.mark} > {shlex.quote(f'{root / point.name}{_MADE}')}"
        cases += f"  {number}) {launcher} {train}\n     {launcher} {evaluate}\n     {made} ;;\n"
    again = shlex.join(
        [*program.command(), *request.without(request.without(sys.argv[1:], "slurm"), "workdir")]
    )
    comment = f"{again} --workdir={shlex.quote(str(root))}".replace("\n", "\n#   ")  # of a value, say
    text = f"""#!/bin/bash
#SBATCH --array=0-{len(points) - 1}
#SBATCH --output={shlex.quote(f"{root}/%a.log")}
# Add your cluster's partition, time and devices above, submit with sbatch, and get the table at the end with
#   {comment}
set -e
cd {shlex.quote(os.getcwd())}
case "$SLURM_ARRAY_TASK_ID" in
{cases}  *) echo "There is no run $SLURM_ARRAY_TASK_ID: they are 0 to {len(points) - 1}." >&2; exit 2 ;;
esac
"""
    _make(root)
    _refuse_links(root, points)
    _adopt(root)
    _refuse_other(path, root)  # its first lines are to be edited
    _record_written(root, {path.name: text.encode()})
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {reason(error)}.") from error
    tell(f"Written {path}, an array of {len(points)} runs in {root}: sbatch {path}")
