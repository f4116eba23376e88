"""Two-sample tests of whether two sets of samples have the same distribution, with valid p-values.

Permutation tests are exact at any sample size: under the null hypothesis the observed statistic is one of
`permutations + 1` exchangeable ones, so `P(p <= a) <= a`. Their smallest p-value is `1 / (permutations + 1)`.
Ties count in favour of the null hypothesis, so p-values are conservative if a statistic has few values.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist, squareform

from gan_jax.metrics._check import as_pair
from gan_jax.metrics.kernel import polynomial_kernel

_MAX_POOLED = 16384  # a kernel matrix of 2 GiB


class TwoSampleResult(NamedTuple):
    """The result of a two-sample test.

    Attributes:
      statistic: the test's statistic; larger values are evidence of a difference.
      p_value: the probability of a statistic at least as large if both sets have the same distribution.
      details: the test's settings: test, kernel, bandwidth, classifier, permutations, sample sizes, seed.
    """

    statistic: float
    p_value: float
    details: Mapping[str, Any]


# --- classifier ---------------------------------------------------------------------------------------------


def classifier_test(
    real: ArrayLike, fake: ArrayLike, *, classifier: Any = "neighbors", seed: int = 0
) -> TwoSampleResult:
    """The classifier two-sample test: can a classifier separate held-out samples (Lopez-Paz and Oquab, 2017)?

    A classifier is trained on half of each set, and its hits are counted on the other half, n of each. Given the K
    samples that it calls fake, the labels under the null hypothesis are a random n of the 2 n, so the number of
    fakes among the K is hypergeometric for every classifier (hits need not be binomial). The held-out samples are
    shuffled, so that their order carries no information. With nearest neighbours time is at most O((N + M)^2 D),
    memory O((N + M) D).

    Args:
      real: `[N, ...]`; the larger set is cut at random to the smaller one's size.
      fake: `[M, ...]`.
      classifier: `"neighbors"` (the nearest sqrt(N), consistent against any difference), `"logistic"` (finds
        shifts, in many dimensions too), or an object with scikit-learn's `fit` and `predict`.
      seed: the seed of the split.

    Returns:
      Held-out accuracy and its one-sided exact hypergeometric p-value (Fisher's exact test).

    Raises:
      ValueError: for bad samples, fewer than four of either set, or an unknown classifier.

    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> found = classifier_test(x[:100], x[100:] + 2.0)
    >>> found.p_value < 1e-6
    True
    """
    from scipy.stats import hypergeom  # imported here, as it takes half a second

    first, second = as_pair(real, fake, at_least=4)
    rng = np.random.default_rng(seed)
    size = min(len(first), len(second))
    half = size // 2
    parts = [side[rng.permutation(len(side))[:size]] for side in (first, second)]
    train = np.concatenate([part[half:] for part in parts])
    held_out = np.concatenate([part[:half] for part in parts])
    train_label = np.repeat([0, 1], size - half)
    shuffle = rng.permutation(2 * half)
    held_out, label = held_out[shuffle], np.repeat([0, 1], half)[shuffle]
    name, model = _classifier(classifier, len(train))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a classifier that has not converged only loses power
        verdicts = np.asarray(model.fit(train, train_label).predict(held_out))
    called_fake = verdicts == 1
    caught = int((called_fake & (label == 1)).sum())
    p_value = float(hypergeom.sf(caught - 1, 2 * half, half, int(called_fake.sum())))
    details = {
        "test": "classifier",
        "classifier": name,
        "train": len(train),
        "held_out": len(label),
        "seed": seed,
    }
    return TwoSampleResult(float((verdicts == label).mean()), p_value, details)


def _classifier(classifier: Any, samples: int) -> tuple[str, Any]:
    if hasattr(classifier, "fit"):
        return repr(classifier), classifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if classifier == "neighbors":
        neighbors = max(int(np.sqrt(samples)) // 2 * 2 - 1, 1)  # odd: votes are never tied
        return f"{neighbors} nearest neighbors", KNeighborsClassifier(neighbors)
    if classifier == "logistic":
        return "logistic regression", make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    raise ValueError(
        f"Unknown classifier {classifier!r}: 'neighbors', 'logistic', or one with fit and predict."
    )


# --- kernels and distances ----------------------------------------------------------------------------------


def mmd_test(
    real: ArrayLike,
    fake: ArrayLike,
    *,
    kernel: str = "gaussian",
    bandwidth: float | str = "median",
    permutations: int = 499,
    seed: int = 0,
) -> TwoSampleResult:
    """Maximum mean discrepancy with a permutation test (Gretton et al., 2012).

    Time is O((N + M)^2 (D + permutations)), memory O((N + M)^2).

    Args:
      real: `[N, ...]`.
      fake: `[M, ...]`; N + M is at most 16,384.
      kernel: `"gaussian"`, `exp(-d^2 / 2 h^2)`; `"laplace"`, `exp(-d / h)`; or `"polynomial"`, KID's cubic.
      bandwidth: h, or `"median"`: the median distance between pooled samples, the same under every permutation.
      permutations: relabellings drawn.
      seed: the seed of the relabellings.

    Returns:
      The unbiased squared MMD and its p-value; `details` has the kernel and the bandwidth that was used.

    Raises:
      ValueError: for bad samples, an unknown kernel, or a bandwidth that is not positive.

    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> mmd_test(x[:50], x[50:] + 1.0).p_value
    0.002
    """
    first, second = as_pair(real, fake, at_least=2)
    pooled = _pooled(first, second)
    gram, width = _gram(pooled, kernel, bandwidth)
    np.fill_diagonal(gram, 0.0)
    n, m = len(first), len(second)

    def statistic(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> np.ndarray:
        return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)

    details = {"test": "mmd", "kernel": kernel, "bandwidth": width}
    return _quadratic_test(gram, n, m, statistic, details, permutations, seed)


def energy_test(
    real: ArrayLike, fake: ArrayLike, *, permutations: int = 499, seed: int = 0
) -> TwoSampleResult:
    """Energy distance, `2 E|x - y| - E|x - x'| - E|y - y'|`, with a permutation test (Szekely and Rizzo, 2013).

    Time is O((N + M)^2 (D + permutations)), memory O((N + M)^2).

    Args:
      real: `[N, ...]`.
      fake: `[M, ...]`; N + M is at most 16,384.
      permutations: relabellings drawn.
      seed: the seed of the relabellings.

    Returns:
      The energy distance of the empirical distributions (never below 0) and its p-value.

    Raises:
      ValueError: for bad samples.

    >>> energy_test([0.0, 1.0], [0.0, 1.0]).statistic
    0.0
    """
    first, second = as_pair(real, fake, at_least=2)
    distance = squareform(pdist(_pooled(first, second)))
    n, m = len(first), len(second)

    def statistic(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> np.ndarray:
        return 2 * xy / (n * m) - xx / n**2 - yy / m**2

    return _quadratic_test(distance, n, m, statistic, {"test": "energy"}, permutations, seed)


def _pooled(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    pooled = np.concatenate([first, second])
    if len(pooled) > _MAX_POOLED:
        raise ValueError(
            f"{len(pooled)} pooled samples need a matrix of {len(pooled) ** 2 * 8 / 2**30:.0f} GiB: use at most "
            f"{_MAX_POOLED} (a random subset keeps the test valid)."
        )
    return pooled


def _gram(pooled: np.ndarray, kernel: str, bandwidth: float | str) -> tuple[np.ndarray, float | None]:
    if kernel == "polynomial":
        return polynomial_kernel(pooled, pooled), None
    if kernel not in ("gaussian", "laplace"):
        raise ValueError(f"Unknown kernel {kernel!r}: 'gaussian', 'laplace' or 'polynomial'.")
    distance = pdist(pooled)
    width = float(np.median(distance)) if bandwidth == "median" else float(bandwidth)
    if not width > 0:
        raise ValueError(
            f"The bandwidth must be positive, got {width}"
            + (": most pooled samples are equal, so pass a number." if bandwidth == "median" else ".")
        )
    scaled = distance / width
    return squareform(np.exp(-(scaled**2) / 2 if kernel == "gaussian" else -scaled)), width


def _quadratic_test(
    matrix: np.ndarray,
    n: int,
    m: int,
    statistic: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    details: dict[str, Any],
    permutations: int,
    seed: int,
) -> TwoSampleResult:
    """A permutation test of a function of the three block sums of a symmetric matrix with a zero diagonal."""
    members = relabellings(n, m, permutations, seed)
    rows = matrix.sum(axis=1)
    within = np.empty(len(members))
    step = max(1, (1 << 24) // (n + m))
    for start in range(0, len(members), step):
        part = members[start : start + step]
        within[start : start + step] = np.einsum("pn,pn->p", part @ matrix, part)
    touching = members @ rows
    values = statistic(within, rows.sum() - 2 * touching + within, touching - within)
    return permutation_result(values, {**details, "real": n, "fake": m, "seed": seed})


def relabellings(n: int, m: int, permutations: int, seed: int) -> np.ndarray:
    """Random labels `[1 + P, N + M]` of the pooled samples, 1 for real; the first row is the observed one."""
    if permutations < 19:
        raise ValueError(f"Fewer than 19 permutations cannot reach p = 0.05, got {permutations}.")
    observed = np.repeat([1.0, 0.0], [n, m])
    rng = np.random.default_rng(seed)
    drawn = rng.permuted(np.broadcast_to(observed, (permutations, n + m)), axis=1)
    return np.concatenate([observed[None], drawn])


def permutation_result(values: np.ndarray, details: dict[str, Any]) -> TwoSampleResult:
    """The result for the observed value, which is the first, and its permutations; ties are conservative."""
    observed, drawn = values[0], values[1:]
    tie = 1e-12 * np.abs(values).max()  # equal sums in another order differ in the last bits
    p_value = (1 + (drawn >= observed - tie).sum()) / len(values)
    return TwoSampleResult(float(observed), float(p_value), {**details, "permutations": len(drawn)})


# --- intervals ----------------------------------------------------------------------------------------------


def interval_distance(real: ArrayLike, fake: ArrayLike, *, intervals: int = 1) -> float:
    """`sup |P(A) - Q(A)|` over unions A of at most `intervals` intervals: a weak discriminator's total variation.

    Uniform distributions on the odd and on the even numbers up to N are at total variation 1, and at 2 / N for one
    interval. With one interval this is Kuiper's statistic. Time is O((N + M) log (N + M)) for one interval, memory
    O(N + M).

    Args:
      real: `[N]`.
      fake: `[M]`.
      intervals: the largest number of intervals of a set; the VC dimension of the family is twice that.

    Raises:
      ValueError: for bad samples, more than one dimension, or `intervals` below 1.

    >>> odd, even = np.arange(1, 100, 2), np.arange(2, 101, 2)
    >>> round(interval_distance(odd, even), 4), round(interval_distance(odd, even, intervals=50), 4)
    (0.02, 1.0)
    """
    order, ends, n, m = _on_the_line(real, fake, intervals)
    members = np.repeat([1.0, 0.0], [n, m])[None]
    return float(_interval_values(members, order, ends, n, m, intervals)[0])


def interval_test(
    real: ArrayLike, fake: ArrayLike, *, intervals: int = 1, permutations: int = 499, seed: int = 0
) -> TwoSampleResult:
    """The interval distance with a permutation test.

    Time is O(permutations (N + M) + (N + M) log (N + M)) for one interval, and as many times that for several;
    memory is O(permutations (N + M)).

    Args:
      real: `[N]`.
      fake: `[M]`.
      intervals: as in `interval_distance`.
      permutations: relabellings drawn.
      seed: the seed of the relabellings.

    Raises:
      ValueError: as for `interval_distance`.
    """
    order, ends, n, m = _on_the_line(real, fake, intervals)
    members = relabellings(n, m, permutations, seed)
    values = _interval_values(members, order, ends, n, m, intervals)
    details = {"test": "interval", "intervals": intervals, "real": n, "fake": m, "seed": seed}
    return permutation_result(values, details)


def _on_the_line(real: ArrayLike, fake: ArrayLike, intervals: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """The pooled samples' order, and the positions in it where runs of equal samples end."""
    first, second = as_pair(real, fake)
    if first.shape[1] != 1 or intervals < 1:
        raise ValueError(
            f"The interval distance needs one dimension and intervals >= 1, got {first.shape[1]} dimensions and "
            f"intervals={intervals}."
        )
    pooled = np.concatenate([first, second])[:, 0]
    order = np.argsort(pooled, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(pooled[order]) > 0, True))
    return order, ends, len(first), len(second)


def _interval_values(
    members: np.ndarray, order: np.ndarray, ends: np.ndarray, n: int, m: int, intervals: int
) -> np.ndarray:
    """The interval distance under every labelling, `[P]`."""
    mass = members[:, order] / n - (1 - members[:, order]) / m
    heights = np.cumsum(mass, axis=1)[:, ends]
    if intervals == 1:
        return np.maximum(heights.max(axis=1), 0) - np.minimum(heights.min(axis=1), 0)
    masses = np.diff(heights, axis=1, prepend=0.0)
    return np.maximum(_best_intervals(masses, intervals), _best_intervals(-masses, intervals))


def _best_intervals(masses: np.ndarray, intervals: int) -> np.ndarray:
    """The largest sum of at most `intervals` runs of adjacent entries, for each row."""
    closed = np.zeros((len(masses), intervals + 1))
    running = np.full((len(masses), intervals), -np.inf)
    for mass in masses.T:
        # An interval either continues, or starts when one fewer are closed.
        running = np.maximum(running, closed[:, :-1]) + mass[:, None]
        closed[:, 1:] = np.maximum(closed[:, 1:], running)
    return closed.max(axis=1)
