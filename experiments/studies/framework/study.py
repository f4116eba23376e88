"""What a study is: cases that give numbers for a seed, claims about the numbers, a figure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from gan_jax.functional.intervals import student_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Numbers: TypeAlias = dict[str, Any]
"""What one case gives for one seed: numbers, strings and lists of them, by name."""
Result: TypeAlias = Mapping[str, Numbers]
"""One seed: case -> numbers."""
Case: TypeAlias = Callable[[int, bool], Numbers]
"""`(seed, quick) -> numbers`; quick is a small version of the same, under a minute, or nothing, `{}`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """An effect that lies on one side of a bound; what it says stands in the study's docstring.

    Attributes:
      effect: one seed's effect, a signed number, from all its cases.
      at_least, at_most: the bound; exactly one of them.
      quick: the looser bound of `--quick`; `None` where the claim is not made there.
      every_seed: the bound holds for the worst seed; else for the near end of the mean's 95 % interval.
      reproduces: False for a claim that was made before the run and found not to hold: it stays in the list and is
        shown as missed, and the command does not fail for it. The docstring says why. Quick runs leave it out.
    """

    effect: Callable[[Result], float]
    at_least: float | None = None
    at_most: float | None = None
    quick: float | None = None
    every_seed: bool = False
    reproduces: bool = True

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(
                f"A claim has one of at_least and at_most, got {self.at_least} and {self.at_most}."
            )
        bound, upward = self.bound, self.at_least is not None
        if self.quick is not None and (self.quick > bound if upward else self.quick < bound):
            raise ValueError(f"The bound for --quick, {self.quick}, is less loose than {bound}.")
        if self.quick is not None and not self.reproduces:
            raise ValueError("A claim that does not reproduce is not made by --quick.")

    @property
    def bound(self) -> float:
        """The bound itself."""
        return self.at_least if self.at_least is not None else self.at_most  # type: ignore[return-value]


class Verdict(NamedTuple):
    """A claim against the results of some seeds.

    Attributes:
      text: the claim.
      mean: of the seeds' effects.
      low, high: the 95 % interval of the mean (Student's t); infinite for a single seed.
      by_seed: the effects.
      bound: the number it is held to.
      sense: `>=` or `<=`.
      margin: by how much it holds; negative, by how much it is missed.
      every_seed: whether the worst seed was asked, not the interval.
      reproduces: whether the claim is expected to hold.
    """

    text: str
    mean: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    bound: float
    sense: str
    margin: float
    every_seed: bool
    reproduces: bool = True

    @property
    def holds(self) -> bool:
        """Whether the claim was shown."""
        return self.margin >= 0

    @property
    def fails(self) -> bool:
        """Whether the claim does not hold although it is expected to."""
        return self.reproduces and not self.holds

    def measured(self) -> str:
        """The effect with its interval, or the range of the seeds where each of them is asked."""
        if len(self.by_seed) == 1:
            return f"{self.mean:.4g}"
        if self.every_seed:
            return f"{self.mean:.4g} (seeds: {min(self.by_seed):.4g} to {max(self.by_seed):.4g})"
        return f"{self.mean:.4g} (95 %: {self.low:.4g} to {self.high:.4g}, {len(self.by_seed)} seeds)"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One study.

    Attributes:
      module: `__name__` of its file.
      doc: `__doc__` of its file: a title; `Claims:` and a line `- ...` for each, with its number; the paper; the
        command and its minutes; what was scaled.
      place: where it stands in the gallery.
      cases: name -> what gives numbers for a seed; each case and seed is stored as it ends.
      claims: what is asserted, in the docstring's order.
      figure: draws the figure from the results of all seeds.
      film: draws the frames of one seed, figures of one size, where its numbers show a course of training.
      seeds: how many a full run has.
      full: the same cases at the paper's scale, where `cases` are scaled down; what `--full` runs.
      controls: the cases that are no method but what methods are compared with: noise, an untrained generator, real
        data. They give the same numbers, so that claims can be judged with a control in the place of each method.
      quick_seeds: how many `--quick` has.
    """

    module: str
    doc: str | None
    place: float
    cases: Mapping[str, Case]
    claims: Sequence[Claim]
    figure: Callable[[Sequence[Result]], Figure]
    film: Callable[[Result], Sequence[Figure]] | None = None
    seeds: int = 3
    quick_seeds: int = 1
    full: Mapping[str, Case] | None = None
    controls: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.claims):
            raise ValueError(
                f"{self.name}: the docstring has {len(self.texts)} claims ('- ...' under 'Claims:') and the study "
                f"{len(self.claims)}."
            )

    @property
    def name(self) -> str:
        """The file's name."""
        return self.module.rpartition(".")[2]

    @property
    def title(self) -> str:
        """The docstring's first line, without its full stop."""
        return (self.doc or "").strip().partition("\n")[0].rstrip(".")

    @property
    def texts(self) -> list[str]:
        """The claims in words, from the docstring."""
        _, _, rest = (self.doc or "").partition("\nClaims:\n")
        listed, _, _ = rest.partition("\n\n")
        return [" ".join(item.split()) for item in f"\n{listed}".split("\n- ")[1:]]


def judge(study: Study, results: Sequence[Result], quick: bool = False) -> list[Verdict]:
    """The study's claims against the results; with `quick` those that are made there.

    With `quick` the mean is held against the looser bound; there are too few seeds for an interval.
    """
    bounds = [claim.quick if quick else claim.bound for claim in study.claims]
    return [
        _verdict(claim, text, bound, results, quick)
        for claim, text, bound in zip(study.claims, study.texts, bounds, strict=True)
        if bound is not None
    ]


def _verdict(claim: Claim, text: str, bound: float, results: Sequence[Result], quick: bool) -> Verdict:
    effects = [float(claim.effect(result)) for result in results]
    mean, low, high = map(float, student_interval(effects))
    upward = claim.at_least is not None
    if claim.every_seed:
        held = min(effects) if upward else max(effects)
    elif quick:
        held = mean
    else:
        held = low if upward else high
    margin = held - bound if upward else bound - held
    if math.isnan(margin):
        margin = -math.inf
    sense = ">=" if upward else "<="
    return Verdict(
        text, mean, low, high, tuple(effects), bound, sense, margin, claim.every_seed, claim.reproduces
    )
