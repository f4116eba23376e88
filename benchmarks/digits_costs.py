"""What logging and checkpointing cost the digits run.

    python -m benchmarks.digits_costs                  # 20 pairs each, about twenty minutes on a quiet machine

Plays the default experiment in turns, A B A B: at its default cadence and without logs and pictures; with a
checkpoint every 500 rounds and with none. Prints, and writes to benchmarks/results/digits_costs.json, the median of
the ratios of seconds a round. The start, compilation, the first picture and the final save are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable

from benchmarks import harness
from experiments import digits
from gan_jax.cli.command_line import keep_compiled_programs
from gan_jax.runs import loop, rounds
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import Experiment

NEVER = 10**9
WARM = 2100


def seconds_a_round(experiment: Experiment) -> float:
    """Trains in a new work directory; wall seconds a round between round 2,100 and the last dispatch."""
    stamps: list[tuple[int, float]] = []
    original = rounds.rounds_until

    def stamped(experiment: Experiment, step: int, most: int, cuts: Iterable[int] = ()) -> int:
        stamps.append((step, time.perf_counter()))
        return original(experiment, step, most, cuts)

    rounds.rounds_until = stamped
    try:
        with tempfile.TemporaryDirectory() as directory:
            loop.train(experiment, Workdir(pathlib.Path(directory) / "run"), log=lambda text: None)
    finally:
        rounds.rounds_until = original
    warm = [stamp for stamp in stamps if stamp[0] >= WARM]
    (first, began), (last, ended) = warm[0], warm[-1]
    return (ended - began) / (last - first)


def compare(name: str, a: Callable[[], float], b: Callable[[], float], pairs: int) -> dict[str, object]:
    """The median of a / b over `pairs` pairs, after one that does not count."""
    a(), b()
    ratios = []
    for pair in range(pairs):
        first, second = (a, b) if pair % 2 == 0 else (b, a)
        first_seconds, second_seconds = first(), second()
        ratio = first_seconds / second_seconds
        ratios.append(ratio if first is a else 1 / ratio)
    row = {
        "comparison": name,
        "median": statistics.median(ratios),
        "min": min(ratios),
        "max": max(ratios),
        "pairs": pairs,
    }
    print(f"{name}: median {row['median']:.4f}, {row['min']:.3f} to {row['max']:.3f}, {pairs} pairs")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=6000)
    parser.add_argument("--only", choices=("logging", "checkpoints"), help="one of the two comparisons")
    parser.add_argument("--no-save", action="store_true", help="write no JSON to benchmarks/results")
    arguments = parser.parse_args()
    keep_compiled_programs()
    config = digits.get_config()
    base = dataclasses.replace(digits.build(config), rounds=arguments.rounds, checkpoint_every=0)
    bare = dataclasses.replace(base, log_every=NEVER, sample_every=0)
    saving = dataclasses.replace(bare, checkpoint_every=500)
    variants = {
        "logging": ("logs and pictures at the default cadence", base),
        "checkpoints": ("a checkpoint every 500 rounds", saving),
    }
    rows = [
        compare(
            f"{name} / none",
            functools.partial(seconds_a_round, variant),
            functools.partial(seconds_a_round, bare),
            arguments.pairs,
        )
        for key, (name, variant) in variants.items()
        if arguments.only in (None, key)
    ]
    harness.save(arguments, "digits_costs", {"rows": rows})


if __name__ == "__main__":
    main()
