"""`--sweep=config.FIELD=VALUE,VALUE`: a run for every combination of values, each trained and evaluated."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from gan_jax.cli import program, request, sweep_files, sweep_report
from gan_jax.cli.errors import UsageError
from gan_jax.cli.sweep_grid import Point, code_of, grid, parse
from gan_jax.cli.training import new_workdir
from gan_jax.files import is_local, reason, replace_file
from gan_jax.runs.interrupts import Interrupt
from gan_jax.runs.terminal import tell

_POLL_SECONDS = 0.2


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
    points = grid(argv, parse(swept, config), code=code_of(request.experiment_of(argv)))
    if workdir is not None and not is_local(workdir):
        raise UsageError(
            f"--workdir={workdir}: a sweep's directory is a folder of this machine or a shared disk, for its runs "
            "are held by locks."
        )
    root = pathlib.Path(workdir or new_workdir("sweep"))
    if slurm is not None:
        _write_slurm(pathlib.Path(slurm), root, points)
        return
    sweep_files.make(root)
    sweep_files.refuse_links(root, points)
    sweep_files.adopt(root)
    for name in sweep_report.FILES:
        sweep_files.refuse_other(root / name, root)
    with Interrupt().handling_signals() as interrupt:
        failed = _run_all(root, points, jobs, interrupt)
    if interrupt.by is not None:
        again = shlex.join([*program.command(), *request.without(argv[1:], "workdir"), f"--workdir={root}"])
        tell(f"{interrupt.by}: the runs are saved. Go on with: {again}")
        return
    rows = [
        sweep_report.Row(point.values, found, sweep_files.examples_of(root, point))
        for point in points
        if (found := sweep_files.evaluation_of(root, point)) is not None and point.name not in failed
    ]
    if rows:
        tell(sweep_report.shown(rows))
        try:
            sweep_files.write_report(root, sweep_report.files(rows))
        except OSError as error:  # what took hours is shown where it cannot be written
            raise UsageError(f"the table in {root} could not be written: {reason(error)}.") from error
    if failed:
        logs = ", ".join(str(root / f"{name}.log") for name in failed[:3])
        raise UsageError(
            f"{len(failed)} of {len(points)} runs failed: see {logs}; the same command with "
            f"--workdir={shlex.quote(str(root))} tries them again."
        )


@dataclasses.dataclass
class _Running:
    """A point whose training or, after it, evaluation runs in a process."""

    point: Point
    process: subprocess.Popen[bytes]
    evaluates: bool = False


def _run_all(root: pathlib.Path, points: Sequence[Point], jobs: int, interrupt: Interrupt) -> list[str]:
    """Runs what is not finished, `jobs` at a time; returns the names of those that failed."""
    done = sweep_files.finished(root, points)
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
                if (
                    code == 0
                    and run.evaluates
                    and (problem := sweep_files.unfinished(root, run.point)) is None
                ):
                    done[name] = run.point.record
                    # Another sweep of this directory has its own points there, now or before.
                    sweep_files.write_record(root, sweep_files.recorded(root) | done)
                    (root / f"{name}{sweep_files.MADE}").unlink(missing_ok=True)  # by an array job before
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
        made = f"echo {point.mark} > {shlex.quote(f'{root / point.name}{sweep_files.MADE}')}"
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
    sweep_files.make(root)
    sweep_files.refuse_links(root, points)
    sweep_files.adopt(root)
    sweep_files.refuse_other(path, root)  # its first lines are to be edited
    sweep_files.record_written(root, {path.name: text.encode()})
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {reason(error)}.") from error
    tell(f"Written {path}, an array of {len(points)} runs in {root}: sbatch {path}")
