"""DCGANs of width 64 at batch 64: gan_jax against tuned PyTorch and against Flax's stock convolutions.

    python -m benchmarks.convolutions                        # about 25 minutes on a quiet machine
    python -m benchmarks.convolutions --torch-python PATH    # PyTorch in another virtual environment
    python -m benchmarks.convolutions --check                # is it the same game on both sides?
    python -m benchmarks.convolutions --devices 2            # ours on two virtual devices that share the batch
    python -m benchmarks.convolutions --devices 2 --against one --only 32x32x3:wgan_gp:1    # what that gains
    python -m benchmarks.convolutions --only 28x28x1:wgan_gp:1 --against torch --no-save

Images of 28 x 28 x 1 and 32 x 32 x 3 from a data set in memory (ours uint8, PyTorch's float), z of 128;
-log D and clipping with batch normalisation in both players, WGAN-GP without it in the critic, with 1 and 5
critic turns a round. PyTorch runs in channels-last memory, stock Flax turn by turn (within a loop it is slower by
far). The share is that of the fastest float32 matrix product in the same run, counting only the useful
multiply-adds of the mathematics.

Bars, times PyTorch's rate: WGAN-GP 1.4, -log D and clipping 1.15; on two virtual devices WGAN-GP 1.2, the others 1.
Times stock Flax convolutions': 2.8 everywhere. Goal for the share: 70 %. Memory is each side's peak resident size
above that after its imports, in MB, and their ratio; bar 1.15.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import Any

from benchmarks import harness, versus
from benchmarks.games import DCGAN
from gan_jax.tables import text_table

PLAYED = (("non_saturating", 1), ("wgan", 1), ("wgan_gp", 1), ("wgan_gp", 5))
GAMES = [
    DCGAN(size=size, channels=channels, objective=objective, n_critic=n)
    for size, channels in ((28, 1), (32, 3))
    for objective, n in PLAYED
]
OWN_BARS = {"flax": 2.8, "one": 1.0}
"""Of ours on Flax's stock convolutions, and of ours on one device."""
MEMORY_BAR, SHARE_GOAL = 1.15, 0.7
HEADING = [
    "game",
    "against",
    "gan_jax rounds/s",
    "rounds/s",
    "ratio",
    "CPU-time ratio",
    "share",
    "memory",
    "pairs",
    "bar",
]


def bar_of(game: DCGAN, against: str) -> float:
    """The ratio that is to be reached."""
    if against in OWN_BARS:
        return OWN_BARS[against]
    if game.devices > 1:
        return 1.2 if game.objective == "wgan_gp" else 1.0
    return 1.4 if game.objective == "wgan_gp" else 1.15


def opponent(game: DCGAN, against: str, torch_python: str) -> harness.Worker:
    """PyTorch's program, ours on Flax's stock convolutions, or ours on one device."""
    if against == "torch":
        return versus.torchs(game, torch_python)
    if against == "one":
        return versus.ours(dataclasses.replace(game, devices=1), "one device")
    return versus.ours(dataclasses.replace(game, convolutions="flax", devices=1), "flax")


def measure(game: DCGAN, against: str, flags: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """Compares one game with one opponent: a line of the table, and the results for the file."""
    plan, bar = harness.plan_of(flags), bar_of(game, against)
    if against == "flax":
        # Stock convolutions are so far behind that a few slow pairs suffice.
        plan = dataclasses.replace(plan, pairs=min(plan.pairs, 3))
    with versus.ours(game) as mine, opponent(game, against, flags.torch_python) as other:
        peak = mine.ask("peak")["gflops"]
        result = harness.compare(mine, other, plan)
        peak = max(peak, mine.ask("peak")["gflops"])
    peak_fraction = game.flops * result.rates[0] / 1e9 / peak
    memory = versus.memory_above_import(result)
    memory_ratio = memory[0] / memory[1]
    line = [
        game.label,
        against,
        f"{result.rates[0]:.3g}",
        f"{result.rates[1]:.3g}",
        str(result.ratio),
        str(result.cpu_ratio),
        f"{peak_fraction:.0%} of {peak:.0f}",
        f"{memory[0]:.0f} / {memory[1]:.0f}, {memory_ratio:.2f}",
        harness.pairs_cell(result),
        harness.verdict(result, bar),
    ]
    kept = {
        **result.to_json(),
        "bar": bar,
        "gflop_a_round": round(game.flops / 1e9, 3),
        "gemm_peak_gflops": round(peak),
        "share_of_peak": round(peak_fraction, 3),
        "mb_above_import": [round(mb, 1) for mb in memory],
        "memory_ratio": round(memory_ratio, 3),
    }
    return line, kept


def main() -> None:
    """Runs the comparisons and prints their table."""
    parser = versus.arguments(__doc__, seconds=4.0, warm_up=6.0, pairs=7)
    parser.add_argument("--against", nargs="+", choices=("torch", "flax", "one"), default=["torch", "flax"])
    parser.add_argument("--devices", type=int, default=1, help="virtual devices of our side")
    parser.add_argument(
        "--parallelism", choices=("jit", "pmap"), default="jit", help="how the batch is sharded"
    )
    flags = parser.parse_args()
    games = [
        dataclasses.replace(game, devices=flags.devices, parallelism=flags.parallelism)
        for game in versus.chosen(parser, flags, GAMES)
    ]
    if flags.check:
        versus.print_checks(games, flags.torch_python)
        return
    rows, results = [HEADING], {}
    for game in games:
        for against in flags.against:
            line, kept = measure(game, against, flags)
            rows.append(line)
            results[f"{game.label} / {against}"] = kept
            print(f"{game.label} against {against}: {line[4]}", file=sys.stderr, flush=True)
    print(text_table(rows))
    print(f"memory bar {MEMORY_BAR} (against torch), goal for the share {SHARE_GOAL:.0%}")
    name = (
        "convolutions" if flags.devices == 1 else f"convolutions_{flags.devices}_devices_{flags.parallelism}"
    )
    harness.save(flags, name, {"games": results, "memory_bar": MEMORY_BAR, "share_goal": SHARE_GOAL})


if __name__ == "__main__":
    harness.run(main)
