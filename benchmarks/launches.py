"""How long a launch takes whose run is a single round, with an empty and a full compilation cache, beside PyTorch.

    python -m benchmarks.launches                            # about twenty minutes on a quiet machine
    python -m benchmarks.launches --only digits r3gan --repetitions 1
    python -m benchmarks.launches --torch-python=PYTHON      # the Python that has PyTorch, if another

Ours is `python launch.py --config=... --config.rounds=1` from its start to its end: imports, data (scikit-learn's
digits, or the ring), the compiled round, a checkpoint and a picture. A user's own cache is a folder that is empty
in the first launch of a repetition (cold) and full in the second (warm). PyTorch's is a process that imports it,
builds the same kind of game at 8 x 8 pixels (pix2pix's at 64 x 64) and plays one round, with neither data to read
nor anything to save. On a busy machine the processor time says more. Bars for images: 15 s cold, 6 s warm.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks import harness
from benchmarks.games import DCGAN, R3GAN, SNGAN, Digits, Pix2Pix, Ring, Spec, StyleGAN2
from gan_jax.tables import text_table

COLD_BAR, WARM_BAR = 15.0, 6.0
SMALL: dict[str, Any] = {"size": 8, "channels": 1, "width": 32, "examples": 1000}
IMAGES = ("--config=images", "--config.data=digits")


class Launch(NamedTuple):
    """What is launched.

    Attributes:
      flags: of the launcher.
      game: PyTorch's of the same kind.
    """

    flags: tuple[str, ...]
    game: Spec


LAUNCHES = {
    "digits": Launch(("--config=digits",), Digits()),
    "ring": Launch(("--config=ring",), Ring(objective="non_saturating")),
    "recipe": Launch(IMAGES, DCGAN(objective="hinge", **SMALL)),
    "dcgan": Launch(
        (*IMAGES, "--config.objective=non_saturating"), DCGAN(objective="non_saturating", **SMALL)
    ),
    "wgan_gp": Launch((*IMAGES, "--config.objective=wgan_gp"), DCGAN(objective="wgan_gp", **SMALL)),
    "resnet": Launch((*IMAGES, "--config.network=resnet", "--config.conditional=true"), SNGAN(**SMALL)),
    "r3gan": Launch((*IMAGES, "--config.network=r3gan"), R3GAN(**{**SMALL, "width": 16})),
    "stylegan2": Launch((*IMAGES, "--config.network=stylegan2"), StyleGAN2(**SMALL)),
    "translation": Launch(
        ("--config=translation", "--config.data=edges:digits"), Pix2Pix(**{**SMALL, "size": 64})
    ),
}


class Took(NamedTuple):
    """Seconds, of wall clock and of processor time."""

    seconds: float
    cpu_seconds: float


def launched(flags: Sequence[str], cache: pathlib.Path, workdir: pathlib.Path) -> Took:
    """One round of a launch, from its start to its end.

    Args:
      flags: of the launcher.
      cache: `$XDG_CACHE_HOME`, in which the compiled programs are kept.
      workdir: of the run.

    Raises:
      BenchmarkError: if the launch fails.
    """
    command = [sys.executable, "launch.py", *flags, "--config.rounds=1", f"--workdir={workdir}"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # one is the launcher's own where none is set
    before, start = harness.children_cpu_seconds(), time.perf_counter()
    done = subprocess.run(command, cwd=harness.ROOT, env=environment, capture_output=True, text=True)
    took = Took(time.perf_counter() - start, harness.children_cpu_seconds() - before)
    if done.returncode:
        raise harness.BenchmarkError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return took


def torch_started(game: Spec, python: str) -> Took:
    """PyTorch's first round, from the start of its process."""
    before, start = harness.children_cpu_seconds(), time.perf_counter()
    with harness.Worker(
        "torch", "benchmarks.torch_worker", dataclasses.replace(game, threads=1).to_json(), python=python
    ) as worker:
        worker.play(1)
        seconds = time.perf_counter() - start
    return Took(seconds, harness.children_cpu_seconds() - before)


def measured(launch: Launch, repetitions: int, python: str) -> dict[str, list[Took]]:
    """Cold and warm launches, and PyTorch's, each of so many repetitions in turn."""
    took: dict[str, list[Took]] = {"cold": [], "warm": [], "torch": []}
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name in ("cold", "warm"):
                took[name].append(launched(launch.flags, root / "cache", root / name))
        if python:
            took["torch"].append(torch_started(launch.game, python))
    return took


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(LAUNCHES), help="some of the launches")
    parser.add_argument(
        "--torch-python",
        default=os.environ.get(harness.TORCH_PYTHON, sys.executable),
        help=f"the Python that has PyTorch (default: ${harness.TORCH_PYTHON}, else the one that runs this); "
        "empty leaves it out",
    )
    parser.add_argument("--no-save", action="store_true", help="write no JSON to benchmarks/results")
    flags = parser.parse_args()
    harness.compile_to_byte_code()
    rows, kept = [["launch", "cold (s)", "warm (s)", "cold, processor", "warm, processor", "PyTorch (s)"]], {}
    for name in flags.only or LAUNCHES:
        took = measured(LAUNCHES[name], flags.repetitions, flags.torch_python)
        spreads = {
            (side, field): harness.Spread.from_values([getattr(each, field) for each in times])
            for side, times in took.items()
            if times
            for field in Took._fields
        }
        columns = [(side, field) for field in Took._fields for side in ("cold", "warm")]
        torch = spreads.get(("torch", "seconds"))
        rows.append(
            [name, *(str(spreads[column]) for column in columns), "-" if torch is None else str(torch)]
        )
        kept[name] = {
            f"{side} {field}": [round(x, 2) for x in spread] for (side, field), spread in spreads.items()
        }
    print(text_table(rows))
    print(f"bars of images: {COLD_BAR:g} s cold, {WARM_BAR:g} s warm")
    harness.save(flags, "launches", {"launches": kept})


if __name__ == "__main__":
    harness.run(main)
