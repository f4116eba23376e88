"""Runs two programs in turn, A B A B, and compares their rates on a machine that may have other load.

A program plays rounds on request and reports their time: a callable in this process (`InProcess`) or a long-lived
subprocess (`Worker`), which may use another interpreter, so that JAX and PyTorch can be in different virtual
environments. `compare` warms both up, chooses repetitions of equal length, runs them in turn, drops every pair that
other load disturbed, and reports medians of the pairs' ratios.

Other load is the time that /proc/stat counts as busy or stolen beyond the program's processor time. Without
/proc/stat (not Linux) no pair is dropped, and the report says so.

This module imports only the standard library, since every worker imports it in its environment.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple, Protocol

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TORCH_PYTHON = "BENCHMARK_TORCH_PYTHON"


class BenchmarkError(RuntimeError):
    """An error that prevents a comparison."""


class Played(NamedTuple):
    """A repetition.

    Attributes:
      rounds: the number of rounds.
      seconds: wall time.
      cpu_seconds: processor time of all threads of the program.
      other_load: the mean number of processors that other programs used; `None` if unknown.
      report: the program's report, such as its losses.
    """

    rounds: int
    seconds: float
    cpu_seconds: float
    other_load: float | None
    report: Mapping[str, Any]

    @property
    def rate(self) -> float:
        """Rounds per second of wall time."""
        return self.rounds / self.seconds

    @property
    def cpu_rate(self) -> float:
        """Rounds per second of processor time."""
        return self.rounds / max(self.cpu_seconds, 1e-9)


class Program(Protocol):
    """A program that plays rounds on request."""

    name: str
    description: Mapping[str, Any]

    def play(self, rounds: int) -> Played:
        """Plays `rounds` rounds and measures them."""
        ...

    def close(self) -> None:
        """Ends the program."""
        ...


class InProcess:
    """A callable of this process as a program: `play(rounds) -> report`."""

    def __init__(self, name: str, play: Callable[[int], Mapping[str, Any]]) -> None:
        self.name = name
        self.description: Mapping[str, Any] = {}
        self._play = play

    def play(self, rounds: int) -> Played:
        """Plays `rounds` rounds and measures them."""
        before = machine_load()
        seconds, cpu_seconds, report = timed(self._play, rounds)
        return Played(rounds, seconds, cpu_seconds, other_load(before, cpu_seconds), report)

    def close(self) -> None:
        """Does nothing, since there is no process to end."""


class Worker:
    """A subprocess `python -m module SPEC` in a checkout, by default this one, that serves rounds until closed.

    Attributes:
      name: its name in tables.
      description: the description that the worker sent when it was ready.

    Raises:
      BenchmarkError: if the process cannot start, or ends before it is closed; its output is on stderr.
    """

    def __init__(
        self,
        name: str,
        module: str,
        spec: Mapping[str, Any],
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        root: pathlib.Path = ROOT,
    ) -> None:
        self.name = name
        try:
            self._process = subprocess.Popen(
                [python, "-m", module, json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            raise BenchmarkError(f"The Python of {name!r} cannot be started: {error}.") from error
        self.description: Mapping[str, Any] = self._receive()

    def play(self, rounds: int) -> Played:
        """Plays `rounds` rounds and measures them."""
        before = machine_load()
        answer = self.ask("play", rounds=rounds)
        seconds, cpu_seconds = answer.pop("seconds"), answer.pop("cpu_seconds")
        return Played(rounds, seconds, cpu_seconds, other_load(before, cpu_seconds), answer)

    def ask(self, call: str, **arguments: Any) -> dict[str, Any]:
        """Sends one request and waits for its answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"call": call, **arguments}) + "\n")
            self._process.stdin.flush()
        return self._receive()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            code = self._process.returncode
            raise BenchmarkError(
                f"The program {self.name!r} ended with code {code} before it answered; its error "
                "is above. If its environment lacks a package: run `pip install -e .[benchmark]`, or name the "
                f"Python that has PyTorch with --torch-python or in ${TORCH_PYTHON}."
            )
        return json.loads(line)


def serve(
    description: Mapping[str, Any],
    play: Callable[[int], Mapping[str, Any]],
    **calls: Callable[..., Mapping[str, Any]],
) -> None:
    """A worker's main loop: JSON lines in, JSON lines out, until stdin is closed.

    Args:
      description: sent once, when the worker is ready.
      play: `rounds -> report`, measured here.
      **calls: other requests, by name.
    """
    # Printed text must not end up between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    send({"python": platform.python_version(), **description})
    for line in sys.stdin:
        request = json.loads(line)
        call = request.pop("call")
        if call == "play":
            seconds, cpu_seconds, report = timed(play, request["rounds"])
            send({"seconds": seconds, "cpu_seconds": cpu_seconds, **peak_memory(), **report})
        else:
            send(calls[call](**request))


def timed(play: Callable[[int], Mapping[str, Any]], rounds: int) -> tuple[float, float, Mapping[str, Any]]:
    """`(wall seconds, processor seconds, report)` of playing `rounds` rounds."""
    cpu, wall = time.process_time(), time.perf_counter()
    report = play(rounds)
    return time.perf_counter() - wall, time.process_time() - cpu, report


def peak_memory() -> dict[str, float]:
    """The peak memory of this process so far, in MB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)}


class MachineLoad(NamedTuple):
    """Seconds since the machine started: on the wall, and of all processors busy or stolen."""

    wall: float
    busy: float


def children_cpu_seconds() -> float:
    """The processor time of the subprocesses that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine_load() -> MachineLoad | None:
    """Reads /proc/stat; `None` if it does not exist."""
    try:
        fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields)
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return MachineLoad(time.perf_counter(), busy)


def other_load(before: MachineLoad | None, program_cpu_seconds: float) -> float | None:
    """The mean number of processors that other programs used since `before`."""
    after = machine_load()
    if before is None or after is None:
        return None
    return (after.busy - before.busy - program_cpu_seconds) / max(after.wall - before.wall, 1e-9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a comparison.

    Attributes:
      pairs: the desired number of undisturbed A B pairs.
      seconds: the desired length of a repetition.
      warm_up: the seconds that each program plays before the first pair.
      tolerance: the number of processors of other load from which a pair is dropped.
      max_attempts: the largest number of pairs, as a multiple of `pairs`.
      period: a repetition has a multiple of so many rounds, after which a schedule begins again.
    """

    pairs: int = 10
    seconds: float = 2.0
    warm_up: float = 3.0
    tolerance: float = 0.05
    max_attempts: int = 3
    period: int = 1


class Spread(NamedTuple):
    """The median and the extremes of several values."""

    median: float
    low: float
    high: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a comparison.

    Attributes:
      names: the names of the two programs.
      rates: each program's median rounds per second of wall time.
      ratio: the first program's rate over the second's, pair by pair.
      cpu_ratio: the same for rounds per second of processor time, which other load affects less.
      clean: the number of pairs without other load.
      tried: the number of all pairs.
      trusted: whether only clean pairs are counted; otherwise there were too few, and all are counted.
      descriptions: the programs' descriptions.
      reports: each program's last report.
    """

    names: tuple[str, str]
    rates: tuple[float, float]
    ratio: Spread
    cpu_ratio: Spread
    clean: int
    tried: int
    trusted: bool
    descriptions: tuple[Mapping[str, Any], Mapping[str, Any]]
    reports: tuple[Mapping[str, Any], Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The rounded results for a file."""
        return {
            "programs": list(self.names),
            "rounds_per_second": [round(rate, 3) for rate in self.rates],
            "ratio": [round(x, 3) for x in self.ratio],
            "cpu_ratio": [round(x, 3) for x in self.cpu_ratio],
            "clean_pairs": self.clean,
            "pairs": self.tried,
            "trusted": self.trusted,
            "programs_say": [dict(description) for description in self.descriptions],
            "last_reports": [dict(report) for report in self.reports],
        }


def compare(first: Program, second: Program, plan: Plan) -> Comparison:
    """Runs the two programs in turns and compares their rates.

    Args:
      first: the program of this project; it is faster for ratios above 1.
      second: the program to compare with.
      plan: the settings.

    Returns:
      Medians over the pairs without other load; over all pairs if fewer than half of the desired number were clean,
      in which case the comparison is not `trusted`.
    """
    rounds = [warmed_up(program, plan) for program in (first, second)]
    pairs: list[tuple[Played, Played]] = []
    clean: list[tuple[Played, Played]] = []
    while len(clean) < plan.pairs and len(pairs) < plan.pairs * plan.max_attempts:
        pair = (first.play(rounds[0]), second.play(rounds[1]))
        pairs.append(pair)
        if all(undisturbed(played, plan.tolerance) for played in pair):
            clean.append(pair)
    trusted = 2 * len(clean) >= plan.pairs
    counted = clean if trusted else pairs
    return Comparison(
        names=(first.name, second.name),
        rates=(
            statistics.median(a.rate for a, _ in counted),
            statistics.median(b.rate for _, b in counted),
        ),
        ratio=Spread.from_values([a.rate / b.rate for a, b in counted]),
        cpu_ratio=Spread.from_values([a.cpu_rate / b.cpu_rate for a, b in counted]),
        clean=len(clean),
        tried=len(pairs),
        trusted=trusted,
        descriptions=(first.description, second.description),
        reports=(pairs[-1][0].report, pairs[-1][1].report),
    )


def undisturbed(played: Played, tolerance: float) -> bool:
    """Tells whether other programs used less than `tolerance` processors."""
    return played.other_load is None or played.other_load < tolerance


def warmed_up(program: Program, plan: Plan) -> int:
    """Plays until the program is warm, and returns the number of rounds that take about `plan.seconds`."""
    rounds, spent, played = 1, 0.0, program.play(1)
    while spent < plan.warm_up:
        played = program.play(rounds)
        spent += played.seconds
        rounds = max(1, min(round(played.rate * plan.seconds), 10 * rounds))
    return plan.period * max(1, round(played.rate * plan.seconds / plan.period))


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive values.

    >>> round(geometric_mean([1.0, 4.0]), 6)
    2.0
    """
    return statistics.geometric_mean(values)


def pairs_cell(comparison: Comparison) -> str:
    """The number of clean pairs and of all pairs, and a mark if they are not to be trusted."""
    cell = f"{comparison.clean}/{comparison.tried}"
    return cell if comparison.trusted else f"{cell} TOUCHED"


def verdict(comparison: Comparison, bar: float) -> str:
    """Tells whether the median ratio reaches `bar`; pairs with other load do not decide it."""
    if not comparison.trusted:
        return f"{bar} not judged"
    return f"{bar} met" if comparison.ratio.median >= bar else f"{bar} MISSED"


def arguments(description: str | None, *, torch: bool = True, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with the flags of every comparison.

    Args:
      description: the comparison's description, shown by `--help`.
      torch: whether to add the flags for PyTorch.
      **defaults: defaults of `Plan`'s fields.
    """
    plan = Plan(**defaults)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if torch:
        parser.add_argument(
            "--torch-python",
            default=os.environ.get(TORCH_PYTHON, sys.executable),
            help=f"the Python that has PyTorch (default: ${TORCH_PYTHON}, else the one that runs this)",
        )
        parser.add_argument(
            "--threads",
            type=int,
            default=0,
            help="threads of PyTorch (default: what is faster of one and all)",
        )
    parser.add_argument(
        "--pairs", type=int, default=plan.pairs, help="desired number of undisturbed A B pairs"
    )
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="length of a repetition")
    parser.add_argument("--warm-up", type=float, default=plan.warm_up, help="seconds before the first pair")
    parser.add_argument(
        "--tolerance", type=float, default=plan.tolerance, help="processors of other load that drop a pair"
    )
    parser.add_argument("--no-save", action="store_true", help="write no JSON to benchmarks/results")
    return parser


def check_only(parser: argparse.ArgumentParser, wanted: Sequence[str] | None, known: Sequence[str]) -> None:
    """Ends with a line of the parser's where `--only` names what is not known."""
    if unknown := set(wanted or ()) - set(known):
        parser.error(f"--only takes some of {', '.join(known)}; got {', '.join(sorted(unknown))}")


def plan_of(flags: argparse.Namespace) -> Plan:
    """The settings given by the flags."""
    return Plan(pairs=flags.pairs, seconds=flags.seconds, warm_up=flags.warm_up, tolerance=flags.tolerance)


def save(flags: argparse.Namespace, name: str, results: Mapping[str, Any]) -> None:
    """Writes `results`, flags, commit, versions and machine to `results/NAME.json`, unless `--no-save`."""
    if flags.no_save:
        return
    settings = {key: value for key, value in vars(flags).items() if key not in ("torch_python", "no_save")}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    origin = {"machine": machine(), "commit": commit_of(ROOT), "versions": versions(), "settings": settings}
    path.write_text(json.dumps({**origin, **results}, indent=1) + "\n")
    print(f"wrote {path.relative_to(ROOT)}")


def compile_to_byte_code() -> None:
    """Compiles the checkout's modules to byte code, as installing a package does: what starts is not to do it.

    Where `PYTHONDONTWRITEBYTECODE` is set, each start would compile them all again.
    """
    folders = [str(ROOT / name) for name in ("gan_jax", "experiments", "benchmarks")]
    subprocess.run([sys.executable, "-m", "compileall", "-q", *folders], check=True, cwd=ROOT)


def versions() -> dict[str, str]:
    """Python's and JAX's versions."""
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("jax", "jaxlib")},
    }


def commit_of(root: pathlib.Path, name: str = "HEAD") -> str:
    """The first digits of a commit of a checkout, marked where files of HEAD have changed; `unknown` without git.

    Results of benchmarks are none of these files: the next benchmark measures the same code.

    Raises:
      BenchmarkError: if the checkout has no such commit.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "--short=10", f"{name}^{{commit}}")
        changed = name == "HEAD" and git(
            "status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results"
        )
    except (OSError, subprocess.CalledProcessError) as error:
        if name == "HEAD":
            return "unknown"
        raise BenchmarkError(f"This checkout has no commit {name!r}.") from error
    return f"{commit} with changes" if changed else commit


def machine() -> dict[str, Any]:
    """The processor and how many of it there are."""
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {"processor": model, "processors": os.cpu_count(), "system": platform.system()}


def run(main: Callable[[], None]) -> None:
    """Runs a comparison's `main`; a comparison that cannot be made ends in one line."""
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
