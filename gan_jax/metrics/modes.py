"""How many modes of a known mixture the samples reach, and how evenly.

Conventions of PacGAN (Lin et al., 2018, section 4.1): a sample is high quality within three standard
deviations of its nearest mean; a mode counts with one such sample; the reverse KL is that of the histogram of
high-quality samples over the modes against the modes' true weights. Papers differ in all three: tables of
different papers do not mix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from gan_jax.metrics._check import as_samples

_CHUNK = 1 << 22  # distances held at once


def nearest_modes(samples: ArrayLike, means: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Each sample's nearest mean and its Euclidean distance to it.

    Args:
      samples: `[N, D]`.
      means: `[K, D]`.

    Returns:
      Indices `[N]` and distances `[N]`.

    Raises:
      ValueError: where samples are not finite, or of another dimension than the means.
    """
    points, centers = as_samples(samples, "samples"), as_samples(means, "means")
    if points.shape[1] != centers.shape[1]:
        raise ValueError(f"samples have {points.shape[1]} dimensions and the means {centers.shape[1]}.")
    rows = max(1, _CHUNK // len(centers))
    index = np.empty(len(points), dtype=np.int64)
    distance = np.empty(len(points))
    for start in range(0, len(points), rows):
        block = cdist(points[start : start + rows], centers)
        index[start : start + rows] = block.argmin(axis=1)
        distance[start : start + rows] = block.min(axis=1)
    return index, distance


def mode_counts(
    samples: ArrayLike, means: ArrayLike, sigma: ArrayLike, threshold: float = 3.0
) -> tuple[np.ndarray, int]:
    """How many high-quality samples each mode has.

    Args:
      samples: `[N, D]`.
      means: `[K, D]`.
      sigma: the modes' standard deviation, a scalar or `[K]`.
      threshold: within how many standard deviations of its nearest mean a sample is high quality.

    Returns:
      Counts `[K]`, and N.

    Raises:
      ValueError: as `nearest_modes`, and where sigma or the threshold is not positive.
    """
    index, distance = nearest_modes(samples, means)
    modes = len(np.asarray(means))
    deviation = np.broadcast_to(np.asarray(sigma, dtype=np.float64), (modes,))
    if not (deviation > 0).all() or not threshold > 0:
        raise ValueError(
            f"sigma and threshold are positive, got sigma {deviation} and threshold {threshold}."
        )
    high_quality = distance <= threshold * deviation[index]
    return np.bincount(index[high_quality], minlength=modes), len(index)


def mode_statistics(
    samples: ArrayLike,
    means: ArrayLike,
    sigma: ArrayLike,
    threshold: float = 3.0,
    *,
    weights: ArrayLike | None = None,
) -> dict[str, Any]:
    """Modes covered, high-quality share, reverse KL and entropy of samples from a mixture of Gaussians.

    Args:
      samples: `[N, D]`.
      means: `[K, D]`.
      sigma: the modes' standard deviation, a scalar or `[K]`.
      threshold: within how many standard deviations of its nearest mean a sample is high quality.
      weights: the modes' true weights `[K]`; uniform if not given.

    Returns:
      A dict of Python numbers: `modes_covered` (modes with a high-quality sample), `modes` (K),
      `high_quality_share` in [0, 1], `reverse_kl` in nats (0 is even; log K a single mode of K even ones; NaN
      where no sample is high quality), `entropy` in nats of the histogram of high-quality samples,
      `samples` (N).

    Raises:
      ValueError: where samples are not finite, dimensions differ, or sigma, threshold or weights are not
        positive.

    >>> import numpy as np
    >>> means = np.array([[-1.0, 0.0], [1.0, 0.0]])
    >>> samples = np.array([[-1.0, 0.01], [-1.02, 0.0], [0.4, 0.0], [-0.99, 0.0]])
    >>> found = mode_statistics(samples, means, sigma=0.01)
    >>> found["modes_covered"], found["high_quality_share"], round(found["reverse_kl"], 4)
    (1, 0.75, 0.6931)
    """
    counts, number = mode_counts(samples, means, sigma, threshold)
    return {
        "modes_covered": int((counts > 0).sum()),
        "modes": len(counts),
        "high_quality_share": float(counts.sum() / number),
        **_against(counts, weights),
        "samples": number,
    }


def class_statistics(
    classes: ArrayLike, num_classes: int, *, reference: ArrayLike | None = None
) -> dict[str, Any]:
    """The same from a classifier's verdicts: each class is a mode (stacked digits have 1,000).

    Args:
      classes: `[N]` integers in `[0, num_classes)`.
      num_classes: how many there are.
      reference: the data's class probabilities or counts `[num_classes]`; uniform if not given.

    Returns:
      A dict: `modes_covered` (classes seen), `modes`, `reverse_kl` (of the samples' histogram against the
      reference), `entropy`, `samples`.

    Raises:
      ValueError: where classes are not integers in range, or a class has a sample but no reference weight.

    >>> class_statistics([0, 1, 2, 3], num_classes=4)["reverse_kl"]
    0.0
    """
    labels = np.asarray(classes)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise ValueError(f"classes are integers [N], N > 0; got dtype {labels.dtype}, shape {labels.shape}.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"classes lie in [0, {num_classes}), got {labels.min()} to {labels.max()}.")
    counts = np.bincount(labels, minlength=num_classes)
    return {
        "modes_covered": int((counts > 0).sum()),
        "modes": num_classes,
        **_against(counts, reference),
        "samples": len(labels),
    }


def stacked_classes(digits: ArrayLike, base: int = 10) -> np.ndarray:
    """One class for several digits: `[N, C]` verdicts, one a channel, to `[N]` in `[0, base ** C)`.

    >>> stacked_classes([[0, 0, 7], [1, 2, 3]])
    array([  7, 123])
    """
    verdicts = np.asarray(digits)
    if verdicts.ndim != 2 or verdicts.dtype.kind not in "iu" or verdicts.min() < 0 or verdicts.max() >= base:
        raise ValueError(f"digits are integers [N, C] in [0, {base}), got {verdicts.dtype} {verdicts.shape}.")
    return verdicts @ base ** np.arange(verdicts.shape[1])[::-1]


def _against(counts: np.ndarray, weights: ArrayLike | None) -> dict[str, float]:
    """Reverse KL and entropy, in nats, of a histogram."""
    expected = np.ones(len(counts)) if weights is None else np.asarray(weights, dtype=np.float64)
    if expected.shape != counts.shape or not np.isfinite(expected).all() or (expected < 0).any():
        raise ValueError(f"weights are {len(counts)} numbers >= 0, got shape {expected.shape}: {expected}.")
    if not counts.sum():
        return {"reverse_kl": float("nan"), "entropy": float("nan")}
    seen = counts > 0
    if (expected[seen] == 0).any():
        raise ValueError(f"modes {np.flatnonzero(seen & (expected == 0))} have samples, but no weight.")
    share = counts[seen] / counts.sum()
    entropy = float(-(share * np.log(share)).sum())
    cross = float(-(share * np.log(expected[seen] / expected.sum())).sum())
    # Rounding can leave -1e-17 where the histogram is the reference; zero comes first, lest -0.0 be the larger.
    return {"reverse_kl": max(0.0, cross - entropy), "entropy": max(0.0, entropy)}
