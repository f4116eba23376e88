"""Residual and image-to-image networks: rounds against tuned PyTorch.

    python -m benchmarks.architectures                        # about five minutes on a quiet machine
    python -m benchmarks.architectures --torch-python PATH    # PyTorch in another virtual environment

SNGAN's residual networks of width 64 for 32 x 32 x 3 (hinge, spectral normalisation in the critic), batch 32;
pix2pix's U-Net of width 32 on 64 x 64 x 3 against the 70 x 70 PatchGAN, batch 16. One turn of each player a round.
PyTorch runs in channels-last memory with its own spectral normalisation. Both sides must have the same numbers of
parameters; ours fuses upsampling and mean pooling with the convolutions beside them (`networks.conv_layers`). The
bar is PyTorch's rate.
"""

from __future__ import annotations

import sys

from benchmarks import harness, versus
from benchmarks.games import SNGAN, Pix2Pix
from gan_jax.tables import text_table

GAMES = [SNGAN(), Pix2Pix()]
BAR = 1.0


def main() -> None:
    """Runs the comparisons and prints their table."""
    parser = versus.arguments(__doc__, check=False, seconds=4.0, warm_up=6.0, pairs=7)
    flags = parser.parse_args()
    rows = [["game", "gan_jax rounds/s", "torch rounds/s", "ratio", "CPU-time ratio", "pairs", "bar"]]
    results = {}
    for game in versus.chosen(parser, flags, GAMES):
        with versus.both(game, flags.torch_python) as (mine, other):
            result = harness.compare(mine, other, harness.plan_of(flags))
        rates = [f"{rate:.3g}" for rate in result.rates]
        ratios = [str(result.ratio), str(result.cpu_ratio), harness.pairs_cell(result)]
        rows.append([game.label, *rates, *ratios, harness.verdict(result, BAR)])
        results[game.label] = {**result.to_json(), "bar": BAR}
        print(f"{game.label}: {result.ratio}", file=sys.stderr, flush=True)
    print(text_table(rows))
    harness.save(flags, "architectures", {"games": results})


if __name__ == "__main__":
    harness.run(main)
