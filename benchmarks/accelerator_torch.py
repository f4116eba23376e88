"""The stages of `benchmarks.accelerator` that compare with PyTorch: rounds of three games, and FID's network."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks import harness
from benchmarks.games import DCGAN, R3GAN, Spec, StyleGAN2

GAMES: Sequence[Spec] = (
    DCGAN(objective="non_saturating", size=64),
    R3GAN(width=256, batch_size=64),
    StyleGAN2(size=128, most=512, style=512, latent=512, batch_size=32, r1=0.1024),
)
SMALL: Sequence[Spec] = (
    DCGAN(objective="non_saturating", size=8, width=4, batch_size=8, examples=64),
    R3GAN(size=8, width=8, group_size=4, blocks=1, latent=4, batch_size=8, examples=64),
    StyleGAN2(size=8, width=4, most=8, style=8, layers=2, latent=4, batch_size=8, examples=64),
)
WITHOUT_TORCH: dict[str, Any] = {"skipped": "PyTorch is not installed"}
IMAGES, BATCH = 10_000, 256
"""Those whose features are computed, and how many at a time."""


def _device() -> str:
    """PyTorch's name of the platform; it compares on GPUs and CPUs."""
    return {"gpu": "cuda"}.get(jax.devices()[0].platform, "cpu")


def _torch_python() -> str | None:
    """The Python that has PyTorch: the one that the environment names, else this one if it has it."""
    here = sys.executable if importlib.util.find_spec("torch") is not None else None
    return os.environ.get(harness.TORCH_PYTHON, here)


def rounds(small: bool) -> dict[str, Any]:
    """Rounds against PyTorch's: channels-last memory, autocast for bfloat16, captured graphs on a GPU.

    What has been found is printed after every game, so that a stage that is cut off has given something.
    """
    python = _torch_python()
    if python is None:
        return WITHOUT_TORCH
    device = _device()
    plan = harness.Plan(
        pairs=2 if small else 4, seconds=0.1 if small else 2.0, warm_up=0.0 if small else 2.0, tolerance=1.0
    )
    bars = {"at least": {"geometric mean": 1.0, "each": 0.9}}
    found: dict[str, float] = {}
    for game in SMALL if small else GAMES:
        tuned = dataclasses.replace(game, torch_optimizer="fused", threads=int(small))
        for dtype in ("float32",) if device == "cpu" else ("float32", "bfloat16"):
            spec = {
                **tuned.to_json(),
                "platform": jax.devices()[0].platform,
                "device": device,
                "dtype": dtype,
            }
            with (
                harness.Worker("gan_jax", "benchmarks.jax_worker", spec) as ours,
                harness.Worker("torch", "benchmarks.torch_worker", spec, python=python) as theirs,
            ):
                result = harness.compare(ours, theirs, dataclasses.replace(plan, period=game.period))
            found[f"{game.label}/{dtype}"] = result.ratio[0]
            print(json.dumps({**bars, **found}), flush=True)
    return {**bars, **found, "geometric mean": harness.geometric_mean(list(found.values()))}


def inception(small: bool) -> dict[str, Any]:
    """FID's Inception network over 10,000 images of 32 pixels, in float32, against PyTorch's forward pass."""
    images, python = 4 if small else IMAGES, _torch_python()
    spec = {
        "images": images,
        "size": 32,
        "threads": int(small),
        "batch": 2 if small else BATCH,
        "device": _device(),
    }
    with harness.Worker("gan_jax", "benchmarks.inception_worker", {"who": "ours", **spec}) as ours:
        if python is None:
            ours.play(1)
            rate, versus = ours.play(1).rate, WITHOUT_TORCH
        else:
            folded = {"who": "folded", **spec}
            with harness.Worker("torch", "benchmarks.inception_worker", folded, python=python) as theirs:
                first, second = (worker.ask("features", number=2)["features"] for worker in (ours, theirs))
                plan = harness.Plan(pairs=2, seconds=0.0, warm_up=0.0, tolerance=1.0)
                result = harness.compare(ours, theirs, plan)
            rate = result.rates[0]
            versus = {"ratio": result.ratio[0], "difference": _difference(first, second), "at least": 1.0}
    return {"images/s": images * rate, "seconds of 10,000": IMAGES / (images * rate), **versus}


def _difference(first: list[list[float]], second: list[list[float]]) -> float:
    """The largest difference of features over the largest feature."""
    pairs = [
        (a, b) for row, other in zip(first, second, strict=True) for a, b in zip(row, other, strict=True)
    ]
    return max(abs(a - b) for a, b in pairs) / max(abs(b) for _, b in pairs)
