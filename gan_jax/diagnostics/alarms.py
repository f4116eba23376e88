"""Alarms: the most frequent failures of GAN training, detected in the logged metrics.

Each rule reads the metrics of a log entry and of the entries before it, and describes what it detects. A rule whose
metrics were not logged is silent; `health` logs them all. Since only the log is read, a resumed run raises the same
alarms as an uninterrupted one.
"""

from __future__ import annotations

import collections
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Log: TypeAlias = Mapping[str, float]
"""The scalars of a log entry by name."""


class Alarm(NamedTuple):
    """A sign that training is failing.

    Attributes:
      name: one of `RULES`, or `non_finite`.
      message: a sentence with the numbers that raised the alarm.
      helps: what usually helps.
    """

    name: str
    message: str
    helps: str

    def __str__(self) -> str:
        return f"{self.message} What usually helps: {self.helps}."


ALIKE = 0.1
"""Samples have collapsed below this fraction of the real examples' spread (its square for score variances)."""
ONCE_DIVERSE = 0.3
"""Collapse is a fall from above this fraction of the real examples' spread."""
INITIAL_LOGS = 5
"""Samples that have never been diverse raise an alarm after this many log entries."""
MOSTLY = 0.95
"""The fraction of saturated scores, or of weights on the bound, above which there is an alarm."""
NO_GRADIENT = 1e-8
"""Below this norm of the generator's gradient Adam's epsilon dominates."""
FALL, RISE = 1e-3, 100.0
"""The factors to the median of the previous entries at which a gradient norm has vanished or exploded."""
ENOUGH = 5
"""The least number of log entries for a median."""
_REMEMBERED = 1000  # previous entries; bounded so that the cost of a log does not grow with the run


def collapse(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """Detects that the samples' pairwise distance, or Var D(G(z)), falls far below that of the data."""
    for critic, ratio in _ending(now, "relative_spread"):
        before = _past(past, f"{critic}/relative_spread")
        never = len(before) >= INITIAL_LOGS - 1 and max(before[1 - INITIAL_LOGS :]) < ALIKE
        if ratio < ALIKE and (never or max(before, default=0.0) > ONCE_DIVERSE):
            yield f"The samples' mean distance from each other is {ratio:.2g} of that between the real examples."
    for critic, ratio in _variance_ratios(now):
        before = [r for log in past for name, r in _variance_ratios(log) if name == critic]
        if ratio < ALIKE**2 and max(before, default=0.0) > ONCE_DIVERSE**2:
            yield f"Var D(G(z)) of the {critic} fell to {ratio:.2g} of Var D(x): it scores all samples alike."


def saturated_critic(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """Detects that nearly every example has D within .01 of 0 or 1."""
    for critic, fraction in _ending(now, "saturation"):
        if fraction > MOSTLY:
            yield f"For {fraction:.0%} of the examples the {critic} gives D(x) within .01 of 0 or 1."


def vanishing_gradient(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """Detects a generator's gradient that is nearly zero, or a thousandth of what it was."""
    for player, norm, usual in _generator_gradients(now, past, generators):
        if norm < NO_GRADIENT:
            yield f"The gradient norm of the {player} is {norm:.2g}."
        elif usual is not None and norm < FALL * usual:
            yield f"The gradient norm of the {player} is {norm:.2g}, and was {usual:.2g} in the logs before."


def exploding_gradient(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """Detects a generator's gradient that is a hundred times what it was."""
    for player, norm, usual in _generator_gradients(now, past, generators):
        if usual is not None and norm > RISE * usual:
            yield f"The gradient norm of the {player} is {norm:.2g}, and was {usual:.2g} in the logs before."


def clipped_weights(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """Detects that nearly all of a player's weights have the same magnitude, the bound of weight clipping."""
    for player, fraction in _ending(now, "clipped_share"):
        if fraction > MOSTLY:
            yield f"{fraction:.0%} of the weights of the {player} lie on the clipping bound, at -c or c."


Rule: TypeAlias = Callable[[Log, Sequence[Log], Collection[str]], Iterable[str]]
RULES: Mapping[str, tuple[Rule, str]] = {
    "collapse": (
        collapse,
        "packing or minibatch statistics in the critic, unrolling, more critic turns, a Wasserstein or "
        "relativistic objective, a smaller learning rate for the generator",
    ),
    "saturated_critic": (
        saturated_critic,
        "the -log D generator loss, a gradient penalty or r1, instance noise, one-sided label smoothing, fewer "
        "critic turns or a smaller learning rate for the critic",
    ),
    "vanishing_gradient": (
        vanishing_gradient,
        "the -log D generator loss or a Wasserstein objective with a gradient penalty, instance noise, fewer "
        "critic turns; with weight clipping, a larger c",
    ),
    "exploding_gradient": (
        exploding_gradient,
        "smaller learning rates, a gradient penalty or spectral normalisation in the critic, clipping of "
        "gradients; with weight clipping, a smaller c",
    ),
    "clipped_weights": (
        clipped_weights,
        "a gradient penalty in place of weight clipping, or another c: a critic whose weights are all -c or c can "
        "only be a simple function",
    ),
}
"""Every rule by its alarm's name, and what usually helps."""
NON_FINITE_HELPS = (
    "smaller learning rates, eps_root=1e-8 in an Adam that is differentiated through, a bound on the scores or "
    "gradients, float32 in place of bfloat16"
)
"""What usually helps if a loss or a parameter is NaN or infinite."""


class Alarms:
    """Checks log entries in order.

    Args:
      generators: the names of the players that make samples.

    >>> alarms = Alarms()
    >>> [alarm.name for alarm in alarms.check({"critic/saturation": 0.99})]
    ['saturated_critic']
    """

    def __init__(self, generators: Collection[str] = ("generator",)) -> None:
        self._generators = generators
        self._past: collections.deque[dict[str, float]] = collections.deque(maxlen=_REMEMBERED)
        self._active: set[str] = set()

    def check(self, metrics: Mapping[str, Any]) -> list[Alarm]:
        """The alarms that the next log entry raises; later entries are compared with it. Vectors are ignored."""
        now = {name: float(value) for name, value in metrics.items() if _is_number(value)}
        alarms = [
            Alarm(name, message, helps)
            for name, (rule, helps) in RULES.items()
            for message in rule(now, self._past, self._generators)
        ]
        read = {name: value for name, value in now.items() if name.rpartition("/")[2] in _READ}
        self._past.append(read)
        return alarms

    def news(self, alarms: Iterable[Alarm]) -> list[Alarm]:
        """The alarms that the entry before did not raise, so that the terminal shows each only once."""
        raised = list(alarms)
        fresh = [alarm for alarm in raised if alarm.name not in self._active]
        self._active = {alarm.name for alarm in raised}
        return fresh


def as_metrics(alarms: Iterable[Alarm]) -> dict[str, str]:
    """Alarms as entries of `metrics.jsonl`: `alarm/name` to the messages of this name.

    >>> as_metrics([Alarm("collapse", "The samples are alike.", "packing")])
    {'alarm/collapse': 'The samples are alike.'}
    """
    texts: dict[str, list[str]] = {}
    for alarm in alarms:
        texts.setdefault(f"alarm/{alarm.name}", []).append(alarm.message)
    return {name: " ".join(messages) for name, messages in texts.items()}


_READ = (
    "relative_spread",
    "score_real_variance",
    "score_fake_variance",
    "gradient_norm",
)


def _is_number(value: Any) -> bool:
    array = np.asarray(value)
    return array.ndim == 0 and array.dtype.kind in "fiu"


def _ending(log: Log, metric: str) -> Iterator[tuple[str, float]]:
    """Yields `(player, value)` for every metric `player/metric`."""
    for name, value in log.items():
        player, _, last = name.rpartition("/")
        if last == metric:
            yield player, value


def _past(past: Sequence[Log], name: str) -> list[float]:
    return [log[name] for log in past if name in log]


def _variance_ratios(log: Log) -> Iterator[tuple[str, float]]:
    for critic, fake_variance in _ending(log, "score_fake_variance"):
        real_variance = log.get(f"{critic}/score_real_variance", 0.0)
        if real_variance > 0:
            yield critic, fake_variance / real_variance


def _generator_gradients(
    now: Log, past: Sequence[Log], generators: Collection[str]
) -> Iterator[tuple[str, float, float | None]]:
    """Yields `(player, norm, median of the previous norms)`; the median is `None` if there are too few."""
    for player, norm in _ending(now, "gradient_norm"):
        if player in generators:
            before = _past(past, f"{player}/gradient_norm")
            yield player, norm, statistics.median(before[-50:]) if len(before) >= ENOUGH else None
