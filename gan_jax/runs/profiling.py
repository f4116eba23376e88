"""A profiler trace of a few rounds, for TensorBoard and Perfetto."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import jax
from etils import epath

from gan_jax.runs.files import reason

ROUNDS = 3
"""How many rounds a trace has."""


class Profile:
    """Traces the rounds `first` to `first + ROUNDS - 1`; annotates every dispatch, which costs nothing untraced.

    A trace that cannot be begun or written ends no run: a warning says why.

    Args:
      directory: where the trace is written.
      first: the first round that is traced; `None` traces nothing.
    """

    def __init__(self, directory: epath.PathLike = "", first: int | None = None):
        self._directory = directory
        self._first = first
        self._tracing = False

    @property
    def cuts(self) -> tuple[int, ...]:
        """Rounds at which a dispatch must end, so that the trace has these rounds and no others."""
        return () if self._first is None else (self._first, self._first + ROUNDS)

    @contextlib.contextmanager
    def dispatch(self, step: int, rounds: int) -> Iterator[None]:
        """Surrounds a dispatch of `rounds` rounds from `step` on, its results fetched."""
        if step == self._first:
            with self._warning():
                # The profiler itself finds out at the end only.
                epath.Path(self._directory).mkdir(parents=True, exist_ok=True)
                jax.profiler.start_trace(self._directory)
                self._tracing = True
        try:
            with jax.profiler.StepTraceAnnotation("rounds", step_num=step):
                yield
        except BaseException:
            self.close()
            raise
        if self._first is not None and step + rounds >= self._first + ROUNDS:
            self.close()

    def close(self) -> None:
        """Ends a trace that is under way, and writes it."""
        if self._tracing:
            self._tracing = False
            with self._warning():
                jax.profiler.stop_trace()

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the file system's, and whatever the profiler raises
            warnings.warn(f"No trace is written into {self._directory}: {reason(error)}.", stacklevel=2)
