"""Seconds and memory of the metrics at the sizes of real evaluations, beside other implementations.

    python benchmarks/metrics_load.py                # every case once, ours
    python benchmarks/metrics_load.py --against      # with the other implementation, A B A B, medians
    python benchmarks/metrics_load.py prdc wasserstein

Every measurement runs in a process of its own; the memory is that process's peak, its data and imports included.
Processor seconds stand beside the wall's: on a machine with other work they are the ones to read.
The other Frechet distance is pytorch-fid's computation (numpy's covariance, scipy's matrix root), the other PRDC
is the `prdc` package.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent


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

    return frechet_interval(real, fake, resamples=10).high


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
    "frechet_bootstrap_10": Case(_FEATURES, _frechet_bootstrap, None, 300, 4),
    "kernel": Case(_FEATURES, _kernel, None, 30, 4),
    "prdc": Case(((10_000, 512), (10_000, 512)), _prdc, _other_prdc, 60, 2),
    "wasserstein": Case(((2048, 2), (2048, 2)), _wasserstein, _assignment, 1, 4),
}


def measure(name: str, who: str) -> dict[str, Any]:
    """One run in this process."""
    case = CASES[name]
    rng = np.random.default_rng(0)
    real = rng.standard_normal(case.shapes[0], dtype=np.float32)
    fake = 1.1 * rng.standard_normal(case.shapes[1], dtype=np.float32) + np.float32(0.1)
    run = case.ours if who == "ours" else case.other
    assert run is not None
    run(real[:64], fake[:64])  # imports, and a first call of everything
    start, processor = time.perf_counter(), time.process_time()
    value = run(real, fake)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"value": value, "seconds": seconds, "cpu_seconds": processor, "gibibytes": peak}


def in_a_process(name: str, who: str) -> dict[str, Any]:
    """`measure` in a fresh process."""
    command = [sys.executable, str(pathlib.Path(__file__).resolve()), "--child", name, who]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def report(name: str, against: bool, repetitions: int) -> None:
    """Measures one case and prints a line for each side."""
    case = CASES[name]
    sides = ["ours", "other"] if against and case.other else ["ours"]
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(repetitions):
        for side in sides:
            runs[side].append(in_a_process(name, side))
    for side, found in runs.items():
        seconds = statistics.median(run["seconds"] for run in found)
        processor = statistics.median(run["cpu_seconds"] for run in found)
        peak = max(run["gibibytes"] for run in found)
        limit = f"limit {case.seconds:g} s, {case.gibibytes:g} GiB" if side == "ours" else ""
        value = found[0]["value"]
        spent = f"{seconds:9.2f} s{processor:9.2f} cpu s{peak:7.2f} GiB"
        print(f"{name:<22}{side:<7}{spent}  value {value:<12.6g} {limit}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of the metrics at real sizes.")
    parser.add_argument("cases", nargs="*", help=f"some of {', '.join(CASES)}")
    parser.add_argument(
        "--against", action="store_true", help="measure the other implementations too, interleaved"
    )
    parser.add_argument("--repetitions", type=int, default=None, help="runs a side (1, or 2 with --against)")
    parser.add_argument("--child", nargs=2, metavar=("CASE", "WHO"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(*given.child)))
        return
    for name in given.cases or CASES:
        report(name, given.against, given.repetitions or (2 if given.against else 1))


if __name__ == "__main__":
    main()
