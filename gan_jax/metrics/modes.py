"""Coverage of the modes of a known mixture by samples, and the balance between modes.

Conventions of PacGAN (Lin et al., 2018, section 4.1): a sample is high quality within three standard
deviations of its nearest mean; a mode counts with one such sample; the reverse KL is that of the histogram of
high-quality samples over the modes against the modes' true weights. Papers differ in all three, so tables of
different papers are not comparable.
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
      ValueError: if samples are not finite, or of another dimension than the means.
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
    """The number of high-quality samples of each mode.

    Time is O(N K D), memory O(N K).

    Args:
      samples: `[N, D]`.
      means: `[K, D]`.
      sigma: the modes' standard deviation, a scalar or `[K]`.
      threshold: within how many standard deviations of its nearest mean a sample is high quality.

    Returns:
      Counts `[K]`, and N.

    Raises:
      ValueError: as for `nearest_modes`, and if sigma or the threshold is not positive.
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
    """Modes covered, fraction of high quality, reverse KL and entropy of samples from a mixture of Gaussians.

    Time is O(N K D), memory O(N K).

    Args:
      samples: `[N, D]`.
      means: `[K, D]`.
      sigma: the modes' standard deviation, a scalar or `[K]`.
      threshold: within how many standard deviations of its nearest mean a sample is high quality.
      weights: the modes' true weights `[K]`; uniform by default.

    Returns:
      A dict of Python numbers: `modes_covered` (modes with a high-quality sample), `modes` (K),
      `high_quality_share` in [0, 1], `reverse_kl` in nats (0 for balanced modes; log K for one of K balanced modes;
      NaN if no sample is high quality), `entropy` in nats of the histogram of high-quality samples,
      `samples` (N).

    Raises:
      ValueError: if samples are not finite, dimensions differ, or sigma, threshold or weights are not
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
    """Modes covered, reverse KL and entropy of samples by their classes; each class is a mode.

    Time is O(N + K) for K classes, memory O(N + K).

    Args:
      classes: `[N]` integers in `[0, num_classes)`.
      num_classes: the number of classes; 1,000 for stacked digits.
      reference: the data's class probabilities or counts `[num_classes]`; uniform by default.

    Returns:
      A dict: `modes_covered` (classes with a sample), `modes`, `reverse_kl` in nats (of the samples' histogram
      against the reference), `entropy` in nats, `samples`.

    Raises:
      ValueError: if classes are not integers in range, or a class has a sample but no reference weight.

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
    """Combines the digits of C channels `[N, C]` into one class `[N]` in `[0, base ** C)`.

    >>> stacked_classes([[0, 0, 7], [1, 2, 3]])
    array([  7, 123])
    """
    array = np.asarray(digits)
    if array.ndim != 2 or array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= base:
        raise ValueError(f"digits must be integers [N, C] in [0, {base}), got {array.dtype} {array.shape}.")
    return array @ base ** np.arange(array.shape[1])[::-1]


def _against(counts: np.ndarray, weights: ArrayLike | None) -> dict[str, float]:
    """Reverse KL and entropy, in nats, of a histogram."""
    expected = np.ones(len(counts)) if weights is None else np.asarray(weights, dtype=np.float64)
    if expected.shape != counts.shape or not np.isfinite(expected).all() or (expected < 0).any():
        raise ValueError(f"weights are {len(counts)} numbers >= 0, got shape {expected.shape}: {expected}.")
    if not counts.sum():
        return {"reverse_kl": float("nan"), "entropy": float("nan")}
    covered = counts > 0
    if (expected[covered] == 0).any():
        raise ValueError(f"modes {np.flatnonzero(covered & (expected == 0))} have samples, but no weight.")
    p = counts[covered] / counts.sum()
    entropy = float(-(p * np.log(p)).sum())
    cross = float(-(p * np.log(expected[covered] / expected.sum())).sum())
    # Rounding can give -1e-17 for equal histograms. Zero is the first argument, so that -0.0 is not returned.
    return {"reverse_kl": max(0.0, cross - entropy), "entropy": max(0.0, entropy)}
