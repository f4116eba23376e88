"""How this program was called, for messages and for the command that goes on with a run."""

from __future__ import annotations

import os
import sys


def name() -> str:
    """The launcher's name: `launch.py` in a checkout, `gan-jax` where the package is installed."""
    return os.path.basename(sys.argv[0]) or "gan-jax"


def command() -> list[str]:
    """The words that start the launcher again, from this folder."""
    return ["python", sys.argv[0]] if sys.argv[0].endswith(".py") else [name()]
