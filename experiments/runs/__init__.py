"""Real runs: trains with the launcher, evaluates, and keeps the picture and the numbers.

    python -m experiments.runs                       # lists them
    python -m experiments.runs dcgan_fashion         # trains one, into experiments/results
    python -m experiments.runs all

Each is at most 15 minutes on two cores. Those on Fashion-MNIST read TFDS's files, made of those of Debian's
package `dataset-fashion-mnist` by

    python -m gan_jax.data.prepare fashion_mnist --from=/usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import argparse
import json
import pathlib
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"
IMAGES, TRANSLATION = "--config=experiments/images.py", "--config=experiments/translation.py"
RUNS = {
    "dcgan_fashion": (IMAGES,),
    "wgan_gp_fashion": (
        IMAGES,
        "--config.objective=wgan_gp",
        "--config.critic_norm=none",
        "--config.batch_size=32",
        "--config.learning_rate=2e-4",
        "--config.rounds=10000",
    ),
    "sngan_hinge_fashion": (IMAGES, "--config.objective=hinge", "--config.critic_norm=spectral"),
    "resnet_digits": (
        IMAGES,
        "--config.data=digits",
        "--config.network=resnet",
        "--config.conditional=true",
        "--config.objective=hinge",
        "--config.critic_norm=spectral",
        "--config.ema=0.99",
        "--config.rounds=4000",
    ),
    "pix2pix_fashion": (TRANSLATION, "--config.width=16", "--config.batch_size=16", "--config.rounds=3000"),
}
"""By name: the launcher's flags."""


def run(name: str, python: str = sys.executable) -> dict[str, Any]:
    """Trains one in `runs/NAME`, from its newest checkpoint if it has one, evaluates it, keeps what came out."""
    workdir = pathlib.Path("runs") / name
    train = ["launch.py", *RUNS[name], f"--workdir={workdir}"]
    evaluate = ["launch.py", "--mode=evaluate", f"--workdir={workdir}"]
    began = time.perf_counter()
    subprocess.run([python, *train], cwd=ROOT, check=True)
    seconds = time.perf_counter() - began
    processor = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, *evaluate], cwd=ROOT, check=True)
    (found,) = json.loads((ROOT / workdir / "evaluation.json").read_text())["checkpoints"]
    picture = max((ROOT / workdir / "samples").glob("samples_*.png"))
    RESULTS.mkdir(exist_ok=True)
    shutil.copyfile(picture, RESULTS / f"{name}.png")
    kept = {
        "commands": [shlex.join(["python", *command]) for command in (train, evaluate)],
        "training_seconds": round(seconds),
        "training_processor_seconds": round(processor.ru_utime + processor.ru_stime),
        **{part: found[part] for part in ("step", "evaluation_samples", "seed", "samples", "fingerprints")},
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="of the runs; all of them with 'all'; none lists them")
    names = parser.parse_args(arguments).names
    if not names:
        for name, flags in RUNS.items():
            print(f"{name}: python {shlex.join(['launch.py', *flags])}")
        return 0
    if unknown := set(names) - {*RUNS, "all"}:
        print(f"There is no run {min(unknown)!r}: choose of {', '.join(RUNS)}, all.", file=sys.stderr)
        return 2
    for name in RUNS if "all" in names else names:
        kept = run(name)
        print(f"{name}: {kept['training_seconds']} s; experiments/results/{name}.png and .json", flush=True)
    return 0
