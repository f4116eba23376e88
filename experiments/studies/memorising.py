"""Learning is not memorising, and not told from it by small critics.

Claims:
- A generator that has memorised 20,000 points of N(0, I / d), d = 200, is at W1 of at least 1 from the
  distribution.
- The neural-net distance between them is at most .1 of that W1.
- Half-spaces do not tell it from a generator that is right: their distance exceeds that of fresh samples against
  fresh ones by at most .02.
- Nor do critics of eight hidden units: the neural-net distance exceeds that of fresh samples by at most .02.
- Intervals: the distance between two samples of one distribution falls as m^(-1/2) (exponent in -.5 +- .1).
- Sixty-four fixed critics: the same.
- Intervals cannot tell odd from even points of 1 .. 400, whose total variation is 1: their distance is at most
  .01.
- Birthday: the support of generators of 200 and of 2,000 points lies in its 95 % interval in at least 9 of 10
  cases.
- Trained on digits a DCGAN's and an R3GAN's batches of 40 have near-duplicates less often than the untrained
  DCGAN's: the share is at most half of it, for the worse of both.
- They have them more often than real digits: by at least .05, for the lesser of both.
- Of two toys that differ by half of their support the known half is found with a number of samples that does not
  grow with N: the exponent is at most .1.
- An unknown half takes a number that grows as the root of N: the exponent is .5 +- .1.

The neural-net distance is that of critics with 8 hidden units and weights in [-2, 2], on samples that the critic
has not seen; the half-space's is the difference of both shares beyond a threshold along the difference of means,
both found on one half of the samples and measured on the other; W1 is at least the mean distance to the nearest
memorised point. Exponents are slopes of lines through logarithms: of mean distances over 200 pairs of samples of
m = 50 to 3,200 points; of the least number of samples at which a test is right in 2 of 3 trials under either
hypothesis, N = 10^2 to 10^5. The known half is that below N / 2: one sample above it decides. The unknown one is
drawn, and what can be used are coincidences.

What does not reproduce, and was not seen before fresh samples stood beside the memory, is that critics of eight
units cannot tell it: .08 is little beside W1, but ten times what fresh samples have. They have 1,617 weights for
20,000 points, and the theorem asks for p log p / eps^2 points for a distance of eps: here for a distance of about
.8. Nor that training halves the share of batches with near-duplicates, for the worse of both generators: over five
seeds it is .58 of the untrained one's (.34 to .82), which is less, and not half.

The trained generators: scikit-learn's digits, 8 x 8, z of 16 dimensions; a DCGAN of width 16 by -log D with R1
(gamma .05) and Adam(5e-4, b1 = .5), R3GAN of width 16 by relativistic pairing with R1 and R2 (gamma .1) and
Adam(2e-4, 0, .99), batch 64, 2,000 rounds, exponential averages. A near-duplicate is a pair that is nearer than
the nearest pair of a batch of 40 distinct digits is in 5 % of batches, which one half of the data says; "real"
are batches of the other half. Noise has no near-duplicates: the test is of a support's size, and says nothing of
quality.

Paper: Arora et al., Generalization and Equilibrium in GANs, 2017, lemma 1 and theorem 3.1 (arXiv:1703.00573);
Arora and Zhang, Do GANs actually learn the distribution?, 2017 (arXiv:1706.08224).

    python -m experiments.studies memorising        # a quarter of an hour on one core

Scaled: the papers' theorems are of supports that are polynomial in a critic's size; their generators learn faces.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.spatial.distance import cdist, pdist, squareform

from experiments.studies.framework.image_text import as_text, from_text
from experiments.studies.framework.study import Case, Claim, Numbers, Result, Study
from experiments.studies.framework.training import play, start
from gan_jax import pictures
from gan_jax.data import from_arrays, load
from gan_jax.data.arrays import decode
from gan_jax.data.source import Source
from gan_jax.evaluation.sampling import sample
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.metrics.neural import CriticFamily, neural_distance
from gan_jax.metrics.support import support_size
from gan_jax.metrics.two_sample import interval_distance
from gan_jax.networks import DCGANCritic, DCGANGenerator, R3GANCritic, R3GANGenerator, from_linen
from gan_jax.objectives import add_terms, r1
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.r3gan import r3gan
from gan_jax.schedule import alternating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIM, MEMORISED = 200, 20_000
SIZES = (50, 100, 200, 400, 800, 1600, 3200)
SUPPORTS = (100, 1000, 10_000, 100_000)
WIDTH, LATENT, ROUNDS = 16, 16, 2000
BATCH, BATCHES, SHOWN = 40, 200, 8
"""Samples of a batch in which near-duplicates are sought, batches, and batches whose nearest pair is shown."""


def distances(seed: int, quick: bool) -> Numbers:
    """A bound of W1 and the neural-net distance between N(0, I / d) and a generator that repeats points of it."""
    draw = np.random.default_rng(seed)
    memory, fresh, other = (draw.normal(size=(MEMORISED, DIM)) / np.sqrt(DIM) for _ in range(3))
    samples = memory[draw.integers(MEMORISED, size=MEMORISED)]
    # Whatever the coupling, mass at x has to come from a memorised point.
    nearest = cdist(fresh[:1000], memory).min(axis=1)
    family = CriticFamily(width=8)
    found, null = (neural_distance(fresh, y, family, seed=seed, permutations=99) for y in (samples, other))
    return {
        "w1": nearest.mean(),
        "neural": abs(found.value),
        "trained": found.trained,
        "half_space": half_space_distance(fresh, samples),
        "neural_null": abs(null.value),
        "half_space_null": half_space_distance(fresh, other),
    }


def half_space_distance(x: np.ndarray, y: np.ndarray) -> float:
    """|P(w x > b) - Q(w x > b)| on half of the samples, for the difference of means w and the best b of the others.

    Args:
      x, y: samples `[N, D]` each.
    """
    (x_learn, x_test), (y_learn, y_test) = (np.array_split(side, 2) for side in (x, y))
    direction = x_learn.mean(axis=0) - y_learn.mean(axis=0)
    bounds = np.quantile(np.concatenate([x_learn, y_learn]) @ direction, np.linspace(0.01, 0.99, 99))

    def beyond(side: np.ndarray) -> np.ndarray:
        return (side @ direction)[:, None] > bounds

    best = np.abs(beyond(x_learn).mean(axis=0) - beyond(y_learn).mean(axis=0)).argmax()
    return float(abs(beyond(x_test)[:, best].mean() - beyond(y_test)[:, best].mean()))


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


@functools.cache
def halves() -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the digits, `[N, 64]` in [-1, 1]."""
    images = np.asarray(decode(jnp.asarray(load("digits")["x"]))).reshape(-1, 64)
    first, second = np.array_split(np.random.default_rng(0).permutation(len(images)), 2)
    return images[first], images[second]


@functools.cache
def game_of(network: str) -> tuple[Game, Source]:
    """A DCGAN or an R3GAN for digits."""
    critic, generator, objective, adam = {
        "DCGAN": lambda: (
            DCGANCritic(width=WIDTH, norm="none"),
            DCGANGenerator(size=8, channels=1, width=WIDTH),
            add_terms(non_saturating(gaussian(LATENT)), r1(0.05)),
            optax.adam(5e-4, b1=0.5),
        ),
        "R3GAN": lambda: (
            R3GANCritic(width=WIDTH, blocks=1),
            R3GANGenerator(size=8, channels=1, width=WIDTH, blocks=1),
            r3gan(gaussian(LATENT), gamma=0.1),
            optax.adam(2e-4, b1=0.0, b2=0.99),
        ),
    }[network]()
    game = Game(
        players={
            "critic": Player(from_linen(critic, jnp.zeros((2, 8, 8, 1))), adam),
            "generator": Player(from_linen(generator, jnp.zeros((2, LATENT))), adam, ema=0.995),
        },
        objective=objective,
        schedule=alternating(),
    )
    return game, from_arrays({"x": load("digits")["x"]}, 64)


def trained(seed: int, quick: bool, network: str, rounds: int = ROUNDS) -> Numbers:
    """Near-duplicates among samples of a generator after some rounds."""
    game, source = game_of(network)
    state = start(game, seed)
    if rounds:
        state, _ = play(game, source, seed, rounds // 10 if quick else rounds)
    samples = sample(game, state, jax.random.key(600 + seed), BATCH * BATCHES)
    return near_duplicates(samples.reshape(BATCHES, BATCH, 64), seed)


def noise(seed: int, quick: bool) -> Numbers:
    """Near-duplicates among uniform noise."""
    return near_duplicates(np.random.default_rng(seed).uniform(-1, 1, size=(BATCHES, BATCH, 64)), seed)


def real(seed: int, quick: bool) -> Numbers:
    """Near-duplicates among distinct digits of the second half of the data."""
    return near_duplicates(distinct(halves()[1], seed), seed)


def distinct(images: np.ndarray, seed: int) -> np.ndarray:
    """Batches of distinct images, `[BATCHES, BATCH, 64]`."""
    draw = np.random.default_rng(seed)
    return np.stack([images[draw.choice(len(images), BATCH, replace=False)] for _ in range(BATCHES)])


@functools.cache
def tolerance() -> float:
    """The distance that the nearest pair of a batch of distinct digits is below in 5 % of batches."""
    batches = np.concatenate([distinct(halves()[0], 1000 + k) for k in range(4)])
    return float(np.quantile([pdist(batch).min() for batch in batches], 0.05))


def near_duplicates(batches: np.ndarray, seed: int) -> Numbers:
    """The share of batches with a near-duplicate, the support that it says, and some batches' nearest pairs."""
    size = support_size(batches.reshape(-1, 64), BATCH, tolerance=tolerance())
    numbers: Numbers = {"share": size.hits / size.batches, "support": [size.low, size.value, size.high]}
    if seed == 0:
        pairs = []
        for batch in batches[:SHOWN]:
            apart = squareform(pdist(batch)) + np.diag(np.full(BATCH, np.inf))
            pairs += [batch[place] for place in np.unravel_index(apart.argmin(), apart.shape)]
        numbers["pairs"] = as_text(pairs)
    return numbers


SCORED: dict[str, Case] = {
    "DCGAN": functools.partial(trained, network="DCGAN"),
    "R3GAN": functools.partial(trained, network="R3GAN"),
    "noise": noise,
    "untrained": functools.partial(trained, network="DCGAN", rounds=0),
    "real": real,
}


def figure(results: Sequence[Result]) -> Figure:
    """Distances of samples by their size, samples needed by N, distances of a memory, near-duplicates and pairs."""
    sizes = np.asarray(SIZES)
    falls: dict[str, Any] = {
        name: (sizes, [r["complexity"][name] for r in results]) for name in ("intervals", "critics")
    }
    falls["m^(-1/2)"] = (sizes, sizes**-0.5)
    needs = {
        f"{name} half": (SUPPORTS, [r["uniform_toys"][name] for r in results])
        for name in ("known", "unknown")
    }
    keys = {
        "W1 of a memory": "w1",
        "neural-net, memory": "neural",
        "neural-net, fresh": "neural_null",
        "half-space, memory": "half_space",
        "half-space, fresh": "half_space_null",
    }
    measured = {name: [max(r["distances"][key], 1e-4) for r in results] for name, key in keys.items()}
    shares = {name: [r[name]["share"] for r in results] for name in SCORED}
    strips = [
        pictures.image(
            pictures.image_grid(
                from_text(results[0][name]["pairs"], 8)
                .reshape(SHOWN, 2, 8, 8, 1)
                .swapaxes(0, 1)
                .reshape(-1, 8, 8, 1),
                SHOWN,
                gap=1,
                scale=4,
            ),
            title=f"{name}: nearest pairs of {SHOWN} batches",
        )
        for name in ("DCGAN", "R3GAN", "real")
    ]
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
                    log=True,
                    x_label="distance to N(0, I/200)",
                    title="20,000 memorised points against fresh samples",
                ),
                pictures.dot_plot(
                    shares,
                    x_label=f"share of batches of {BATCH} with a near-duplicate",
                    title="Digits: every seed, mean and 95 % interval",
                    marks=[0.05],
                ),
            ),
            height=2.0,
        ),
        pictures.Row(tuple(strips), height=1.3),
    )


def near(value: float, target: float) -> float:
    """The distance to a target."""
    return abs(value - target)


def over_null(name: str, result: Result) -> float:
    """By how much small critics' distance of a memory exceeds that of fresh samples."""
    found = result["distances"]
    return found[name] - found[f"{name}_null"]


TRAINED = ("DCGAN", "R3GAN")

STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=14,
    cases={
        "distances": distances,
        "complexity": complexity,
        "birthday": birthday,
        "uniform_toys": uniform_toys,
        **SCORED,
    },
    seeds=5,
    claims=(
        Claim(effect=lambda r: r["distances"]["w1"], at_least=1.0, quick=1.0),
        Claim(effect=lambda r: r["distances"]["neural"] / r["distances"]["w1"], at_most=0.1, quick=0.1),
        Claim(effect=functools.partial(over_null, "half_space"), at_most=0.02, quick=0.03),
        Claim(effect=functools.partial(over_null, "neural"), at_most=0.02, reproduces=False),
        Claim(effect=lambda r: near(r["complexity"]["intervals_exponent"], -0.5), at_most=0.1, quick=0.1),
        Claim(effect=lambda r: near(r["complexity"]["critics_exponent"], -0.5), at_most=0.1, quick=0.1),
        Claim(effect=lambda r: r["complexity"]["odd_even"], at_most=0.01, quick=0.01, every_seed=True),
        Claim(effect=lambda r: r["birthday"]["share"], at_least=0.9, quick=0.8),
        Claim(
            effect=lambda r: max(r[name]["share"] for name in TRAINED) / r["untrained"]["share"],
            at_most=0.5,
            reproduces=False,
        ),
        Claim(effect=lambda r: min(r[name]["share"] for name in TRAINED) - r["real"]["share"], at_least=0.05),
        Claim(effect=lambda r: r["uniform_toys"]["known_exponent"], at_most=0.1, quick=0.15),
        Claim(effect=lambda r: near(r["uniform_toys"]["unknown_exponent"], 0.5), at_most=0.1, quick=0.1),
    ),
    figure=figure,
)
