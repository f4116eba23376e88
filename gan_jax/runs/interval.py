"""Means of the metrics between two logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass
class Interval:
    """Sums of the metrics since the last log; a checkpoint saves them, so a resumed run logs the same means.

    Attributes:
      sums: by name, a number or nested lists of numbers.
      counts: of how many rounds each is the sum.
    """

    sums: dict[str, Any] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, history: Mapping[str, np.ndarray]) -> None:
        """Adds the rounds of a dispatch, each metric `[rounds, ...]`, one after the other."""
        for name, values in history.items():
            before = np.broadcast_to(self.sums.get(name, 0.0), (1, *values.shape[1:]))
            # A running sum adds in the rounds' order, so it does not depend on where dispatches are cut.
            running = np.cumsum(np.concatenate([before, values.astype(np.float64)]), axis=0)
            self.sums[name] = running[-1].tolist()
            self.counts[name] = self.counts.get(name, 0) + len(values)

    def means(self) -> dict[str, Any]:
        """The means since the last `clear`: numbers, or arrays."""
        return {name: np.asarray(total) / self.counts[name] for name, total in self.sums.items()}

    def clear(self) -> None:
        """Begins the next interval."""
        self.sums, self.counts = {}, {}
