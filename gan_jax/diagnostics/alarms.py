"""Alarms: what goes wrong most often in a game, seen in the metrics of its logs.

Each rule looks at the metrics of one log and of those before it, and says what it saw. A rule whose metrics are not
there is silent: `health` reports them all. Nothing but the log is read, so a resumed run alarms as an
uninterrupted one does.
"""

from __future__ import annotations

import collections
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Log: TypeAlias = Mapping[str, float]
"""The numbers of one log by name."""


class Alarm(NamedTuple):
    """Something that looks wrong.

    Attributes:
      name: one of `RULES`, or `non_finite`.
      seen: what was seen, with its numbers.
      helps: what usually helps.
    """

    name: str
    seen: str
    helps: str

    def __str__(self) -> str:
        return f"{self.seen} What usually helps: {self.helps}."


ALIKE = 0.1
"""Fakes with less than this share of the reals' spread (its square, of the variance of scores) are alike."""
ONCE_APART = 0.3
"""Collapse is a fall: from above this share of the reals' spread."""
PATIENCE = 5
"""Fakes that never were apart have this many logs' time."""
MOSTLY = 0.95
"""The share of saturated scores, or of weights on the bound, that is an alarm."""
NO_GRADIENT = 1e-8
"""The generator's gradient norm below which Adam's epsilon is larger than it."""
FALL, RISE = 1e-3, 100.0
"""How far a gradient norm falls or rises against the median of the logs before."""
ENOUGH = 5
"""Logs that a median is taken of at least."""
_REMEMBERED = 1000  # of the logs before: what a log costs must not grow with the run


def collapse(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """The samples' pairwise distance, or Var D(G(z)), falls far below that of the data."""
    for critic, ratio in _ending(now, "relative_spread"):
        before = _past(past, f"{critic}/relative_spread")
        never = len(before) >= PATIENCE - 1 and max(before[1 - PATIENCE :]) < ALIKE
        if ratio < ALIKE and (never or max(before, default=0.0) > ONCE_APART):
            yield f"The samples' mean distance from each other is {ratio:.2g} of that between the real examples."
    for critic, ratio in _variance_ratios(now):
        before = [r for log in past for name, r in _variance_ratios(log) if name == critic]
        if ratio < ALIKE**2 and max(before, default=0.0) > ONCE_APART**2:
            yield f"Var D(G(z)) of the {critic} fell to {ratio:.2g} of Var D(x): it scores all samples alike."


def saturated_critic(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """Nearly every example has D within .01 of 0 or 1."""
    for critic, share in _ending(now, "saturation"):
        if share > MOSTLY:
            yield f"For {share:.0%} of the examples the {critic} gives D(x) within .01 of 0 or 1."


def vanishing_gradient(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """A generator's gradient is next to nothing, or a thousandth of what it was."""
    for player, norm, usual in _generator_gradients(now, past, generators):
        if norm < NO_GRADIENT:
            yield f"The gradient norm of the {player} is {norm:.2g}."
        elif usual is not None and norm < FALL * usual:
            yield f"The gradient norm of the {player} is {norm:.2g}, and was {usual:.2g} in the logs before."


def exploding_gradient(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """A generator's gradient is a hundred times what it was."""
    for player, norm, usual in _generator_gradients(now, past, generators):
        if usual is not None and norm > RISE * usual:
            yield f"The gradient norm of the {player} is {norm:.2g}, and was {usual:.2g} in the logs before."


def clipped_weights(now: Log, past: Sequence[Log], generators: Collection[str]) -> Iterator[str]:
    """Nearly all of a player's weights are of one size, the bound of weight clipping."""
    for player, share in _ending(now, "clipped_share"):
        if share > MOSTLY:
            yield f"{share:.0%} of the weights of the {player} lie on the clipping bound, at -c or c."


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
"""What usually helps where a loss or a parameter is no number."""


class Alarms:
    """Reads one log after the other.

    Args:
      generators: the names of the players that make samples.

    >>> alarms = Alarms()
    >>> [alarm.name for alarm in alarms.look({"critic/saturation": 0.99})]
    ['saturated_critic']
    """

    def __init__(self, generators: Collection[str] = ("generator",)) -> None:
        self._generators = generators
        self._past: collections.deque[dict[str, float]] = collections.deque(maxlen=_REMEMBERED)
        self._told: set[str] = set()

    def look(self, metrics: Mapping[str, Any]) -> list[Alarm]:
        """The alarms that hold at this log, which from now on is one of those before; vectors are not read."""
        now = {name: float(value) for name, value in metrics.items() if _is_number(value)}
        alarms = [
            Alarm(name, seen, helps)
            for name, (rule, helps) in RULES.items()
            for seen in rule(now, self._past, self._generators)
        ]
        read = {name: value for name, value in now.items() if name.rpartition("/")[2] in _READ}
        self._past.append(read)
        return alarms

    def news(self, alarms: Iterable[Alarm]) -> list[Alarm]:
        """Those that did not hold at the log before: each is worth a line on the terminal once, until it ends."""
        given = list(alarms)
        fresh = [alarm for alarm in given if alarm.name not in self._told]
        self._told = {alarm.name for alarm in given}
        return fresh


def as_metrics(alarms: Iterable[Alarm]) -> dict[str, str]:
    """Alarms for `metrics.jsonl`: `alarm/name`, what was seen.

    >>> as_metrics([Alarm("collapse", "The samples are alike.", "packing")])
    {'alarm/collapse': 'The samples are alike.'}
    """
    texts: dict[str, list[str]] = {}
    for alarm in alarms:
        texts.setdefault(f"alarm/{alarm.name}", []).append(alarm.seen)
    return {name: " ".join(seen) for name, seen in texts.items()}


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
    """`(player, value)` of every metric `player/metric`."""
    for name, value in log.items():
        player, _, last = name.rpartition("/")
        if last == metric:
            yield player, value


def _past(past: Sequence[Log], name: str) -> list[float]:
    return [log[name] for log in past if name in log]


def _variance_ratios(log: Log) -> Iterator[tuple[str, float]]:
    for critic, of_fakes in _ending(log, "score_fake_variance"):
        of_reals = log.get(f"{critic}/score_real_variance", 0.0)
        if of_reals > 0:
            yield critic, of_fakes / of_reals


def _generator_gradients(
    now: Log, past: Sequence[Log], generators: Collection[str]
) -> Iterator[tuple[str, float, float | None]]:
    """`(player, norm, median of those before)`; no median where there are too few."""
    for player, norm in _ending(now, "gradient_norm"):
        if player in generators:
            before = _past(past, f"{player}/gradient_norm")
            yield player, norm, statistics.median(before[-50:]) if len(before) >= ENOUGH else None
