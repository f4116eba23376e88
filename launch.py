"""The launcher of a checkout; where the package is installed, the command `gan-jax` takes the same flags.

python launch.py
python launch.py --config=experiments/ring.py --config.objective=wgan_gp --workdir=runs/ring
python launch.py --mode=evaluate --workdir=runs/ring --checkpoints=all
python launch.py --mode=describe --config=experiments/ring.py
python launch.py --help
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from gan_jax.cli.main import main

if __name__ == "__main__":
    main()
