"""Features of image sets of any size in bounded memory: moments of all images, and the features of a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gan_jax.data.cache import ONCE, Stored, Write, build_in_memory, cached, load_entry, make_entry
from gan_jax.data.errors import DataError
from gan_jax.data.image_sets import ImageSet
from gan_jax.data.subsample import subsample
from gan_jax.metrics.features import (
    BATCH,
    EXTRACTED,
    Computation,
    Extractor,
    Features,
    computation,
    extract_batches,
    named_digest,
    sum_of_digests,
)
from gan_jax.metrics.gaussians import ROWS, Moments, merge_moments, moments
from gan_jax.processes import gather, gather_arrays, share

KEPT = 50_000
"""The largest number of images whose features are kept."""
KEPT_BYTES = 2**30
"""The largest size of kept features, in bytes."""
WIDE_KEPT_BYTES = 2**27
"""The same of features of more than `MOST_DIMENSIONS` dimensions, of which distances take several copies."""
MOST_DIMENSIONS = 4096
"""Moments of wider features are not formed: their scatter takes D^2 numbers."""
_SUMMED = ("features", "spatial")
"""Of which there are moments."""
FORMAT = 3
"""Part of the key of cached features: raise it where their meaning changes."""


class Summary(NamedTuple):
    """What is known of a set of images by an extractor.

    Attributes:
      number: the number of images.
      features: the features of all images, or of a part that was drawn at random.
      moments: the moments of all images; `None` if only a part is kept in more than `MOST_DIMENSIONS` dimensions.
      skipped: `{image: reason}` for images that were skipped.
      spatial_moments: the moments of all images' spatial features, where only a part is kept; see
        `moments_of_places`.
    """

    number: int
    features: Features
    moments: Moments | None
    skipped: dict[str, str]
    spatial_moments: Moments | None = None

    @property
    def complete(self) -> bool:
        """Whether the features of all images are kept."""
        return len(self.features.features) == self.number

    def moments_of_places(self) -> Moments | None:
        """The moments of all images' spatial features; `None` without any, or of too many dimensions."""
        spatial = self.features.spatial
        if self.spatial_moments is not None or spatial is None or not self.complete:
            return self.spatial_moments
        return moments(spatial) if spatial.shape[1] <= MOST_DIMENSIONS else None


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
    the extractor is `stable`. Of several processes each extracts its share of the images, and all return the same.

    Args:
      extractor: the extractor.
      images: the set.
      kept: the largest number of images whose features are kept; fewer are where they would take more than
        `KEPT_BYTES` (or `WIDE_KEPT_BYTES`). A part is drawn at random, with a fixed seed.
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

    def extracted(write: Write, rows: range) -> _Extracted:
        streamed = _Streamed(images.number, kept, rows.start, write)
        total, number = 0, 0

        def read() -> Iterator[np.ndarray]:
            nonlocal total, number
            for batch in images.batches(size, rows.start, rows.stop):
                total += sum_of_digests(batch)
                number += len(batch)
                yield batch

        done = 0
        for made in extract_batches(extractor, read(), size, mesh=mesh, name=images.name):
            streamed.add(made)
            progress(number - done)
            done = number
        return _Extracted(number, total, dict(images.skipped), bool(images.passing), streamed.finish())

    def build(write: Write) -> dict[str, Any]:
        if jax.process_count() == 1:
            found = extracted(write, share(images.number))
        else:
            found = _in_parts(extracted, write, images)
        for kind, sums in found.moments.items():
            write(f"{kind}_mean", sums.mean[None])
            write(f"{kind}_scatter", sums.scatter)
        digest = named_digest(found.total, np.dtype(np.uint8), (found.number, *images.shape))
        record = {"number": found.number, "data": digest, "skipped": found.skipped}
        return {**record, ONCE: True} if found.passing else record

    use_cache = use_cache and extractor.stable and images.content is not None
    stored = _stored(_key(extractor, images, kept, made_by), build, images.name) if use_cache else None
    arrays, record = stored or build_in_memory(build)
    return _summary(arrays, record, images, extractor, made_by)


def _summary(
    arrays: dict[str, np.ndarray],
    record: dict[str, Any],
    images: ImageSet,
    extractor: Extractor,
    made_by: Computation,
) -> Summary:
    features = Features(
        arrays["features"],
        arrays.get("logits"),
        images.value_range,
        extractor,
        record["data"],
        made_by,
        arrays.get("spatial"),
    )
    number = record["number"]
    found = {
        kind: Moments(number, np.asarray(arrays[f"{kind}_mean"][0]), np.asarray(arrays[f"{kind}_scatter"]))
        for kind in _SUMMED
        if f"{kind}_scatter" in arrays
    }
    if not found and len(features.features) == number and features.features.shape[1] <= MOST_DIMENSIONS:
        found["features"] = moments(features.features)
    return Summary(number, features, found.get("features"), record["skipped"], found.get("spatial"))


def _key(extractor: Extractor, images: ImageSet, kept: int, made_by: Computation) -> dict[str, Any]:
    assert images.content is not None
    return {
        "features": FORMAT,
        "extractor": [extractor.name, extractor.protocol, extractor.resize, extractor.weights],
        "images": images.content(),
        "kept": [kept, KEPT_BYTES, WIDE_KEPT_BYTES, MOST_DIMENSIONS],
        "computation": [made_by.platform, made_by.device, made_by.precision, jax.__version__],
    }


def _stored(key: dict[str, Any], build: Callable[[Write], dict[str, Any]], name: str) -> Stored:
    """What is in the cache, or is built and kept there; several processes build with one another or not at all.

    Raises:
      DataError: if the processes see other images.
    """
    if jax.process_count() == 1:
        return cached(key, build, memory_map=True)
    stored = load_entry(key, memory_map=True)
    answers = gather([key, stored is not None])
    if different := [place for place, (other, _) in enumerate(answers) if other != answers[0][0]]:
        raise DataError(
            f"{name!r} is not the same on process {different[0]} as on process 0: all processes need the same "
            "files, extractor, versions and kind of device."
        )
    if stored is not None and all(found for _, found in answers):
        return stored
    made = build_in_memory(build)  # a disk that is full must not make one process build again

    def copy(write: Write) -> dict[str, Any]:
        for kind, rows in made.arrays.items():
            write(kind, rows)
        return made.record

    return make_entry(key, copy, memory_map=True)


class _Extracted(NamedTuple):
    """What is known of extracted images beside their features.

    Attributes:
      number: how many there are.
      total: the sum of their digests.
      skipped: those that could not be read.
      passing: whether some of those can be another time.
      moments: of the features and spatial features, by kind, where only a part of them is kept.
    """

    number: int
    total: int
    skipped: dict[str, str]
    passing: bool
    moments: dict[str, Moments]


def _in_parts(extracted: Callable[[Write, range], _Extracted], write: Write, images: ImageSet) -> _Extracted:
    """Extracts this process's share of the images, and writes the features of all processes in order.

    Raises:
      DataError, ValueError: on every process, if an image of any process's share cannot be read or used.
    """
    held: dict[str, list[np.ndarray]] = {}
    mine, failure = _Extracted(0, 0, {}, False, {}), None
    try:
        mine = extracted(lambda kind, rows: held.setdefault(kind, []).append(rows), share(images.number))
    except ValueError as error:
        failure = [isinstance(error, DataError), str(error)]
    reports = gather([mine.number, mine.total, mine.skipped, mine.passing, failure])
    for *_, reported in reports:
        if reported is not None:
            is_data, text = reported
            raise (DataError if is_data else ValueError)(text)
    arrays = {kind: np.concatenate(rows) for kind, rows in held.items()}
    sums = {f"{kind}_{part}": array for kind, made in mine.moments.items() for part, array in _arrays(made)}
    gathered = gather_arrays({**arrays, **sums})
    for kind in EXTRACTED:
        for part in gathered:
            if kind in part:
                write(kind, part[kind])
    numbers, totals, skipped, passing, _ = zip(*reports, strict=True)
    merged = {}
    for kind in _SUMMED:
        parts = [
            Moments(number, part[f"{kind}_mean"], part[f"{kind}_scatter"])
            for number, part in zip(numbers, gathered, strict=True)
            if f"{kind}_mean" in part
        ]
        if parts:
            merged[kind] = merge_moments(*parts)
    all_skipped = {k: v for names in skipped for k, v in names.items()}
    return _Extracted(sum(numbers), sum(totals), all_skipped, any(passing), merged)


def _arrays(made: Moments) -> list[tuple[str, np.ndarray]]:
    return [("mean", made.mean), ("scatter", made.scatter)]


class _Streamed:
    """Writes the rows that are kept as they come, and adds up the moments of all where only a part is kept.

    Args:
      number: the number of images of the whole set.
      kept: the largest number of images whose features are kept.
      start: the first image that comes here.
      write: takes the rows that are kept.
    """

    def __init__(self, number: int, kept: int, start: int, write: Write) -> None:
        self._number, self._kept, self._write = number, kept, write
        self._chosen: np.ndarray | None = None
        self._passed = start
        self._held: dict[str, list[np.ndarray]] = {}
        self._moments: dict[str, Moments] = {}

    def add(self, made: dict[str, np.ndarray]) -> None:
        """Takes the features, logits and spatial features of the next images."""
        rows = len(made["features"])
        if self._chosen is None:
            row = sum(values[:1].nbytes for values in made.values())
            wide = made["features"].shape[1] > MOST_DIMENSIONS
            most = max(2, min(self._kept, (WIDE_KEPT_BYTES if wide else KEPT_BYTES) // row))
            self._chosen = np.zeros(self._number, bool)
            self._chosen[subsample(self._number, most)] = True
            for kind in _SUMMED if not self._chosen.all() else ():
                if kind in made and (dimension := made[kind].shape[1]) <= MOST_DIMENSIONS:
                    self._moments[kind] = Moments(0, np.zeros(dimension), np.zeros((dimension, dimension)))
        here = self._chosen[self._passed : self._passed + rows]
        self._passed += rows
        for kind, values in made.items():
            self._write(kind, values[here])
        for kind in self._moments:
            held = self._held.setdefault(kind, [])
            held.append(made[kind])
            if sum(map(len, held)) >= ROWS:
                self._merge(kind)

    def _merge(self, kind: str) -> None:
        if held := self._held.pop(kind, []):
            self._moments[kind] = merge_moments(self._moments[kind], moments(np.concatenate(held)))

    def finish(self) -> dict[str, Moments]:
        """The moments by kind, where they were added up."""
        for kind in self._moments:
            self._merge(kind)
        return self._moments
