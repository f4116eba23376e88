"""Seconds and memory of the metrics at the sizes of real evaluations, beside other implementations.

    python -m benchmarks.metrics_load                # every case, with the other implementation A B A B: 15 minutes
    python -m benchmarks.metrics_load --ours-only    # ours once each
    python -m benchmarks.metrics_load prdc wasserstein --no-save

Every measurement runs in a process of its own; the memory is that process's peak, its data and imports included.
Processor seconds stand beside the wall's, and what else the machine did; a run beside other load is not judged.
The other Frechet distance is pytorch-fid's computation (numpy's covariance, scipy's matrix root), the other PRDC
is the `prdc` package. `wasserstein` is solved by POT (the `metrics` extra), `wasserstein_assignment` by scipy, as
it is where POT is not installed. The bootstrap of 50,000 x 2,048 features has a limit set by this project.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import harness

TOUCHED = 0.1
"""Processors of other load beside which a run is not judged."""


class Case(NamedTuple):
    """A load, what it may take, and who else can do it.

    Attributes:
      shapes: of the real and of the fake samples.
      ours: `(real, fake) -> number`.
      other: the same from elsewhere, or None.
      seconds: at most.
      gibibytes: at most.
    """

    shapes: tuple[tuple[int, int], tuple[int, int]]
    ours: Callable[[np.ndarray, np.ndarray], float]
    other: Callable[[np.ndarray, np.ndarray], float] | None
    seconds: float
    gibibytes: float


def _frechet(real: np.ndarray, fake: np.ndarray) -> float:
    from gan_jax.metrics import frechet_distance

    return frechet_distance(real, fake)


def _other_frechet(real: np.ndarray, fake: np.ndarray) -> float:
    from scipy import linalg

    p, q = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    shift = real.mean(0) - fake.mean(0)
    root = linalg.sqrtm(p @ q)
    return float(shift @ shift + np.trace(p) + np.trace(q) - 2 * np.trace(root.real))


def _frechet_bootstrap(real: np.ndarray, fake: np.ndarray) -> float:
    from gan_jax.metrics import frechet_interval

    return frechet_interval(real, fake).high


def _kernel(real: np.ndarray, fake: np.ndarray) -> float:
    from gan_jax.metrics import kernel_distance

    return kernel_distance(real, fake).value


def _prdc(real: np.ndarray, fake: np.ndarray) -> float:
    from gan_jax.metrics import precision_recall_density_coverage

    return precision_recall_density_coverage(real, fake)["density"]


def _other_prdc(real: np.ndarray, fake: np.ndarray) -> float:
    import contextlib
    import io

    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):
        return float(compute_prdc(real, fake, nearest_k=5)["density"])


def _wasserstein(real: np.ndarray, fake: np.ndarray) -> float:
    from gan_jax.metrics import wasserstein

    return wasserstein(real, fake)


def _assignment(real: np.ndarray, fake: np.ndarray) -> float:
    from gan_jax.metrics import wasserstein

    return wasserstein(real, fake, solver="assignment")


_FEATURES = ((50_000, 2048), (50_000, 2048))
CASES = {
    "frechet": Case(_FEATURES, _frechet, _other_frechet, 15, 4),
    "frechet_bootstrap": Case(_FEATURES, _frechet_bootstrap, None, 300, 4),
    "kernel": Case(_FEATURES, _kernel, None, 30, 4),
    "prdc": Case(((10_000, 512), (10_000, 512)), _prdc, _other_prdc, 60, 2),
    "wasserstein": Case(((2048, 2), (2048, 2)), _wasserstein, None, 1, 4),
    "wasserstein_assignment": Case(((2048, 2), (2048, 2)), _assignment, None, 1, 4),
}


def measure(name: str, who: str) -> dict[str, Any]:
    """One run in this process."""
    case = CASES[name]
    rng = np.random.default_rng(0)
    real = rng.standard_normal(case.shapes[0], dtype=np.float32)
    fake = 1.1 * rng.standard_normal(case.shapes[1], dtype=np.float32) + np.float32(0.1)
    run = case.ours if who == "ours" else case.other
    assert run is not None
    run(real[:64, :8], fake[:64, :8])  # imports, and a first call of everything
    load = harness.machine_load()
    start, processor = time.perf_counter(), time.process_time()
    value = run(real, fake)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return {
        "value": value,
        "seconds": seconds,
        "cpu_seconds": processor,
        "gibibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "other_load": harness.other_load(load, processor),
    }


def in_a_process(name: str, who: str) -> dict[str, Any]:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.metrics_load", "--child", name, who]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=harness.ROOT
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(name: str, sides: tuple[str, ...], repetitions: int) -> dict[str, Any]:
    """Measures one case, prints a line for each side, and returns the results for the file."""
    case = CASES[name]
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(repetitions):
        for side in sides:
            runs[side].append(in_a_process(name, side))
    kept: dict[str, Any] = {"limit_seconds": case.seconds, "limit_gibibytes": case.gibibytes}
    for side, measured in runs.items():
        kept[side] = {
            key: round(statistics.median(run[key] for run in measured), 3)
            for key in ("seconds", "cpu_seconds")
        } | {"gibibytes": round(max(run["gibibytes"] for run in measured), 3), "value": measured[0]["value"]}
    quiet = all((run["other_load"] or 0.0) < TOUCHED for measured in runs.values() for run in measured)
    ours = kept["ours"]
    met = ours["seconds"] <= case.seconds and ours["gibibytes"] <= case.gibibytes
    kept["repetitions"], kept["trusted"] = repetitions, quiet
    if "other" in runs:
        ratios = [b["seconds"] / a["seconds"] for a, b in zip(runs["ours"], runs["other"], strict=True)]
        kept["times_faster"] = [round(x, 2) for x in harness.Spread.from_values(ratios)]
        met = met and kept["times_faster"][0] > 1
    kept["verdict"] = ("met" if met else "MISSED") if quiet else "not judged"
    for side in sides:
        row = kept[side]
        spent = f"{row['seconds']:9.2f} s{row['cpu_seconds']:9.2f} cpu s{row['gibibytes']:7.2f} GiB"
        limit = (
            f"limit {case.seconds:g} s, {case.gibibytes:g} GiB {kept['verdict']}" if side == "ours" else ""
        )
        print(f"{name:<24}{side:<7}{spent}  value {row['value']:<12.6g} {limit}", flush=True)
    return kept


def main() -> None:
    """Measures the cases and prints their table."""
    parser = argparse.ArgumentParser(description="Seconds and memory of the metrics at real sizes.")
    parser.add_argument("cases", nargs="*", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--ours-only", action="store_true", help="without the other implementations")
    parser.add_argument(
        "--repetitions", type=int, default=None, help="runs a side (3, or 1 with --ours-only)"
    )
    parser.add_argument("--no-save", action="store_true", help="write no JSON to benchmarks/results")
    parser.add_argument("--child", nargs=2, metavar=("CASE", "WHO"), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        print(json.dumps(measure(*flags.child)))
        return
    if unknown := set(flags.cases) - set(CASES):
        parser.error(f"cases are {', '.join(CASES)}; got {', '.join(sorted(unknown))}")
    results = {}
    for name in flags.cases or CASES:
        sides = ("ours", "other") if CASES[name].other and not flags.ours_only else ("ours",)
        # The bootstrap takes minutes, and is dozens of repetitions in itself.
        usual = 1 if flags.ours_only or name == "frechet_bootstrap" else 3
        results[name] = report(name, sides, flags.repetitions or usual)
    if flags.cases or flags.ours_only:
        print("nothing written: a part of the table is not the table")
    else:
        harness.save(flags, "metrics_load", {"cases": results})


if __name__ == "__main__":
    main()
