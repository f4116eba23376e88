"""How long until something happens: importing the package, and the first finished round of the ring.

    python -m benchmarks.startup                             # about a minute on a quiet machine

The ring is `benchmarks.ring`'s -log D game (z 256, 2 x 128, batch 256), one round by `rollout`; the clock runs from
the start of the process until the round's loss has been printed, first with an empty compilation cache, then with
the one that was just filled. On a busy machine the processor time says more. Bars: 8 s cold, 4 s warm; `import
gan_jax` 1.5 s, and it must not import TensorFlow, matplotlib, scikit-learn or orbax.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from benchmarks import harness
from benchmarks.games import Ring
from gan_jax.tables import text_table

COLD_BAR, WARM_BAR, IMPORT_BAR = 8.0, 4.0, 1.5
TOLERANCE = 0.1
HEAVY = ("tensorflow", "matplotlib", "sklearn", "orbax")
FIRST_ROUND = """
import json, sys
from benchmarks import jax_worker
from gan_jax import init_state, rollout
import jax
game, source = jax_worker.build(json.loads(sys.argv[1]))
state, metrics = rollout(game, source, init_state(game, jax.random.key(0)), 1)
print(float(metrics["generator/loss"][0]), flush=True)
"""
IMPORT = """
import json, sys, time
start = time.perf_counter()
import gan_jax
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


class FirstLine(NamedTuple):
    """What a new Python printed first, after how many seconds, the processor time it took, and other load."""

    line: str
    seconds: float
    cpu_seconds: float
    other_load: float | None


def until_first_line(
    code: str, *arguments: str, cache: str | None = None, root: pathlib.Path = harness.ROOT
) -> FirstLine:
    """Starts a new Python in a checkout, this one by default, and waits for its first line."""
    environment = dict(os.environ)
    if cache is not None:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    load, before, start = harness.machine_load(), harness.children_cpu_seconds(), time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=environment,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    if not line:
        raise harness.BenchmarkError(
            f"The new Python ended with code {process.returncode}; its error is above."
        )
    cpu_seconds = harness.children_cpu_seconds() - before
    return FirstLine(line, seconds, cpu_seconds, harness.other_load(load, cpu_seconds))


def first_rounds(repetitions: int) -> dict[str, list[FirstLine]]:
    """The first round, cold and warm, from a new cache in every repetition."""
    spec = json.dumps(Ring(objective="non_saturating").to_json())
    lines: dict[str, list[FirstLine]] = {"cold": [], "warm": []}
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as cache:
            for name in lines:
                lines[name].append(until_first_line(FIRST_ROUND, spec, cache=cache))
    return lines


def imports(repetitions: int) -> tuple[list[FirstLine], list[str]]:
    """`import gan_jax`, its seconds without Python's own start; and which heavy packages it brought along."""
    lines = [until_first_line(IMPORT) for _ in range(repetitions)]
    answers: list[dict[str, Any]] = [json.loads(first.line) for first in lines]
    heavy = [name for name in HEAVY if name in answers[-1]["modules"]]
    timed = [first._replace(seconds=answer["seconds"]) for first, answer in zip(lines, answers, strict=True)]
    return timed, heavy


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--no-save", action="store_true", help="write no JSON to benchmarks/results")
    flags = parser.parse_args()
    harness.compile_to_byte_code()
    # The first process of all also fills the machine's file cache.
    until_first_line(IMPORT)
    lines, (imported, heavy) = first_rounds(flags.repetitions), imports(flags.repetitions)
    measured = {
        "cold": (lines["cold"], COLD_BAR),
        "warm": (lines["warm"], WARM_BAR),
        "import": (imported, IMPORT_BAR),
    }
    rows, kept = [["what", "seconds", "CPU seconds", "bar"]], {}
    for name, (firsts, bar) in measured.items():
        clean = [first for first in firsts if (first.other_load or 0.0) < TOLERANCE]
        trusted = 2 * len(clean) >= len(firsts)
        firsts = clean if trusted else firsts
        seconds = harness.Spread.from_values([first.seconds for first in firsts])
        cpu_seconds = harness.Spread.from_values([first.cpu_seconds for first in firsts])
        verdict = ("met" if seconds.median <= bar else "MISSED") if trusted else "not judged: other load"
        rows.append([name, str(seconds), str(cpu_seconds), f"{bar} {verdict}"])
        kept[name] = {
            "seconds": [round(x, 2) for x in seconds],
            "cpu_seconds": [round(x, 2) for x in cpu_seconds],
            "trusted": trusted,
            "bar": bar,
        }
    print(text_table(rows))
    print(f"import gan_jax brings {', '.join(heavy) or 'none'} of {', '.join(HEAVY)}")
    harness.save(flags, "startup", {**kept, "heavy_imports": heavy})


if __name__ == "__main__":
    harness.run(main)
