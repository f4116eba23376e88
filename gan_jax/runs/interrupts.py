"""Signals: a run that is asked to stop saves and ends."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from gan_jax.distributed import hosts


class Interrupt:
    """Whether SIGTERM or Ctrl-C asked the run to stop; a second Ctrl-C stops at once.

    Attributes:
      by: the signal's name, `None` before one came.
    """

    def __init__(self) -> None:
        self.by: str | None = None

    def __call__(self, number: int, frame: Any) -> None:
        if self.by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.by = signal.Signals(number).name

    @contextlib.contextmanager
    def handling_signals(self) -> Iterator[Interrupt]:
        """Handles both signals within the block; outside the main thread there are none to handle."""
        try:
            before = {number: signal.signal(number, self) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def agree(self, most: int = 1) -> tuple[int, bool]:
        """The least `most` of all processes, and whether any was asked to stop; all call this at the same point."""
        number = 0 if self.by is None else signal.Signals[self.by]
        agreed = hosts.agree(most, number)
        if agreed[:, 1].any():
            self.by = signal.Signals(agreed[:, 1].max()).name
        return int(agreed[:, 0].min()), self.by is not None
