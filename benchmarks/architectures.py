"""Residual, image-to-image and modern networks: rounds and peak memory against tuned PyTorch.

    python -m benchmarks.architectures                        # about 15 minutes on a quiet machine
    python -m benchmarks.architectures --torch-python PATH    # PyTorch in another virtual environment
    python -m benchmarks.architectures --only r3gan:64:32x32x3 --no-save
    python -m benchmarks.architectures --check                # are R3GAN and StyleGAN2 the same game on both sides?

| game | what is played |
| --- | --- |
| SNGAN | residual networks of width 64 for 32 x 32 x 3, hinge, spectral normalisation in the critic, batch 32 |
| pix2pix | a U-Net of width 32 on 64 x 64 x 3 against the 70 x 70 PatchGAN, batch 16 |
| R3GAN | 32 x 32 x 3, width 64, 2 blocks a stage, groups of 16 channels, both penalties in every round, batch 16 |
| StyleGAN2 | 64 x 64 x 3, R1 every 16 rounds, path lengths every 4, style mixing, an average, batch 16 |

One turn of each player a round; a repetition of StyleGAN2 has a multiple of 16 rounds, so that each has its share
of regularisation steps. PyTorch runs in channels-last memory with fused optimisers and its own spectral
normalisation; R3GAN's critic sees real and fake in one call, resampling is by depthwise convolutions, StyleGAN2's
modulation scales activations, and second derivatives are those of `torch_convolution.py`. Both sides must have the
same numbers of parameters; ours fuses upsampling and mean pooling with the convolutions beside them
(`networks.conv_layers`). `--check` plays a round on both sides from the same parameters and draws.

The memory is each side's peak resident size above that after its imports, in MB, and their ratio. Bars: PyTorch's
rate, 1.25 times that as the goal for R3GAN and StyleGAN2; 1.15 times its memory, 1.3 times for these two.
"""

from __future__ import annotations

import dataclasses
import sys

from benchmarks import harness, versus
from benchmarks.games import R3GAN, SNGAN, Pix2Pix, Spec, StyleGAN2
from gan_jax.tables import text_table

GAMES: list[Spec] = [SNGAN(), Pix2Pix(), R3GAN(), StyleGAN2()]
MODERN = (R3GAN, StyleGAN2)
BAR, GOAL = 1.0, 1.25
MEMORY_BAR, MODERN_MEMORY_BAR = 1.15, 1.3
HEADING = [
    "game",
    "gan_jax rounds/s",
    "torch rounds/s",
    "ratio",
    "CPU-time ratio",
    "pairs",
    "bar",
    "MB above import",
    "memory ratio",
]


def main() -> None:
    """Runs the comparisons and prints their table."""
    parser = versus.arguments(__doc__, seconds=4.0, warm_up=6.0, pairs=7)
    parser.set_defaults(torch_optimizer="fused")
    flags = parser.parse_args()
    games = versus.chosen(parser, flags, GAMES)
    if flags.check:
        versus.print_checks([game for game in games if isinstance(game, MODERN)], flags.torch_python)
        return
    rows, results = [HEADING], {}
    for game in games:
        plan = dataclasses.replace(harness.plan_of(flags), period=game.period)
        with versus.both(game, flags.torch_python) as (mine, other):
            result = harness.compare(mine, other, plan)
        memory = versus.memory_above_import(result)
        most = MODERN_MEMORY_BAR if isinstance(game, MODERN) else MEMORY_BAR
        rates = [f"{rate:.3g}" for rate in result.rates]
        ratios = [str(result.ratio), str(result.cpu_ratio), harness.pairs_cell(result)]
        used = [" / ".join(f"{mb:.0f}" for mb in memory), f"{memory[0] / memory[1]:.2f} of {most}"]
        rows.append([game.label, *rates, *ratios, harness.verdict(result, BAR), *used])
        results[game.label] = {
            **result.to_json(),
            "bar": BAR,
            "mb_above_import": [round(mb, 1) for mb in memory],
            "memory_ratio": round(memory[0] / memory[1], 3),
            "memory_bar": most,
        }
        if isinstance(game, MODERN):
            results[game.label] |= {"goal": GOAL, "gflop_a_round": round(game.flops / 1e9, 3)}
        print(f"{game.label}: {result.ratio}", file=sys.stderr, flush=True)
    print(text_table(rows))
    harness.save(flags, "architectures", {"games": results})


if __name__ == "__main__":
    harness.run(main)
