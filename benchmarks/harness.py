"""Runs two programs A B A B and compares their rates, on a machine that may have other things to do.

A program plays rounds on request and says how long they took: a callable in this process (`InProcess`) or a
long-lived subprocess (`Worker`), which may have an interpreter and an environment of its own, so that JAX and
PyTorch live in different virtual environments. `compare` warms both up, sizes repetitions to last equally long,
runs them in turns, drops every pair that other load touched and reports medians of the pairs' ratios.

Other load is what /proc/stat counted as busy or stolen beyond the program's own processor time. Where there is no
/proc/stat (not Linux) nothing is dropped, and the report says so.

This module imports nothing but the standard library: every worker imports it, whatever its environment holds.
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
from typing import Any, NamedTuple, Protocol

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TORCH_PYTHON = "BENCHMARK_TORCH_PYTHON"


class BenchmarkError(RuntimeError):
    """A comparison that cannot be made."""


class Played(NamedTuple):
    """One repetition.

    Attributes:
      rounds: how many were played.
      seconds: wall time.
      cpu_seconds: processor time of the program, all threads.
      other_load: processors that something else kept busy meanwhile, on average; `None` where unknown.
      report: what the program says of them, losses for instance.
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
    """Something that plays rounds when asked."""

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
        """Nothing to end."""


class Worker:
    """A subprocess `python -m module SPEC` that serves rounds (`serve`) until it is closed.

    Attributes:
      name: in tables.
      description: what the worker said of itself when it was ready.

    Raises:
      BenchmarkError: if the process cannot start, or ends before it is asked to; what it wrote is on stderr.
    """

    def __init__(
        self,
        name: str,
        module: str,
        spec: Mapping[str, Any],
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        try:
            self._process = subprocess.Popen(
                [python, "-m", module, json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
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
      description: sent once, when everything is built.
      play: `rounds -> report`, measured here.
      **calls: what else may be asked, by name.
    """
    # Whatever prints must not end up between the answers.
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
    """The most memory that this process has held so far, in MB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)}


class MachineLoad(NamedTuple):
    """Seconds since the machine started: on the wall, and of all processors busy or stolen."""

    wall: float
    busy: float


def machine_load() -> MachineLoad | None:
    """Reads /proc/stat; `None` where there is none."""
    try:
        fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields)
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return MachineLoad(time.perf_counter(), busy)


def other_load(before: MachineLoad | None, own_cpu_seconds: float) -> float | None:
    """Processors kept busy by anything but the program since `before`, on average."""
    after = machine_load()
    if before is None or after is None:
        return None
    return (after.busy - before.busy - own_cpu_seconds) / max(after.wall - before.wall, 1e-9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How a comparison is run.

    Attributes:
      pairs: how many untouched A B pairs are wanted.
      seconds: how long a repetition should last.
      warm_up: for how long each program plays before the first pair.
      tolerance: processors of other load from which a pair is dropped.
      patience: pairs tried at most, as a multiple of `pairs`.
    """

    pairs: int = 10
    seconds: float = 2.0
    warm_up: float = 3.0
    tolerance: float = 0.05
    patience: int = 3


class Spread(NamedTuple):
    """Median and extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one value or more."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of a comparison.

    Attributes:
      names: of the two programs.
      rates: rounds per second of wall time of each, medians.
      ratio: the first program's rate over the second's, pair by pair.
      cpu_ratio: the same of rounds per second of processor time, which other load touches less.
      clean: pairs that no other load touched.
      tried: pairs run.
      trusted: whether only clean pairs are counted; otherwise there were too few and all are.
      descriptions: what the programs said of themselves.
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
        """What is worth keeping, rounded."""
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
      first: ours; ratios above 1 say it is faster.
      second: what it is compared with.
      plan: how long and how often.

    Returns:
      Medians over the pairs that other load did not touch; over all pairs if fewer than half of those wanted
      were clean, in which case the comparison is not `trusted`.
    """
    rounds = [warmed_up(program, plan) for program in (first, second)]
    pairs: list[tuple[Played, Played]] = []
    clean: list[tuple[Played, Played]] = []
    while len(clean) < plan.pairs and len(pairs) < plan.pairs * plan.patience:
        pair = (first.play(rounds[0]), second.play(rounds[1]))
        pairs.append(pair)
        if all(untouched(played, plan.tolerance) for played in pair):
            clean.append(pair)
    trusted = 2 * len(clean) >= plan.pairs
    counted = clean if trusted else pairs
    return Comparison(
        names=(first.name, second.name),
        rates=(
            statistics.median(a.rate for a, _ in counted),
            statistics.median(b.rate for _, b in counted),
        ),
        ratio=Spread.of([a.rate / b.rate for a, b in counted]),
        cpu_ratio=Spread.of([a.cpu_rate / b.cpu_rate for a, b in counted]),
        clean=len(clean),
        tried=len(pairs),
        trusted=trusted,
        descriptions=(first.description, second.description),
        reports=(pairs[-1][0].report, pairs[-1][1].report),
    )


def untouched(played: Played, tolerance: float) -> bool:
    """Whether less than `tolerance` processors were busy with something else."""
    return played.other_load is None or played.other_load < tolerance


def warmed_up(program: Program, plan: Plan) -> int:
    """Plays until the program is warm; returns how many rounds then last `plan.seconds`."""
    rounds, spent, played = 1, 0.0, program.play(1)
    while spent < plan.warm_up:
        played = program.play(rounds)
        spent += played.seconds
        rounds = max(1, min(round(played.rate * plan.seconds), 10 * rounds))
    return max(1, round(played.rate * plan.seconds))


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive values.

    >>> round(geometric_mean([1.0, 4.0]), 6)
    2.0
    """
    return statistics.geometric_mean(values)


def pairs_cell(comparison: Comparison) -> str:
    """How many pairs were counted, and whether they are to be trusted."""
    cell = f"{comparison.clean}/{comparison.tried}"
    return cell if comparison.trusted else f"{cell} TOUCHED"


def verdict(comparison: Comparison, bar: float) -> str:
    """Whether the median ratio reaches `bar`; pairs that other load touched prove neither."""
    if not comparison.trusted:
        return f"{bar} not judged"
    return f"{bar} met" if comparison.ratio.median >= bar else f"{bar} MISSED"


def arguments(description: str | None, *, torch: bool = True, **defaults: Any) -> argparse.ArgumentParser:
    """The flags that every comparison has.

    Args:
      description: of the comparison, shown by `--help`.
      torch: whether PyTorch is one of the sides, and so its flags are there.
      **defaults: of `Plan`'s fields, where they differ.
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
    parser.add_argument("--pairs", type=int, default=plan.pairs, help="untouched A B pairs wanted")
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="length of a repetition")
    parser.add_argument("--warm-up", type=float, default=plan.warm_up, help="seconds before the first pair")
    parser.add_argument(
        "--tolerance", type=float, default=plan.tolerance, help="processors of other load that drop a pair"
    )
    parser.add_argument("--no-save", action="store_true", help="write no JSON to benchmarks/results")
    return parser


def plan_of(flags: argparse.Namespace) -> Plan:
    """The plan that the flags ask for."""
    return Plan(pairs=flags.pairs, seconds=flags.seconds, warm_up=flags.warm_up, tolerance=flags.tolerance)


def save(flags: argparse.Namespace, name: str, results: Mapping[str, Any]) -> None:
    """Writes `results`, the flags and the machine to `benchmarks/results/NAME.json`, unless `--no-save`."""
    if flags.no_save:
        return
    settings = {key: value for key, value in vars(flags).items() if key not in ("torch_python", "no_save")}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "settings": settings, **results}, indent=1) + "\n")
    print(f"wrote {path.relative_to(ROOT)}")


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
