"""The standard FID network on 500 images of 32 pixels: `gan_jax` against pytorch-fid's own forward pass.

    python -m benchmarks.inception --torch-python PATH           # about 15 minutes on a quiet machine
    python -m benchmarks.inception --torch-python PATH --images 64 --no-save
    python -m benchmarks.inception --torch-python PATH --check   # the same features on both sides?
    python -m benchmarks.inception --torch-python PATH --folded --no-save

Both take uint8 images from memory and resize them to 299 pixels; the weights are drawn from seeds, the same on both
sides. PyTorch's environment needs pytorch-fid (and its torchvision) too; with `--folded`, the network of
`torch_inception.py` in channels-last memory with batch normalisation folded into its convolutions, it does not.
Bar: ours is no slower.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from benchmarks import harness

BAR = 1.0
TOLERANCE = 1e-4


NAMES = {"ours": "gan_jax", "torch": "pytorch-fid", "folded": "torch"}


def worker(who: str, flags: argparse.Namespace) -> harness.Worker:
    """Ours, or one of PyTorch's."""
    spec = {
        "who": who,
        "images": flags.images,
        "size": flags.size,
        "threads": flags.threads,
        "channels_last": flags.channels_last,
        "device": "cpu",
    }
    return harness.Worker(
        NAMES[who],
        "benchmarks.inception_worker",
        spec,
        python=sys.executable if who == "ours" else flags.torch_python,
        environment={"JAX_PLATFORMS": "cpu"},
    )


def largest_difference(first: harness.Worker, second: harness.Worker, number: int) -> float:
    """The largest difference of features over the largest feature."""
    x, y = (np.array(program.ask("features", number=number)["features"]) for program in (first, second))
    return float(np.abs(x - y).max() / np.abs(y).max())


def main() -> None:
    """Measures and prints a line."""
    parser = harness.arguments(__doc__, pairs=4, seconds=1.0, warm_up=0.0, tolerance=0.1)
    parser.add_argument("--images", type=int, default=500, help="how many images a pass has")
    parser.add_argument("--size", type=int, default=32, help="their height and width")
    parser.add_argument("--channels-last", action="store_true", help="PyTorch in channels-last memory")
    parser.add_argument("--folded", action="store_true", help="our own PyTorch network, not pytorch-fid's")
    parser.add_argument("--check", action="store_true", help="compare features of a few images and stop")
    flags = parser.parse_args()
    other = "folded" if flags.folded else "torch"
    with worker("ours", flags) as first, worker(other, flags) as second:
        difference = largest_difference(first, second, min(flags.images, 4))
        print(f"largest difference of features {difference:.1e} (at most {TOLERANCE:g})")
        if flags.check:
            return
        result = harness.compare(first, second, harness.plan_of(flags))
    rates = [f"{flags.images * rate:.1f} images/s" for rate in result.rates]
    print(
        f"{flags.images} images of {flags.size} pixels: gan_jax {rates[0]}, {NAMES[other]} {rates[1]}, ratio "
        f"{result.ratio}, processor time {result.cpu_ratio}, pairs {harness.pairs_cell(result)}, bar "
        f"{harness.verdict(result, BAR)}"
    )
    harness.save(
        flags,
        "inception_folded" if flags.folded else "inception",
        {"difference": difference, "comparison": result.to_json()},
    )


if __name__ == "__main__":
    harness.run(main)
