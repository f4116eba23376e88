"""Real runs: trains with the launcher from several seeds, scores the samples, keeps the numbers and a picture.

    python -m experiments.runs                       # lists them
    python -m experiments.runs dcgan_fashion         # trains one, into experiments/results
    python -m experiments.runs dcgan_fashion wgan_gp_fashion --seeds 3 --jobs 2
    python -m experiments.runs all

Runs of Fashion-MNIST are stopped after a quarter of an hour of processor time, so that recipes are compared at
equal cost; the commands that are kept name the rounds that were reached, and train the same again. The samples are
compared with the 10,000 test images, which no generator was trained on, those of the digits with the 1,797 that
there are; the score of real images against real ones stands beside. Fashion-MNIST is read from TFDS's files, made
of those of Debian's package `dataset-fashion-mnist` by

    python -m gan_jax.data.prepare fashion_mnist --from=/usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import queue
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil

from experiments.runs import garments
from experiments.studies.framework import provenance
from gan_jax.data import load
from gan_jax.functional.intervals import student_interval
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"
WORK = pathlib.Path("runs")
"""Below the root: what is trained and compared."""
DIGITS = WORK / "digits.npz"
GARMENTS = WORK / "garments"
OTHER_GARMENTS = WORK / "garments.npz"
FASHION = ("--real=tfds:fashion_mnist@test", "--extractor=classifier:fashion_mnist", "--num_samples=10000")


class RealRun(NamedTuple):
    """A training and what its samples are compared with.

    Attributes:
      experiment: a file of `experiments`.
      flags: of the launcher, for the training.
      compare: its flags for the comparison.
      minutes: of processor time after which the training is stopped; 0 does not stop it.
      prepare: writes the data of the training and of the comparison, as far as they do not exist.
    """

    experiment: str
    flags: tuple[str, ...] = ()
    compare: tuple[str, ...] = FASHION
    minutes: float = 0.0
    prepare: Callable[[], None] = lambda: None


def write_digits() -> None:
    """The 1,797 digits as a file.

    Raises:
      SystemExit: if another file of this name is there.
    """
    images = np.asarray(load("digits")["x"])
    if not (ROOT / DIGITS).exists():
        np.savez(ROOT / DIGITS, images)
        return
    # A file of another kind raises anything.
    with contextlib.suppress(Exception), np.load(ROOT / DIGITS, allow_pickle=False) as stored:
        if stored.files == ["arr_0"] and np.array_equal(stored["arr_0"], images):
            return
    raise SystemExit(f"{DIGITS} is there, and not the digits that this command has written: move it.")


def write_garments() -> None:
    """The coloured garments: a folder of 3,000 to train on, a file of 3,000 others."""
    garments.write(ROOT / GARMENTS, ROOT / OTHER_GARMENTS)


MINUTES = 15.0
ENDLESS = 1_000_000
"""Rounds that no run which is stopped by its time reaches."""
GARMENTS_FLAGS = (
    f"--config.data={GARMENTS}",
    "--config.size=64",
    "--config.held_out=0",
    "--config.width=16",
    "--config.objective=non_saturating",
    "--config.critic_norm=spectral",
)
GARMENTS_COMPARISON = (f"--real={OTHER_GARMENTS}", f"--extractor=classifier:{GARMENTS}", "--num_samples=3000")
OF_2018 = ("--config.network=dcgan", "--config.width=32")
RUNS: Mapping[str, RealRun] = {
    "recipe_fashion": RealRun("images", minutes=MINUTES),
    "dcgan_fashion": RealRun(
        "images",
        (*OF_2018, "--config.objective=non_saturating", "--config.batch_size=64", "--config.ema=0.999"),
        minutes=MINUTES,
    ),
    "wgan_gp_fashion": RealRun(
        "images",
        (
            *OF_2018,
            "--config.objective=wgan_gp",
            "--config.batch_size=32",
            "--config.learning_rate=2e-4",
            "--config.ema=0.999",
        ),
        minutes=MINUTES,
    ),
    "sngan_hinge_fashion": RealRun(
        "images",
        (*OF_2018, "--config.objective=hinge", "--config.batch_size=64", "--config.ema=0.999"),
        minutes=MINUTES,
    ),
    "resnet_digits": RealRun(
        "images",
        (
            "--config.data=digits",
            "--config.network=resnet",
            "--config.conditional=true",
            "--config.ema=0.99",
            "--config.rounds=4000",
        ),
        (f"--real={DIGITS}", "--extractor=classifier:digits", "--num_samples=1797"),
        prepare=write_digits,
    ),
    "pix2pix_fashion": RealRun(
        "translation", ("--config.width=16", "--config.batch_size=16", "--config.rounds=3000")
    ),
    # With this weight Adam's step is that of L1 by itself.
    "l1_fashion": RealRun(
        "translation",
        ("--config.width=16", "--config.batch_size=16", "--config.rounds=3000", "--config.l1=1e6"),
    ),
    "garments": RealRun("images", GARMENTS_FLAGS, GARMENTS_COMPARISON, MINUTES, write_garments),
    "garments_ada": RealRun(
        "images",
        (*GARMENTS_FLAGS, "--config.augment=bgc", "--config.adaptive=true"),
        GARMENTS_COMPARISON,
        MINUTES,
        write_garments,
    ),
}


def workdir_of(name: str, seed: int) -> pathlib.Path:
    """Where a seed is trained, below the repository's root."""
    return WORK / f"{name}-{seed}"


def training(name: str, seed: int, rounds: int | None = None) -> list[str]:
    """The command that trains a seed, for `rounds` where they are given."""
    return [
        "launch.py",
        f"--config=experiments/{RUNS[name].experiment}.py",
        *RUNS[name].flags,
        *([] if rounds is None else [f"--config.rounds={rounds}"]),
        f"--config.seed={seed}",
        f"--workdir={workdir_of(name, seed)}",
    ]


def comparison(name: str, seeds: int) -> list[str]:
    """The command that scores the samples of all seeds."""
    fakes = ",".join(str(workdir_of(name, seed)) for seed in range(seeds))
    scores = WORK / f"{name}.json"
    return [
        "launch.py",
        "--mode=compare",
        f"--fake={fakes}",
        *RUNS[name].compare,
        f"--scores={scores}",
        "--plot=",
    ]


def train(name: str, seed: int, cores: Sequence[int] = ()) -> dict[str, Any]:
    """Trains a seed, from its newest checkpoint if it has one; what it took, with the launches before.

    Args:
      name: of the run.
      seed: the seed.
      cores: the ones that it may use; all if empty.

    Raises:
      SystemExit: if the training fails, or is one of a given time and has gone on for a time that is not recorded.
    """
    minutes = RUNS[name].minutes
    kept = ROOT / f"{workdir_of(name, seed)}.json"
    before = json.loads(kept.read_text()) if kept.exists() else {"seconds": 0.0, "processor_seconds": 0.0}
    left = 60 * minutes - before["processor_seconds"] if minutes else math.inf
    if minutes and (trained := _rounds(name, seed)) > before.get("rounds", 0):
        raise SystemExit(
            f"{workdir_of(name, seed)} is trained to round {trained}, and the time which that took is not recorded "
            "(this command was killed, say): remove it, and it is trained anew."
        )
    if left <= 0:
        return before
    began = time.perf_counter()
    command = [sys.executable, *training(name, seed, ENDLESS if minutes else None)]
    process = psutil.Popen(command, cwd=ROOT)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, cores)
    used = _watch(process, left)
    total = {
        "seconds": round(before["seconds"] + time.perf_counter() - began),
        "processor_seconds": round(before["processor_seconds"] + used),
        "rounds": _rounds(name, seed),
    }
    kept.write_text(json.dumps(total))
    if process.returncode:
        raise SystemExit(f"{name}, seed {seed}: {shlex.join(command)} ended with {process.returncode}.")
    return total


def _watch(process: psutil.Popen, seconds: float) -> float:
    """Waits for a process, which is asked to stop after so many seconds of processor time; what it used of it."""
    used, asked = 0.0, False
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):  # it has just ended
            times = process.cpu_times()
            used = times.user + times.system
        if used >= seconds and not asked:
            process.terminate()
            asked = True
        time.sleep(0.2)
    return used


def _rounds(name: str, seed: int) -> int:
    """The round of the newest checkpoint; 0 where there is none."""
    workdir = Workdir(ROOT / workdir_of(name, seed))
    if not workdir.checkpoints.is_dir():
        return 0
    with Checkpoints(workdir.checkpoints) as checkpoints:
        return max(checkpoints.steps(), default=0)


def summary(compared: Mapping[str, Any]) -> dict[str, Any]:
    """Of a comparison of several seeds: each score's mean with its 95 % interval over the seeds, and its floor.

    >>> one, two = ({"scores": {"frechet": [value, 0.0, 9.0]}} for value in (1.0, 3.0))
    >>> floor = {"scores": {"frechet": [0.5, 0.4, 0.6]}}
    >>> summary({"fakes": {"a": one, "b": two}, "floors": {"real against real": floor}})["frechet"]["mean"]
    2.0
    """
    columns = [column["scores"] for column in compared["fakes"].values()]
    floors = compared["floors"].get("real against real", {}).get("scores", {})
    found = {}
    for metric in columns[0]:
        values = np.array([column[metric][0] for column in columns], float)
        mean, low, high = (float(bound) for bound in student_interval(values))
        found[metric] = {"mean": mean, "interval": [low, high], "floor": floors.get(metric)}
    return found


def finish(name: str, seeds: int, took: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores the seeds of a run, and keeps the numbers and the picture of the first."""
    command = comparison(name, seeds)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    compared = json.loads((ROOT / WORK / f"{name}.json").read_text())
    commands = [
        shlex.join(["python", *training(name, seed, took[seed]["rounds"] if RUNS[name].minutes else None)])
        for seed in range(seeds)
    ]
    this = f"python -m experiments.runs {name} --seeds {seeds}"
    kept = {
        "run": name,
        "launch": provenance.launch(f"experiments.{RUNS[name].experiment}", this),
        "commands": [*commands, shlex.join(["python", *command])],
        "seeds": list(took),
        "scores": summary(compared),
        "comparison": compared,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    shutil.copyfile(picture(name), RESULTS / f"{name}.png")
    return kept


def picture(name: str) -> pathlib.Path:
    """The file of a picture of what the first seed makes in the end; of translated images, the last in training."""
    folder = ROOT / workdir_of(name, 0)
    if RUNS[name].experiment == "images":
        command = [sys.executable, "launch.py", "--mode=sample", f"--workdir={folder}", "--num_samples=100"]
        subprocess.run(command, cwd=ROOT, check=True)
        return max((folder / "samples").glob("sampled_*.png"))
    return max((folder / "samples").glob("samples_*.png"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="of the runs; all of them with 'all'; none lists them")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 on (default 3)")
    parser.add_argument("--jobs", type=int, default=1, help="how many are trained side by side (default 1)")
    given = parser.parse_args(arguments)
    if not given.names:
        for name in RUNS:
            tell(f"{name}: python {shlex.join(training(name, 0))}")
        return 0
    if unknown := set(given.names) - {*RUNS, "all"}:
        print(f"There is no run {min(unknown)!r}: choose of {', '.join(RUNS)}, all.", file=sys.stderr)
        return 2
    if given.seeds < 2 or given.jobs < 1:
        print(f"--seeds is 2 or more, --jobs 1, got {given.seeds} and {given.jobs}.", file=sys.stderr)
        return 2
    names = list(RUNS) if "all" in given.names else given.names
    (ROOT / WORK).mkdir(exist_ok=True)
    for name in names:
        RUNS[name].prepare()
    every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    parts: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for place in range(given.jobs):
        parts.put(every[place :: given.jobs])

    def on_its_cores(task: tuple[str, int]) -> dict[str, Any]:
        part = parts.get()
        try:
            return train(*task, part)
        finally:
            parts.put(part)

    with concurrent.futures.ThreadPoolExecutor(given.jobs) as threads:
        took = list(
            threads.map(on_its_cores, [(name, seed) for name in names for seed in range(given.seeds)])
        )
    for place, name in enumerate(names):
        kept = finish(name, given.seeds, took[place * given.seeds : (place + 1) * given.seeds])
        for metric, score in kept["scores"].items():
            print(
                f"{name}: {metric} {score['mean']:.4g} {score['interval']}, real {score['floor']}", flush=True
            )
    return 0
