"""Signals: a run that is asked to stop says so at once, saves and ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from gan_jax.distributed import hosts
from gan_jax.runs.terminal import tell

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a run to stop; SIGHUP is a terminal that was closed."""


def _acknowledge(text: str) -> None:
    tell(f"\n{text}" if sys.stderr is not None and sys.stderr.isatty() else text, sys.stderr)


class Interrupt:
    """Whether a signal asked the run to stop; a second Ctrl-C stops at once.

    Args:
      acknowledge: prints a line as soon as a signal comes.

    Attributes:
      by: the signal's name, `None` before one came.
    """

    def __init__(self, acknowledge: Callable[[str], None] = _acknowledge) -> None:
        self.by: str | None = None
        self._acknowledge = acknowledge

    def __call__(self, number: int, frame: Any) -> None:
        if self.by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.by = signal.Signals(number).name

    @contextlib.contextmanager
    def handling_signals(self) -> Iterator[Interrupt]:
        """Handles the signals within the block; outside the main thread there are none to handle.

        A hang-up that the launch was told to ignore (`nohup`) stays ignored.
        """
        before: dict[int, Any] = {}
        with contextlib.ExitStack() as held:
            if threading.current_thread() is threading.main_thread():
                before = {
                    number: signal.getsignal(number)
                    for number in SIGNALS
                    if number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN
                }
                held.enter_context(self._acknowledging(frozenset(before)))
                for number in before:
                    signal.signal(number, self)
            try:
                yield self
            finally:
                for number, handler in before.items():
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextlib.contextmanager
    def _acknowledging(self, numbers: frozenset[int]) -> Iterator[None]:
        """A thread that says at once that a signal has come.

        Python calls a handler only between two instructions of the main thread, and a compilation or an evaluation
        is one for many seconds; the number of the signal is written to a pipe at once.
        """
        ends = os.pipe()
        for end in ends:
            os.set_blocking(end, end == ends[0])

        def listen() -> None:
            while (came := os.read(ends[0], 1)) and came != _END:
                if came[0] in numbers:
                    self._acknowledge(
                        f"{signal.Signals(came[0]).name}: stopping after this dispatch, or the evaluation that "
                        "is being made, and saving. A second Ctrl-C stops at once."
                    )

        thread = threading.Thread(target=listen, name="signals", daemon=True)
        thread.start()
        wakeup = signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            os.write(ends[1], _END)
            thread.join()
            for end in ends:
                os.close(end)

    def agree(self, most: int = 1) -> tuple[int, bool]:
        """The least `most` of all processes, and whether any was asked to stop; all call this at the same point."""
        number = 0 if self.by is None else signal.Signals[self.by]
        agreed = hosts.agree(most, number)
        if agreed[:, 1].any():
            self.by = signal.Signals(agreed[:, 1].max()).name
        return int(agreed[:, 0].min()), self.by is not None


_END = b"\0"
"""No signal has this number."""
