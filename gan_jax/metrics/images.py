"""All image metrics at once: two arrays of images in, scores with their fingerprint out.

from gan_jax import metrics
scores = metrics.image_scores(real, fake)
print(scores)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from gan_jax.metrics._check import as_pair
from gan_jax.metrics.features import (
    BATCH,
    Extractor,
    Features,
    channel_classes,
    check_same_range,
    features_of,
    names_of,
    pixels,
)
from gan_jax.metrics.fingerprints import Scores, fingerprint_of
from gan_jax.metrics.frechet import frechet_distance
from gan_jax.metrics.kernel import kernel_distance
from gan_jax.metrics.modes import class_statistics, stacked_classes
from gan_jax.metrics.monge import monge_distance
from gan_jax.metrics.prdc import expected_coverage, precision_recall_density_coverage
from gan_jax.metrics.score import classifier_score
from gan_jax.metrics.spatial import spatial_frechet_distance
from gan_jax.metrics.transport import sliced_wasserstein

IMAGE_METRICS = ("frechet", "kernel", "score", "neighbors", "sliced")
BY_NAME = ("spatial", "monge")
"""Metrics that are computed where they are asked for by name: sFID, the Monge distance."""
MOST_DIMENSIONS = 4096
"""The Frechet distance is left out where both the dimensions and the images are more."""
_PIXELS = pixels()


def image_scores(
    real: ArrayLike | Features,
    fake: ArrayLike | Features,
    extractor: Extractor | None = None,
    *,
    which: Sequence[str] = IMAGE_METRICS,
    split: str = "unnamed",
    neighbors: int = 5,
    block_size: int = 1000,
    ddof: int = 1,
    seed: int = 0,
    batch_size: int = BATCH,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> Scores:
    """Frechet and kernel distance, classifier score, precision, recall, density, coverage, sliced Wasserstein.

    Both sets and their features are in memory; `gan_jax.compare` streams them. Time and memory are those of the
    metrics, of which precision and recall grow with the square of the number of images: O((N + M)^2 D).

    Args:
      real: images `[N, H, W, C]`, uint8 or floats in [-1, 1]; or `Features` that were extracted before.
      fake: images `[M, H, W, C]`, uint8 or floats independently of the real ones; or `Features`.
      extractor: the feature extractor; by default the pixels.
      which: some of `IMAGE_METRICS`, or `spatial` (sFID) and `monge` (MIND). The classifier score (of the fakes)
        is left out if there are no logits.
      split: a description of the real data, for the fingerprint.
      neighbors: k of precision and recall.
      block_size: the block size of the kernel distance.
      ddof: covariances of the Frechet distance divide by N - ddof.
      seed: the seed of shuffles and directions.
      batch_size: images extracted at once.
      mesh: devices to extract on.
      progress: whether a bar is shown while a network's features are extracted.

    Returns:
      `Scores`. A metric that cannot be computed for these samples is left out, with the reason in `left_out`: the
      kernel distance of few fakes against many reals, or its standard error for a single block. `coverage_ceiling`
      is the average `coverage` of equally many real samples (`expected_coverage`). The names are `fid`, `kid` and
      `inception_score` for the standard Inception's features, and `frechet`, `kernel` and `classifier_score` for
      any other's. Distances are those of the unscaled features.

    Raises:
      ValueError: for bad images, images of two ranges or shapes, an unknown metric, or where no metric that was
        asked for can be computed.

    >>> rng = np.random.default_rng(0)
    >>> real, fake = rng.uniform(-1, 1, size=(2, 64, 4, 4, 1))
    >>> scores = image_scores(real, fake, which=("frechet", "neighbors"), split="noise")
    >>> sorted(scores.values), scores.fingerprint.extractor
    (['coverage', 'coverage_ceiling', 'density', 'frechet', 'precision', 'recall'], 'pixels')
    """
    if unknown := set(which) - {*IMAGE_METRICS, *BY_NAME}:
        raise ValueError(f"Unknown metrics {sorted(unknown)}: there are {(*IMAGE_METRICS, *BY_NAME)}.")
    chosen = extractor or _PIXELS
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "mesh": mesh,
        "shown": progress and chosen.weights != "none",
    }
    if not isinstance(real, Features) and not isinstance(fake, Features):
        check_same_range(real, fake)
    first = features_of(real, chosen, "real", **options)
    second = features_of(fake, chosen, "fake", **options)
    as_pair(first.features, second.features, dtype=None)
    values, left_out = _measure(first, second, names_of(chosen), which, neighbors, block_size, ddof, seed)
    if left_out and not values:
        raise ValueError("; ".join(f"{name}: {reason}" for name, reason in left_out.items()))
    settings = f"neighbors={neighbors} block_size={block_size} covariance=N-{ddof}"
    return Scores(values, fingerprint_of(first, second, split=split, seed=seed, settings=settings), left_out)


def _measure(
    first: Features,
    second: Features,
    names: dict[str, str],
    which: Sequence[str],
    neighbors: int,
    block_size: int,
    ddof: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, str]]:
    """The metrics by name, and the reasons for those that could not be computed."""
    real, fake = first.features, second.features

    def frechet() -> dict[str, float]:
        if (number := min(*real.shape, len(fake))) > MOST_DIMENSIONS:
            raise ValueError(
                f"in {number:,} dimensions it takes hours and gigabytes: use a network's features, or at most "
                f"{MOST_DIMENSIONS:,} images"
            )
        return {names["frechet"]: frechet_distance(real, fake, ddof=ddof)}

    def kernel() -> dict[str, float]:
        distance = kernel_distance(real, fake, block_size=block_size, seed=seed)
        return {names["kernel"]: distance.value, f"{names['kernel']}_error": distance.standard_error}

    def score() -> dict[str, float]:
        if second.logits is None:
            return {}
        result = classifier_score(second.logits, splits=min(10, len(fake)), seed=seed)
        return {names["score"]: result.mean, f"{names['score']}_std": result.std}

    def prdc() -> dict[str, float]:
        fractions = precision_recall_density_coverage(real, fake, neighbors=neighbors)
        return {**fractions, "coverage_ceiling": expected_coverage(len(real), len(fake), neighbors=neighbors)}

    def sliced() -> dict[str, float]:
        distance = sliced_wasserstein(real, fake, seed=seed)
        return {"sliced_wasserstein": distance.value, "sliced_wasserstein_error": distance.standard_error}

    def monge() -> dict[str, float]:
        distance = monge_distance(real, fake, seed=seed)
        return {names["monge"]: distance.value, f"{names['monge']}_error": distance.standard_error}

    measures = {
        names["frechet"]: ("frechet", frechet),
        names["kernel"]: ("kernel", kernel),
        names["score"]: ("score", score),
        "neighbors": ("neighbors", prdc),
        "sliced_wasserstein": ("sliced", sliced),
        names["spatial"]: (
            "spatial",
            lambda: {names["spatial"]: spatial_frechet_distance(first, second, ddof=ddof)},
        ),
        names["monge"]: ("monge", monge),
    }
    values: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name, (asked, measure) in measures.items():
        if asked not in which:
            continue
        try:
            values |= measure()
        except ValueError as error:
            left_out[name] = str(error)
    # JSON has no NaN.
    for name in [name for name, value in values.items() if not math.isfinite(value)]:
        del values[name]
        single_block = name == f"{names['kernel']}_error"
        left_out[name] = (
            "the samples make one block, which has no spread" if single_block else "it is not finite"
        )
    return values, left_out


def stacked_digit_statistics(images: ArrayLike, classifier: Extractor, **options: Any) -> dict[str, Any]:
    """Modes covered and reverse KL of stacked digits: a class for every combination, 1,000 with three channels.

    Time is O(N C) forward passes of the classifier, memory that of the images and one batch: O(N H W C).

    Args:
      images: `[N, H, W, C]`, a digit in every channel.
      classifier: a classifier of single digits `[N, H, W, 1]`, with ten logits.
      options: see `extract`.

    Returns:
      The result of `class_statistics`.
    """
    digits = channel_classes(classifier, np.asarray(images), **options)
    return class_statistics(stacked_classes(digits), 10 ** digits.shape[1])
