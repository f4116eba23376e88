"""Trains a small classifier on labelled data and stores it.

python -m gan_jax.metrics.fit mnist5k --out=mnist5k.npz
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gan_jax.data import DataError, load
from gan_jax.data.encoded import printable
from gan_jax.metrics.classifier import save_classifier, train_classifier


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m gan_jax.metrics.fit", description="Train a small classifier on labelled data."
    )
    parser.add_argument("data", help="a labelled data set, as in gan_jax.data.load")
    parser.add_argument("--out", required=True, metavar="FILE", help="the .npz file to write")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(arguments)
    try:
        arrays = load(flags.data)
        if "y" not in arrays:
            raise ValueError(
                f"A classifier needs labels `y` for training, but {flags.data!r} has only {sorted(arrays)}."
            )
        name = f"classifier of {flags.data}"
        made = train_classifier(arrays["x"], arrays["y"], name=name, steps=flags.steps, seed=flags.seed)
        file = save_classifier(made, flags.out)
    except (DataError, ValueError, OSError) as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    print(f"{file}: held-out accuracy {made.details['held_out_accuracy']:.4f}, weights {made.weights}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
