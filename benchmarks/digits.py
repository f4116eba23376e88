"""The default experiment, real digits, gan_jax's `rollout` against an eager PyTorch loop of the same game.

    python -m benchmarks.digits                              # about a minute on a quiet machine
    python -m benchmarks.digits --torch-python PATH          # PyTorch in another virtual environment
    python -m benchmarks.digits --check                      # is it the same game on both sides?

8 x 8 images, perceptrons of 2 x 256, batch 64: -log D with R1 on real samples, batch normalisation in the
generator and an exponential moving average of it. Bar: 2 times PyTorch's generator rounds/s.
"""

from __future__ import annotations

from benchmarks import harness, versus
from benchmarks.games import Digits

BAR = 2.0


def main() -> None:
    """Runs the comparison and prints its table."""
    parser = versus.arguments(__doc__)
    flags = parser.parse_args()
    games = versus.chosen(parser, flags, [Digits()])
    if flags.check:
        versus.print_checks(games, flags.torch_python)
        return
    harness.save(flags, "digits", {"games": versus.measure(games, flags, lambda game: BAR)})


if __name__ == "__main__":
    harness.run(main)
