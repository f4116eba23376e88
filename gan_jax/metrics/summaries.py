"""Features of image sets of any size in bounded memory: moments of all images, and the features of a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gan_jax.data.cache import Write, cached
from gan_jax.data.image_sets import ImageSet
from gan_jax.data.subsample import subsample
from gan_jax.metrics.features import (
    Computation,
    Extractor,
    Features,
    computation,
    extract_batches,
    named_digest,
    sum_of_digests,
)
from gan_jax.metrics.gaussians import ROWS, Moments, merge_moments, moments

KEPT = 50_000
"""The largest number of images whose features are kept."""
KEPT_BYTES = 2**30
"""The largest size of kept features, in bytes."""
MOST_DIMENSIONS = 4096
"""Moments of wider features are not formed: their scatter takes D^2 numbers."""
BATCH = 64
"""The number of images that a device extracts at once: Inception then takes less than 2 GiB."""
FORMAT = 2
"""Part of the key of cached features: raise it where their meaning changes."""


class Summary(NamedTuple):
    """What is known of a set of images by an extractor.

    Attributes:
      number: the number of images.
      features: the features of all images, or of a part that was drawn at random.
      moments: the moments of all images; `None` if only a part is kept in more than `MOST_DIMENSIONS` dimensions.
      skipped: `{image: reason}` for images that were skipped.
    """

    number: int
    features: Features
    moments: Moments | None
    skipped: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether the features of all images are kept."""
        return len(self.features.features) == self.number


def summarize(
    extractor: Extractor,
    images: ImageSet,
    *,
    kept: int = KEPT,
    mesh: Mesh | None = None,
    progress: Callable[[int], Any] = lambda n: None,
    use_cache: bool = True,
) -> Summary:
    """Runs an extractor over a set of images, which is read once and never in memory as a whole.

    Features of the same images by the same extractor and device are kept in the cache of `gan_jax.data.cache`, if
    the extractor is `stable`.

    Args:
      extractor: the extractor.
      images: the set.
      kept: the largest number of images whose features are kept; fewer are where they would take more than
        `KEPT_BYTES`. A part is drawn at random, with a fixed seed.
      mesh: devices over which each batch is sharded along the axis "data".
      progress: called with the number of images after each batch.
      use_cache: whether features are read from and written to the cache.

    Raises:
      DataError: if an image cannot be read.
      ValueError: for features that are not `[B, D]` or not finite.

    >>> from gan_jax.data.image_sets import from_array
    >>> from gan_jax.metrics.features import pixels
    >>> grey = from_array(np.full((5, 2, 2, 1), 51, np.uint8), "grey")
    >>> summary = summarize(pixels(), grey, kept=3)
    >>> summary.number, summary.features.features.shape, summary.moments.mean.round(6).tolist()
    (5, (3, 4), [-0.6, -0.6, -0.6, -0.6])
    """
    made_by = computation(mesh)
    size = BATCH * (1 if mesh is None else mesh.size)

    def build(write: Write) -> dict[str, Any]:
        total, number, streamed = 0, 0, _Streamed(images.number, kept, write)

        def read() -> Iterator[np.ndarray]:
            nonlocal total, number
            for batch in images.batches(size):
                total += sum_of_digests(batch)
                number += len(batch)
                yield batch

        done = 0
        for made in extract_batches(extractor, read(), size, mesh=mesh, name=images.name):
            streamed.add(made)
            progress(number - done)
            done = number
        streamed.finish()
        digest = named_digest(total, np.dtype(np.uint8), (number, *images.shape))
        return {"number": number, "data": digest, "skipped": dict(images.skipped)}

    use_cache = use_cache and extractor.stable
    key = _key(extractor, images, kept, made_by) if use_cache else {}
    stored = cached(key, build, use_cache=use_cache, memory_map=True)
    record, arrays = stored.record, stored.arrays
    features = Features(
        arrays["features"],
        arrays.get("logits"),
        images.value_range,
        extractor,
        record["data"],
        made_by,
        arrays.get("spatial"),
    )
    found = None
    if "scatter" in arrays:
        found = Moments(record["number"], np.asarray(arrays["mean"][0]), np.asarray(arrays["scatter"]))
    elif len(features.features) == record["number"] and features.features.shape[1] <= MOST_DIMENSIONS:
        found = moments(features.features)
    return Summary(record["number"], features, found, record["skipped"])


def _key(extractor: Extractor, images: ImageSet, kept: int, made_by: Computation) -> dict[str, Any]:
    return {
        "features": FORMAT,
        "extractor": [extractor.name, extractor.protocol, extractor.resize, extractor.weights],
        "images": images.content(),
        "kept": [kept, KEPT_BYTES, MOST_DIMENSIONS],
        "computation": [made_by.platform, made_by.device, made_by.precision, jax.__version__],
    }


class _Streamed:
    """Writes the rows that are kept as they come, and adds up the moments of all where only a part is kept."""

    def __init__(self, number: int, kept: int, write: Write) -> None:
        self._number, self._kept, self._write = number, kept, write
        self._chosen: np.ndarray | None = None
        self._passed = 0
        self._held: list[np.ndarray] = []
        self._moments: Moments | None = None

    def add(self, made: dict[str, np.ndarray]) -> None:
        """Takes the features, logits and spatial features of the next images."""
        rows, dimension = made["features"].shape
        if self._chosen is None:
            row = sum(values[:1].nbytes for values in made.values())
            most = max(2, min(self._kept, KEPT_BYTES // row))
            self._chosen = np.zeros(self._number, bool)
            self._chosen[subsample(self._number, most)] = True
            if not self._chosen.all() and dimension <= MOST_DIMENSIONS:
                self._moments = Moments(0, np.zeros(dimension), np.zeros((dimension, dimension)))
        here = self._chosen[self._passed : self._passed + rows]
        self._passed += rows
        for kind, values in made.items():
            self._write(kind, values[here])
        if self._moments is not None:
            self._held.append(made["features"])
            if sum(map(len, self._held)) >= ROWS:
                self._merge()

    def _merge(self) -> None:
        assert self._moments is not None
        if self._held:
            self._moments = merge_moments(self._moments, moments(np.concatenate(self._held)))
            self._held = []

    def finish(self) -> None:
        """Writes the moments, where they were added up."""
        if self._moments is not None:
            self._merge()
            self._write("mean", self._moments.mean[None])
            self._write("scatter", self._moments.scatter)
