"""What a run costs the machine: rounds a second, time to the end, memory."""

from __future__ import annotations

import resource
import sys

import jax


class Machine:
    """Rounds a second, without compilation, evaluations and pictures; time to the end; the largest memory.

    Args:
      total: the round that the run ends with.
    """

    def __init__(self, total: int):
        self._total = total
        self._compiled = False
        self._rounds, self._seconds = 0, 0.0

    def played(self, rounds: int, seconds: float) -> None:
        """Counts a dispatch; the first is left out, since it is compiled."""
        if self._compiled:
            self._rounds += rounds
            self._seconds += seconds
        self._compiled = True

    def metrics(self, step: int) -> dict[str, float]:
        """The numbers since the last call; the speed is left out where no dispatch was timed.

        >>> machine = Machine(100)
        >>> machine.played(10, 60.0), machine.played(20, 5.0)
        (None, None)
        >>> {name: value for name, value in machine.metrics(30).items() if name != "run/memory_bytes"}
        {'run/rounds_per_second': 4.0, 'run/seconds_left': 17.5}
        """
        found = {"run/memory_bytes": float(memory())}
        if self._rounds and self._seconds > 0:
            rate = self._rounds / self._seconds
            found |= {"run/rounds_per_second": rate, "run/seconds_left": (self._total - step) / rate}
        self._rounds, self._seconds = 0, 0.0
        return found


def memory() -> int:
    """The largest number of bytes in use so far: of the first device or, where it does not tell, of the process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
