"""This checkout against another commit: is a round slower, a program longer to compile, a process larger?

    python -m benchmarks.all --quick                         # against main, about ten minutes on a quiet machine
    python -m benchmarks.all --against=v0.1.0 --pairs 10     # against a tag, with more pairs
    python -m benchmarks.all --quick --only ring digits      # some of the games

Both commits play the same games on the same machine in turn, A B A B, each with the benchmark's program of its
own (`benchmarks.jax_worker`): the perceptrons of the ring and of the digits, a DCGAN with a gradient penalty, a
ResNet with spectral normalisation and a U-Net. A ratio is what this checkout takes divided by what the other
takes: of a round's wall time and processor time, of peak memory, of the processor time of a first round with an
empty and a full compilation cache, and of `import gan_jax`. Above 1 is worse. On a machine with other load the
processor time says more. What is worse by more than `--slack` is marked, and the command exits with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import harness, startup
from benchmarks.games import DCGAN, SNGAN, Digits, Pix2Pix, Ring, Spec
from gan_jax.tables import text_table

GAMES: Mapping[str, Spec] = {
    "ring": Ring(objective="non_saturating"),
    "digits": Digits(),
    "dcgan": DCGAN(objective="wgan_gp", size=28, channels=1, learning_rate=1e-4),
    "resnet": SNGAN(),
    "unet": Pix2Pix(),
}
STARTED = ("ring", "digits", "dcgan")
"""Games whose first rounds are timed."""
PARTS = ("gan_jax", "experiments", "benchmarks", "launch.py")
WHERE = "import gan_jax; print(gan_jax.__file__)"
Ratios = dict[str, harness.Spread]


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[pathlib.Path]:
    """The files of a commit of this repository, in a folder that is removed afterwards.

    Raises:
      BenchmarkError: if there is no such commit, or its package is not the one that is imported there.
    """
    harness.commit_of(harness.ROOT, commit)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder).resolve()
        with subprocess.Popen(
            ["git", "archive", commit, *PARTS], cwd=harness.ROOT, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                archive.extractall(root, filter="data")
        found = startup.until_first_line(WHERE, root=root).line.strip()
        if not pathlib.Path(found).resolve().is_relative_to(root):
            raise harness.BenchmarkError(
                f"In a checkout of {commit} the package is that of {found}: unset PYTHONPATH."
            )
        yield root


def compare_rounds(spec: Spec, other: pathlib.Path, plan: harness.Plan) -> tuple[Ratios, bool]:
    """Wall time, processor time and peak memory of a game here, divided by those there; whether load was low."""
    with (
        harness.Worker("here", "benchmarks.jax_worker", spec.to_json()) as here,
        harness.Worker("there", "benchmarks.jax_worker", spec.to_json(), root=other) as there,
    ):
        result = harness.compare(here, there, plan)
    peaks = [report["peak_mb"] for report in result.reports]
    return {
        "wall time": inverse(result.ratio),
        "processor time": inverse(result.cpu_ratio),
        "peak memory": harness.Spread.from_values([peaks[0] / peaks[1]]),
    }, result.trusted


def compare_first_rounds(spec: Spec, other: pathlib.Path, repetitions: int) -> Ratios:
    """The processor time until a first round has been played here, cold and warm, divided by that there."""
    text = json.dumps(spec.to_json())
    pairs: dict[str, list[float]] = {"first round, cold": [], "first round, warm": []}
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
            for found in pairs.values():
                here = startup.until_first_line(startup.FIRST_ROUND, text, cache=ours)
                there = startup.until_first_line(startup.FIRST_ROUND, text, cache=theirs, root=other)
                found.append(here.cpu_seconds / there.cpu_seconds)
    return {name: harness.Spread.from_values(found) for name, found in pairs.items()}


def compare_imports(other: pathlib.Path, repetitions: int) -> Ratios:
    """The processor time of `import gan_jax` in a new process here, divided by that there."""
    found = []
    for _ in range(repetitions):
        here, there = (startup.until_first_line(startup.IMPORT, root=root) for root in (harness.ROOT, other))
        found.append(here.cpu_seconds / there.cpu_seconds)
    return {"import": harness.Spread.from_values(found)}


def inverse(spread: harness.Spread) -> harness.Spread:
    """The spread of the inverse ratios."""
    return harness.Spread(1 / spread.median, 1 / spread.high, 1 / spread.low)


def table(found: Mapping[str, Ratios], untrusted: Sequence[str], slack: float) -> tuple[str, int]:
    """The ratios, with a mark where this checkout is worse; and how many marks."""
    rows, worse = [["game", "what", "here / there", ""]], 0
    for game, ratios in found.items():
        for what, spread in ratios.items():
            loaded = game in untrusted and what == "wall time"
            marked = spread.median > 1 + slack and not loaded
            worse += marked
            rows.append([game, what, str(spread), "WORSE" if marked else "other load" if loaded else ""])
    return text_table(rows), worse


def main() -> None:
    """Compares and prints the table."""
    parser = harness.arguments(__doc__, torch=False, pairs=6)
    parser.add_argument(
        "--quick", action="store_true", help="short repetitions and few pairs: about ten minutes"
    )
    parser.add_argument("--against", default="main", help="the other commit (default: main)")
    parser.add_argument("--only", nargs="*", choices=tuple(GAMES), help="some of the games")
    parser.add_argument(
        "--slack", type=float, default=0.05, help="how much worse is no regression (default: .05)"
    )
    flags = parser.parse_args()
    if flags.quick:
        flags.pairs, flags.seconds, flags.warm_up = 3, 1.5, 1.5
    sys.exit(run(flags))


def run(flags: argparse.Namespace) -> int:
    """Runs all comparisons; 1 if something is worse."""
    chosen = flags.only or list(GAMES)
    repetitions = 2 if flags.quick else 4
    found: dict[str, Ratios] = {}
    untrusted = []
    with checkout(flags.against) as other:
        for name in chosen:
            found[name], trusted = compare_rounds(GAMES[name], other, harness.plan_of(flags))
            untrusted += [] if trusted else [name]
            if name in STARTED:
                found[name] |= compare_first_rounds(GAMES[name], other, repetitions)
            print(
                f"{name}: {', '.join(f'{what} {spread}' for what, spread in found[name].items())}",
                file=sys.stderr,
            )
        found["package"] = compare_imports(other, 2 * repetitions)
    text, worse = table(found, untrusted, flags.slack)
    print(text)
    kept: dict[str, Any] = {
        name: {what: [round(value, 3) for value in spread] for what, spread in ratios.items()}
        for name, ratios in found.items()
    }
    there = harness.commit_of(harness.ROOT, flags.against)
    harness.save(flags, "all", {"against": there, "ratios": kept, "other_load": untrusted})
    return 1 if worse else 0


if __name__ == "__main__":
    harness.run(main)
