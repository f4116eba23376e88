"""Scores of several sets of fakes against the same real images, with intervals and paired differences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy import special

from gan_jax.data.subsample import subsample
from gan_jax.functional.intervals import student_interval
from gan_jax.functional.options import check_count, check_number
from gan_jax.metrics.estimate import Bootstrap
from gan_jax.metrics.features import names_of
from gan_jax.metrics.frechet import frechet_bootstrap, frechet_distance, gaussian_bootstrap
from gan_jax.metrics.gaussians import Gaussian, check_ddof
from gan_jax.metrics.kernel import block_estimates, subset_estimates
from gan_jax.metrics.monge import monge_bootstrap
from gan_jax.metrics.prdc import ball_membership
from gan_jax.metrics.score import score_bootstrap, split_scores
from gan_jax.metrics.summaries import Summary

METRICS = ("frechet", "kernel", "kernel_subsets", "score", "score_contiguous", "neighbors")
"""What can be measured:

    frechet           the Frechet distance; resamples of both sides
    kernel            the kernel distance by disjoint blocks; Student's t of the blocks
    kernel_subsets    the same by 100 random subsets of 1,000; the blocks' variance and that of choosing subsets
    score             the classifier score by 10 shuffled splits; resamples of all samples
    score_contiguous  the same by contiguous splits of 5,000; resamples of all samples
    neighbors         precision, recall, density, coverage; parts of both sides, drawn without replacement
"""
BY_NAME = ("spatial", "monge")
"""What is measured where it is asked for by name:

    spatial           the Frechet distance of spatial features (sFID); resamples of both sides
    monge             the Monge distance (MIND) over 1,000 directions, held fixed; resamples of both sides
"""
_PARTS = 20
"""The number of parts by which the neighbour scores have their intervals."""
_LARGEST_PART = 2500
"""The most samples in a part of the larger set; up to twice as many are halved."""
_RESAMPLES = ((64, 100), (256, 40), (1024, 20), (math.inf, 10))
"""The numbers of resamples of the Frechet distance, by the largest number of dimensions that a resample takes."""
_BLOCKS = 10
"""The smallest number of blocks of the kernel distance, if there are enough samples."""
_FEW_FOR_BALLS = "it takes twice k + 1 samples of each side, a k-th neighbour in each half"
_ONE_BLOCK = "it takes two blocks of two samples of each side, and fewer than four are there"

Bounds: TypeAlias = tuple[float, float, float]
"""A value and the bounds of its interval, which are NaN if there is none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How metrics are computed.

    Attributes:
      ddof: covariances divide by N - ddof.
      neighbors: k of precision and recall.
      block_size: the block size of the kernel distance; smaller where it takes that for ten blocks.
      pairs: the largest number of samples of a side whose distances in pairs are computed (precision and recall).
      seed: the seed of shuffles, subsets and resamples.
      level: the confidence level of intervals.
    """

    ddof: int = 1
    neighbors: int = 5
    block_size: int = 1000
    pairs: int = 10_000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
          ValueError: naming the one that is out of range.
        """
        check_ddof(self.ddof)
        for name, least in (("neighbors", 1), ("block_size", 2), ("pairs", 2), ("seed", 0)):
            check_count("Settings", name, getattr(self, name), least=least)
        check_number("Settings", "level", self.level, above=0, below=1)

    def __str__(self) -> str:
        covariance = "N" if self.ddof == 0 else "N-1"
        return (
            f"covariance={covariance} neighbors={self.neighbors} neighbors_samples<={self.pairs} "
            f"block_size<={self.block_size} subset_size<=1000 level={self.level:g}"
        )


class Real(NamedTuple):
    """The real side of a comparison.

    Attributes:
      summary: the features of images; `None` if there are only statistics.
      gaussian: statistics that the Frechet distance is computed from in place of the images'; `None` without.
      spatial: the same of spatial features.
    """

    summary: Summary | None
    gaussian: Gaussian | None = None
    spatial: Gaussian | None = None


class Measured(NamedTuple):
    """Values of F sets of fakes and how they differ.

    Attributes:
      bounds: a value and its interval for each set.
      difference: `(i, j) -> ` the value of i less that of j, with its interval; `None` if it has none.
      without: the reason where a set has no interval.
    """

    bounds: list[Bounds]
    difference: Callable[[int, int], Bounds | None]
    without: str = ""


class Paired(NamedTuple):
    """The metrics of F sets of fakes.

    Attributes:
      measured: by the metric's name.
      left_out: the reasons for metrics that could not be computed, by name.
    """

    measured: dict[str, Measured]
    left_out: dict[str, str]


def paired_scores(
    real: Real, fakes: Sequence[Summary], which: Sequence[str] = METRICS, settings: Settings | None = None
) -> Paired:
    """Measures sets of fakes against the same real images.

    Args:
      real: the real side.
      fakes: the sets of fakes, their features by the same extractor.
      which: some of `METRICS` and `BY_NAME`.
      settings: how; see `Settings`.
    """
    chosen = settings or Settings()
    extractor = fakes[0].features.extractor
    names = names_of(extractor)
    balls = f"(k={chosen.neighbors}, {extractor.name})"
    measures: dict[str, Callable[[], dict[str, Measured]]] = {
        "frechet": lambda: {names["frechet"]: _frechet(real, fakes, chosen)},
        "kernel": lambda: {names["kernel"]: _kernel(_features(real), fakes, chosen)},
        "kernel_subsets": lambda: {
            f"{names['kernel']} (100 subsets)": _subsets(_features(real), fakes, chosen)
        },
        "score": lambda: {names["score"]: _splits(fakes, chosen, None)},
        "score_contiguous": lambda: {f"{names['score']} (splits of 5,000)": _splits(fakes, chosen, 5000)},
        "neighbors": lambda: {
            f"{name} {balls}": measured
            for name, measured in _neighbors(_features(real), fakes, chosen).items()
        },
        "spatial": lambda: {names["spatial"]: _spatial(real, fakes, chosen)},
        "monge": lambda: {names["monge"]: _monge(_features(real), fakes, chosen)},
    }
    found = Paired({}, {})
    for name in which:
        try:
            found.measured.update(measures[name]())
        except ValueError as error:
            found.left_out[name] = str(error)
    return found


def _features(real: Real) -> Summary:
    if real.summary is None:
        raise ValueError("needs the real images, and a statistics file has none")
    return real.summary


def _frechet(real: Real, fakes: Sequence[Summary], settings: Settings) -> Measured:
    first = real.gaussian if real.gaussian is not None else _features(real).features.features
    drawn = _bootstrap(first, [fake.features.features for fake in fakes], settings)
    values = drawn.values.copy()
    for place, fake in enumerate(fakes):
        fitted = real.gaussian if real.gaussian is not None else _features(real).moments
        whole = fake.complete and (real.gaussian is not None or _features(real).complete)
        if not whole and fitted is not None and fake.moments is not None:
            values[place] = frechet_distance(fitted, fake.moments, ddof=settings.ddof)
    return distances(values, drawn, settings)


def _bootstrap(first: np.ndarray | Gaussian, others: Sequence[np.ndarray], settings: Settings) -> Bootstrap:
    resamples = resamples_of(min(others[0].shape[1], *map(len, others)))
    seed, ddof = settings.seed, settings.ddof
    if isinstance(first, Gaussian):
        return gaussian_bootstrap(first, others, resamples=resamples, seed=seed, ddof=ddof)
    return frechet_bootstrap(first, others, resamples=resamples, seed=seed, ddof=ddof)


def resamples_of(number: int) -> int:
    """The number of resamples of a Frechet distance that is computed in so many dimensions."""
    return next(draws for most, draws in _RESAMPLES if number <= most)


def distances(values: np.ndarray, drawn: Bootstrap, settings: Settings) -> Measured:
    """Distances with the bootstrap's intervals, which do not reach below 0."""
    bounds = []
    for place, value in enumerate(values):
        _, low, high = drawn.interval(place, settings.level)
        bounds.append((float(value), max(low, 0.0), max(high, 0.0)))

    def difference(i: int, j: int) -> Bounds:
        _, low, high = drawn.interval(i, settings.level, against=j)
        return float(values[i] - values[j]), low, high

    return Measured(bounds, difference)


def _spatial(real: Real, fakes: Sequence[Summary], settings: Settings) -> Measured:
    sides = [*fakes, *([] if real.summary is None else [real.summary])]
    parts = not all(side.complete for side in sides)
    placed = (
        Real(None, real.spatial) if real.spatial is not None else Real(_of_places(_features(real), parts))
    )
    return _frechet(placed, [_of_places(fake, parts) for fake in fakes], settings)


def _of_places(summary: Summary, parts: bool) -> Summary:
    """The summary with the spatial features in place of the others, their moments where they are needed."""
    features = summary.features
    if features.spatial is None:
        raise ValueError(f"{features.extractor.name!r} has no spatial features")
    return summary._replace(
        features=features._replace(features=features.spatial),
        moments=summary.moments_of_places() if parts else None,
    )


def _monge(real: Summary, fakes: Sequence[Summary], settings: Settings) -> Measured:
    others = [fake.features.features for fake in fakes]
    drawn = monge_bootstrap(real.features.features, others, seed=settings.seed)
    return distances(drawn.values, drawn, settings)


def _kernel(real: Summary, fakes: Sequence[Summary], settings: Settings) -> Measured:
    blocks = _blocks(real, fakes, settings)

    def difference(i: int, j: int) -> Bounds | None:
        return _bounds_or_none(_student(blocks[i] - blocks[j], settings.level))

    return Measured([_student(values, settings.level) for values in blocks], difference, _ONE_BLOCK)


def _blocks(real: Summary, fakes: Sequence[Summary], settings: Settings) -> list[np.ndarray]:
    """The estimates of disjoint blocks, as many for all sets, so that their real blocks are the same."""
    largest, smallest = (take(len(side.features.features) for side in (real, *fakes)) for take in (max, min))
    number = max(1, min(max(_BLOCKS, -(-largest // settings.block_size)), smallest // 2))
    reals = real.features.features
    return [block_estimates(reals, fake.features.features, number, seed=settings.seed) for fake in fakes]


def _bounds_or_none(bounds: Bounds) -> Bounds | None:
    return bounds if math.isfinite(bounds[1]) else None


def _student(values: np.ndarray, level: float) -> Bounds:
    if len(values) < 2:
        return float(values[0]), math.nan, math.nan
    mean, low, high = (float(bound) for bound in student_interval(values, level))
    return mean, low, high


def _subsets(real: Summary, fakes: Sequence[Summary], settings: Settings) -> Measured:
    """Subsets overlap, so their spread is that of choosing them; the samples' own variance is the blocks'.

    Disjoint blocks average to a variance that is no smaller than that of the estimate from all pairs of samples.
    """
    reals = real.features.features
    subsets = [subset_estimates(reals, fake.features.features, seed=settings.seed) for fake in fakes]
    blocks = _blocks(real, fakes, settings)

    def difference(i: int, j: int) -> Bounds | None:
        gap = float(subsets[i].mean() - subsets[j].mean())
        if len(subsets[i]) == len(subsets[j]):
            chosen = _variance_of_mean(subsets[i] - subsets[j])
        else:
            chosen = _variance_of_mean(subsets[i]) + _variance_of_mean(subsets[j])
        return _bounds_or_none(_about(gap, blocks[i] - blocks[j], chosen, settings.level))

    bounds = [
        _about(float(values.mean()), of_blocks, _variance_of_mean(values), settings.level)
        for values, of_blocks in zip(subsets, blocks, strict=True)
    ]
    return Measured(bounds, difference, _ONE_BLOCK)


def _variance_of_mean(values: np.ndarray) -> float:
    """The variance of the mean of independent values; 0 for a single one, where all subsets are the same."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def _about(value: float, blocks: np.ndarray, variance: float, level: float) -> Bounds:
    """A value with the variance of the blocks' mean and another: Student's t of the blocks."""
    if len(blocks) < 2:
        return value, math.nan, math.nan
    reach = float(special.stdtrit(len(blocks) - 1, (1 + level) / 2))
    reach *= math.sqrt(_variance_of_mean(blocks) + variance)
    return value, value - reach, value + reach


def _splits(fakes: Sequence[Summary], settings: Settings, split_size: int | None) -> Measured:
    """Means over splits, with intervals from resamples of whole sets.

    A split's score is too low, the more so the fewer samples it has, and the spread over splits does not show it.
    """
    logits, values = [], []
    for fake in fakes:
        if fake.features.logits is None:
            raise ValueError(f"{fake.features.extractor.name!r} is no classifier")
        logits.append(fake.features.logits)
        seed = settings.seed if split_size is None else None
        splits = min(10, len(fake.features.logits))
        values.append(split_scores(logits[-1], splits=splits, split_size=split_size, seed=seed).mean())
    drawn = score_bootstrap(logits, seed=settings.seed)
    ends = [drawn.interval(place, settings.level)[1:] for place in range(len(logits))]
    classes = logits[0].shape[1]  # a score lies in [1, C]
    bounds = [
        (float(value), min(max(low, 1.0), float(classes)), min(max(high, 1.0), float(classes)))
        for value, (low, high) in zip(values, ends, strict=True)
    ]

    def difference(i: int, j: int) -> Bounds:
        """The sets are independent: there are no real samples that they share."""
        (low, high), (other_low, other_high) = ends[i], ends[j]
        center = (low + high - other_low - other_high) / 2
        reach = math.hypot(high - low, other_high - other_low) / 2
        return float(values[i] - values[j]), center - reach, center + reach

    return Measured(bounds, difference)


def _neighbors(real: Summary, fakes: Sequence[Summary], settings: Settings) -> dict[str, Measured]:
    """Precision, recall, density and coverage, with intervals by parts of both sides.

    All four depend on both sides, by what is counted and by the balls. Parts are drawn without replacement, since
    among repeated samples the balls would be too small. The variance of a part with a share f of the samples is
    `(1 - f) / f` times that of the whole sets.

    References:
      Shao and Wu, A General Theory for Jackknife Variance Estimation, 1989.
    """
    reals, others = _part(real, settings), [_part(fake, settings) for fake in fakes]
    k, sizes = settings.neighbors, [len(reals), *map(len, others)]
    counted = [ball_membership(reals, other, neighbors=k).counted(k) for other in others]
    share = min(0.5, _LARGEST_PART / max(sizes))
    share = max(share, (k + 1) / min(sizes))
    drawn = {name: np.full((len(others), _PARTS), math.nan) for name in counted[0]}
    if share <= 0.5:
        rng = np.random.default_rng(settings.seed)
        for draw in range(_PARTS):
            some = _without_replacement(reals, share, rng)  # the same for all sets
            for place, other in enumerate(others):
                found = ball_membership(some, _without_replacement(other, share, rng), neighbors=k)
                for name, values in found.counted(k).items():
                    drawn[name][place, draw] = values.mean()
    measured = {}
    for name, draws in drawn.items():
        sets = [values[name].astype(np.float64) for values in counted]
        values = np.array([each.mean() for each in sets])
        spread = (draws - draws.mean(axis=1, keepdims=True)) * math.sqrt(share / max(1 - share, share))
        bootstrap = Bootstrap(values, values[:, None] + spread, min(sizes) - 1)
        measured[name] = _fractions(name, sets, bootstrap, settings.level)
    return measured


def _without_replacement(samples: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    return samples[rng.permutation(len(samples))[: round(share * len(samples))]]


def _part(summary: Summary, settings: Settings) -> np.ndarray:
    features = summary.features.features
    return features[subsample(len(features), settings.pairs, seed=settings.seed)]


def _fractions(name: str, sets: Sequence[np.ndarray], drawn: Bootstrap, level: float) -> Measured:
    """Intervals by the parts, of fractions at least Wilson's, which is not empty where all parts have 0 or 1."""
    bounds = []
    for place, hits in enumerate(sets):
        value, low, high = drawn.interval(place, level)
        if name == "density":
            low = max(low, 0.0)
        else:
            _, least, most = wilson(hits, level)
            low, high = max(min(low, least), 0.0), min(max(high, most), 1.0)
        bounds.append((value, low, high) if np.isfinite(drawn.draws).all() else (value, math.nan, math.nan))
    return Measured(bounds, lambda i, j: _bounds_or_none(drawn.interval(i, level, against=j)), _FEW_FOR_BALLS)


def wilson(hits: np.ndarray, level: float = 0.95) -> Bounds:
    """The fraction of hits with Wilson's score interval, which is not empty for 0 and 1.

    >>> [round(bound, 4) for bound in wilson(np.ones(10))]
    [1.0, 0.7225, 1.0]
    """
    n, p = len(hits), float(hits.mean())
    z2 = float(special.ndtri((1 + level) / 2)) ** 2
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # Rounding must not leave a fraction of 0 or 1 outside.
    return p, min(max(center - reach, 0.0), p), max(min(center + reach, 1.0), p)
