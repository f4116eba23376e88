"""A bar over the images whose features are extracted, and a line before what takes long."""

from __future__ import annotations

import sys
from typing import Any


def progress_bar(total: int, name: str, shown: bool = True, unit: str = "images") -> Any:
    """A bar on a terminal, drawn at once; elsewhere it is drawn again every ten seconds at most.

    Args:
      total: the number of images, or of other units.
      name: what they are.
      shown: whether there is anything to be seen.
      unit: what is counted.
    """
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # no thread of tqdm's

    seconds = 0.1 if sys.stderr is not None and sys.stderr.isatty() else 10.0
    label = name if len(name) <= 40 else f"...{name[-37:]}"
    return Bar(
        total=total, desc=label, unit=f" {unit}", mininterval=seconds, disable=not shown, file=sys.stderr
    )


def progress_line(text: str, shown: bool = True) -> None:
    """A line on the terminal that says what is being done."""
    if shown and sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)
