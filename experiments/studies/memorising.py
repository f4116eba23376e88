"""Learning is not memorising, and not told from it by small critics.

Claims:
- A generator that has memorised 20,000 points of N(0, I / d), d = 200, is at W1 of at least 1 from the
  distribution.
- The neural-net distance between them is at most .1 of that W1.
- Intervals: the distance between two samples of one distribution falls as m^(-1/2) (exponent in -.5 +- .1).
- Sixty-four fixed critics: the same.
- Intervals cannot tell odd from even points of 1 .. 400, whose total variation is 1: their distance is at most
  .01.
- Birthday: the support of generators of 200 and of 2,000 points lies in its 95 % interval in at least 9 of 10
  cases.
- Of two toys that differ by half of their support the known half is found with a number of samples that does
  not grow with N: the exponent is at most .1.
- An unknown half takes a number that grows as the root of N: the exponent is .5 +- .1.

The neural-net distance is that of critics with 8 hidden units and weights in [-2, 2], on samples that the
critic has not seen; W1 is at least the mean distance to the nearest memorised point. Exponents are slopes of
lines through logarithms: of mean distances over 200 pairs of samples of m = 50 to 3,200 points; of the least
number of samples at which a test is right in 2 of 3 trials under either hypothesis, N = 10^2 to 10^5. The known
half is that below N / 2: one sample above it decides. The unknown one is drawn, and what can be used are
coincidences.

Paper: Arora et al., Generalization and Equilibrium in GANs, 2017, lemma 1 and theorem 3.1 (arXiv:1703.00573);
Arora and Zhang, Do GANs actually learn the distribution?, 2017 (arXiv:1706.08224).

    python -m experiments.studies memorising        # two minutes on two cores

Nothing is scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.distance import cdist

from experiments.studies.framework.study import Claim, Numbers, Result, Study
from gan_jax import pictures
from gan_jax.metrics.neural import CriticFamily, neural_distance
from gan_jax.metrics.support import support_size
from gan_jax.metrics.two_sample import interval_distance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIM, MEMORISED = 200, 20_000
SIZES = (50, 100, 200, 400, 800, 1600, 3200)
SUPPORTS = (100, 1000, 10_000, 100_000)


def distances(seed: int, quick: bool) -> Numbers:
    """A bound of W1 and the neural-net distance between N(0, I / d) and a generator that repeats points of it."""
    draw = np.random.default_rng(seed)
    memory, fresh = (draw.normal(size=(MEMORISED, DIM)) / np.sqrt(DIM) for _ in range(2))
    samples = memory[draw.integers(MEMORISED, size=MEMORISED)]
    found = neural_distance(fresh, samples, CriticFamily(width=8), seed=seed, permutations=99)
    # Whatever the coupling, mass at x has to come from a memorised point.
    nearest = cdist(fresh[:1000], memory).min(axis=1)
    return {"w1": nearest.mean(), "neural": abs(found.value), "trained": found.trained}


def complexity(seed: int, quick: bool) -> Numbers:
    """Mean distances between two samples of one distribution by their size."""
    draw = np.random.default_rng(100 + seed)
    repeats = 40 if quick else 200
    directions = draw.normal(size=(64, 5))
    offsets = draw.normal(size=64)
    intervals, critics = [], []
    for m in SIZES:
        pairs = [draw.normal(size=(2, m, 5)) for _ in range(repeats)]
        intervals.append(np.mean([interval_distance(p[0, :, :1], p[1, :, :1]) for p in pairs]))
        # 64 functions with values in [0, 1]: the supremum over a finite family.
        values = [1 / (1 + np.exp(-(p @ directions.T + offsets))) for p in pairs]
        critics.append(np.mean([np.abs(v[0].mean(0) - v[1].mean(0)).max() for v in values]))
    odd, even = np.arange(1, 401, 2.0), np.arange(2, 402, 2.0)
    return {
        "intervals": intervals,
        "critics": critics,
        "intervals_exponent": exponent(SIZES, intervals),
        "critics_exponent": exponent(SIZES, critics),
        "odd_even": interval_distance(odd[:, None], even[:, None]),
    }


def exponent(x: Any, y: Any) -> float:
    """The slope of log y by log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def birthday(seed: int, quick: bool) -> Numbers:
    """How often the interval of the support's size holds the size of a generator that repeats its points."""
    draw = np.random.default_rng(200 + seed)
    cases, held, found = 10 if quick else 50, 0, {}
    for support, batch in ((200, 17), (2000, 53)):
        sizes = []
        for _ in range(cases):
            memory = draw.normal(size=(support, 2))
            samples = memory[draw.integers(support, size=batch * 200)]
            size = support_size(samples, batch)
            held += size.low <= support <= size.high
            sizes.append(size.value)
        found[str(support)] = np.median(sizes)
    return {"share": held / (2 * cases), "median": found}


def uniform_toys(seed: int, quick: bool) -> Numbers:
    """The least number of samples at which a test is right in 2 of 3 trials, by N."""
    draw = np.random.default_rng(300 + seed)
    trials = 400 if quick else 2000

    def above(samples: np.ndarray, n: int) -> np.ndarray:
        """Says "whole" where a sample lies above the known half."""
        return np.asarray((samples >= n // 2).any(axis=1))

    def rare(samples: np.ndarray, n: int) -> np.ndarray:
        """Says "whole" where coincidences are fewer than midway between s^2 / 2N and s^2 / N."""
        coincidences = (np.diff(np.sort(samples, axis=1), axis=1) == 0).sum(axis=1)
        return coincidences < 0.75 * samples.shape[1] ** 2 / n

    known = [least(draw, n, above, trials) for n in SUPPORTS]
    unknown = [least(draw, n, rare, trials) for n in SUPPORTS]
    return {
        "known": known,
        "unknown": unknown,
        "known_exponent": exponent(SUPPORTS, known),
        "unknown_exponent": exponent(SUPPORTS, unknown),
    }


def least(
    draw: np.random.Generator, n: int, whole: Callable[[np.ndarray, int], np.ndarray], trials: int
) -> int:
    """The least s at which the test is right in 2 of 3 trials under either hypothesis; `whole` is its verdict.

    Which half is drawn makes no difference to coincidences: it is the lower one.
    """
    size = 2
    while True:
        on_whole = whole(draw.integers(n, size=(trials, size)), n).mean()
        on_half = whole(draw.integers(n // 2, size=(trials, size)), n).mean()
        if min(on_whole, 1 - on_half) >= 2 / 3:
            return size
        size = max(size + 1, int(size * 1.05))


def figure(results: Sequence[Result]) -> Figure:
    """Distances of samples by their size, samples that are needed by N, and what W1 and a small critic see."""
    sizes = np.asarray(SIZES)
    falls: dict[str, Any] = {
        name: (sizes, [r["complexity"][name] for r in results]) for name in ("intervals", "critics")
    }
    falls["m^(-1/2)"] = (sizes, sizes**-0.5)
    needs = {
        f"{name} half": (SUPPORTS, [r["uniform_toys"][name] for r in results])
        for name in ("known", "unknown")
    }
    measured = {
        "W1": [r["distances"]["w1"] for r in results],
        "neural-net": [r["distances"]["neural"] for r in results],
    }
    return pictures.figure(
        pictures.Row(
            (
                pictures.curves(
                    falls,
                    log="xy",
                    x_label="size m",
                    y_label="distance",
                    title="Two samples of a distribution",
                ),
                pictures.curves(
                    needs,
                    log="xy",
                    x_label="size N of the support",
                    y_label="samples",
                    title="Samples that are needed",
                ),
            )
        ),
        pictures.Row(
            (
                pictures.dot_plot(
                    measured,
                    x_label="distance",
                    title="N(0, I/200) against 20,000 memorised points: every seed, mean and 95 % interval",
                ),
            ),
            height=1.5,
        ),
    )


def near(value: float, target: float) -> float:
    """The distance to a target."""
    return abs(value - target)


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=14,
    cases={
        "distances": distances,
        "complexity": complexity,
        "birthday": birthday,
        "uniform_toys": uniform_toys,
    },
    seeds=5,
    claims=(
        Claim(effect=lambda r: r["distances"]["w1"], at_least=1.0, quick=1.0),
        Claim(effect=lambda r: r["distances"]["neural"] / r["distances"]["w1"], at_most=0.1, quick=0.1),
        Claim(effect=lambda r: near(r["complexity"]["intervals_exponent"], -0.5), at_most=0.1, quick=0.1),
        Claim(effect=lambda r: near(r["complexity"]["critics_exponent"], -0.5), at_most=0.1, quick=0.1),
        Claim(effect=lambda r: r["complexity"]["odd_even"], at_most=0.01, quick=0.01, every_seed=True),
        Claim(effect=lambda r: r["birthday"]["share"], at_least=0.9, quick=0.8),
        Claim(effect=lambda r: r["uniform_toys"]["known_exponent"], at_most=0.1, quick=0.15),
        Claim(effect=lambda r: near(r["uniform_toys"]["unknown_exponent"], 0.5), at_most=0.1, quick=0.1),
    ),
    figure=figure,
)
