"""A part of a data set that shows the whole: drawn at random, and of every class its share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def subsample(size: int, count: int, labels: ArrayLike | None = None, *, seed: int = 0) -> np.ndarray:
    """Rows of a part of the data, in the order of the data; all rows where there are no more than `count`.

    Data are often stored class by class, so their first rows are no sample of them.

    Args:
      size: how many examples there are.
      count: how many to draw at most.
      labels: `[size]`, numbers or strings; every class is drawn by its share of the data, and once at least where
        `count` is not below the number of classes. Without labels, or with several an example, all rows are alike.
      seed: of the draw.

    Returns:
      Indices `[min(size, count)]`, increasing.

    Raises:
      ValueError: if `count` is below 1, or there are not `size` labels.

    >>> rows = subsample(90, 9, np.repeat(["cat", "dog", "owl"], 30))
    >>> len(rows), np.bincount(rows // 30).tolist()
    (9, [3, 3, 3])
    """
    if count < 1:
        raise ValueError(f"A part of a data set has 1 example or more, got {count}.")
    strata = np.zeros(size, np.int8) if labels is None else np.asarray(labels)
    if len(strata) != size:
        raise ValueError(f"There are {size} examples and {len(strata)} labels.")
    if strata.ndim != 1:
        strata = np.zeros(size, np.int8)
    if count >= size:
        return np.arange(size)
    order = np.random.default_rng([seed, size]).permutation(size)
    _, strata, sizes = np.unique(strata[order], return_inverse=True, return_counts=True)
    by_class = np.argsort(strata, kind="stable")
    rank = np.empty(size, np.int64)
    rank[by_class] = np.arange(size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Every class's first comes first; the others are spread evenly over the draw, whatever their class's size.
    place = np.where(rank == 0, -1.0, (rank + 0.5) / sizes[strata])
    return np.sort(order[np.argsort(place, kind="stable")[:count]])
