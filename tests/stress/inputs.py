"""Data and samples of every kind, made at random, against what is known of them.

    python -m tests.stress.inputs --times=200

Ties: precision, recall, density and coverage of points on a lattice, against counts in whole numbers. Copies:
nearest points of clusters far apart, against the same. Scales: distances of samples times a common factor or moved
by an offset. Class-sorted sets: parts of them show every class by its share. Value ranges: images of any type and
range are read with their order of brightness, or refused. Replaced data: one bit that is changed in an array
changes a source's fingerprint, all examples that of a stream; a file that is written over is read anew.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import tempfile
import time
import warnings

import numpy as np
from PIL import Image

from gan_jax import metrics
from gan_jax.data import from_arrays
from gan_jax.data.arrays import check_arrays, recognised_ranges
from gan_jax.data.errors import DataError
from gan_jax.data.images import load_images
from gan_jax.data.stream import array_reader, from_reader
from gan_jax.data.subsample import subsample
from gan_jax.runs.provenance import data_fingerprint
from tests.stress.record import record


def whole_number_neighbors(real, fake, k):
    """Precision, recall, density and coverage of lists of whole numbers, with open balls."""

    def squares(a, b):
        return [[sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) for y in b] for x in a]

    def radii(points):
        rows = squares(points, points)
        return [sorted(row[:i] + row[i + 1 :])[k - 1] for i, row in enumerate(rows)]

    across, real_radii, fake_radii = squares(real, fake), radii(real), radii(fake)
    inside = [[d < r for d in row] for row, r in zip(across, real_radii, strict=True)]
    return {
        "precision": np.mean([any(column) for column in zip(*inside, strict=True)]),
        "recall": np.mean([any(d < r for d, r in zip(row, fake_radii, strict=True)) for row in across]),
        "density": np.sum(inside) / (k * len(fake)),
        "coverage": np.mean([min(row) < r for row, r in zip(across, real_radii, strict=True)]),
    }


def ties(rng):
    dimensions, levels, k = rng.integers(1, 7), rng.integers(2, 5), int(rng.integers(1, 6))
    real, fake = (rng.integers(0, levels, (rng.integers(k + 1, 50), dimensions)) for _ in range(2))
    expected = whole_number_neighbors(real.tolist(), fake.tolist(), k)
    offset = int(rng.choice([0, -7, 10**6, 2**40]))
    dtype = rng.choice([np.int64, np.float64, np.longdouble] + [np.float32, np.uint8] * (offset == 0))
    found = metrics.precision_recall_density_coverage(
        (real + offset).astype(dtype), (fake + offset).astype(dtype), neighbors=k
    )
    for name, value in expected.items():
        assert abs(found[name] - value) < 1e-12, (name, found[name], value, dtype, offset)


def copies(rng):
    """Nearest points of clusters at 0 and far away, against distances in whole numbers."""
    dimensions, far = int(rng.integers(1, 5)), int(rng.choice([0, 10**4, 10**8, 2**40]))

    def points(number):
        side = rng.integers(0, 2, (number, 1)) * far
        return np.concatenate([side, rng.integers(0, 9, (number, dimensions))], axis=1)

    y = points(int(rng.integers(1, 60)))
    x = np.concatenate([points(int(rng.integers(1, 40))), y[rng.integers(0, len(y), 5)]])
    squares = [[sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) for b in y.tolist()] for a in x.tolist()]
    index, distance = metrics.nearest(x.astype(np.float64), y.astype(rng.choice([np.int64, np.float64])))
    least = [min(row) for row in squares]
    # 2^80 and a few are one number in float64; within a cluster all is exact.
    for row, place, smallest in zip(squares, index.tolist(), least, strict=True):
        assert row[place] - smallest <= 1e-15 * smallest, (far, dimensions)
    np.testing.assert_allclose(distance, np.sqrt(np.array(least, float)), rtol=1e-12)


DISTANCES = {
    # name: (distance, the power of the scale that it has)
    "frechet": (metrics.frechet_distance, 2),
    "sliced": (lambda x, y: metrics.sliced_wasserstein(x, y).value, 1),
    "transport": (metrics.wasserstein, 1),
    "transport by HiGHS": (lambda x, y: metrics.wasserstein(x, y, solver="linear"), 1),
    "transport on the line": (lambda x, y: metrics.wasserstein_1d(x[:, 0], y[:, 0]), 1),
    "energy": (lambda x, y: metrics.energy_test(x, y, permutations=19).statistic, 1),
    "mmd": (lambda x, y: metrics.mmd_test(x, y, permutations=19).statistic, 0),
    "precision": (lambda x, y: metrics.precision_recall_density_coverage(x, y, neighbors=3)["precision"], 0),
}


def scales(rng):
    name = rng.choice(list(DISTANCES))
    distance, power = DISTANCES[name]
    dimensions = rng.integers(1, 4)
    real, fake = (rng.normal(size=(rng.integers(12, 30), dimensions)) * 2.0**-i for i in range(2))
    expected = distance(real, fake)
    scale = 2.0 ** int(rng.integers(-100, 100))  # exact, so that ties stay ties
    found = distance(scale * real, scale * fake) / scale**power
    assert np.isclose(found, expected, rtol=1e-6, atol=1e-9), (name, "scale", scale, found, expected)
    offset = float(rng.choice([1.0, -1e3, 1e5]))
    moved = distance(real + offset, fake + offset)
    assert np.isclose(moved, expected, rtol=1e-4, atol=1e-6), (name, "offset", offset, moved, expected)
    if name == "frechet" and dimensions > 1:  # with features of another scale that are equal on both sides
        shared = rng.normal(size=(len(real), 1)) * 10.0 ** int(rng.integers(3, 6))
        aside = np.concatenate([real, shared], 1)
        assert distance(aside, aside) < 1e-14 * shared.var(), "a shared scale"


def class_sorted(rng):
    sizes = rng.integers(1, 400, rng.integers(1, 12))
    labels = np.repeat(rng.permutation(1000)[: len(sizes)], sizes)
    if rng.random() < 0.3:
        labels = np.array([f"class {label}" for label in labels])
    count = int(rng.integers(1, 2 * len(labels)))
    rows = subsample(len(labels), count, labels, seed=int(rng.integers(100)))
    assert len(rows) == min(count, len(labels))
    assert np.all(np.diff(rows) > 0)
    drawn = np.array([np.sum(labels[rows] == label) for label in labels[np.cumsum(sizes) - 1]])
    if count >= len(sizes):
        assert drawn.min() > 0, "a class is not seen"
    shares = len(rows) * sizes / len(labels)
    # Every class's first example comes first; what is left differs from its share by an example or two.
    assert np.all(np.abs(drawn - shares) <= 2 + np.sum(shares < 1)), (drawn, shares)


def value_ranges(rng):
    shape = (6, *[(), (5,), (4, 4, 1), (3, 5, 3)][rng.integers(4)])  # few shapes: each compiles the decoding
    dtype = rng.choice(
        [np.uint8, np.int8, np.uint16, np.int64, np.uint64, bool, np.float16, np.float32, np.float64]
    )
    low, high = sorted(
        rng.choice([-1e6, -300.0, -1.0, 0.0, 0.5, 1.0, 2.0, 255.0, 65535.0, 1e6], 2, replace=False)
    )
    values = low + (high - low) * rng.random(shape)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.round(values).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)
        given = [None, "standard", (float(low), float(high))][rng.integers(3)]
        try:
            known = recognised_ranges({"x": array}, given)
            source = from_arrays({"x": array}, 4, value_range=given)
            stored = np.asarray(check_arrays({"x": array}, value_range=known)["x"])
        except DataError:
            return
    batch = np.asarray(source.get_batch(source.device_data, {"all": np.arange(4)})["x"])
    assert batch.dtype == np.float32
    assert np.all(np.isfinite(batch))
    assert stored.shape == array.shape
    order = array[:4].astype(np.float64).ravel().argsort(kind="stable")
    assert np.all(np.diff(batch.ravel()[order]) >= 0), "another order of brightness"
    if array.ndim == 4:
        assert np.abs(batch).max() <= 1 + 1e-6, (np.abs(batch).max(), dtype, low, high, given)


def replaced_data(rng):
    x = rng.integers(0, 256, (int(rng.integers(4, 40)), 4, 4, 1)).astype(np.uint8)
    other = x.copy()
    place = tuple(rng.integers(0, n) for n in x.shape)
    other[place] ^= np.uint8(1 << rng.integers(8))
    for source, changed in (
        (lambda data: from_arrays({"x": data}, 4), other),
        (lambda data: from_reader(array_reader({"x": data}), len(data), 4), x ^ np.uint8(1)),
    ):
        assert data_fingerprint(source(x)) == data_fingerprint(source(x.copy()))
        assert data_fingerprint(source(x)) != data_fingerprint(source(changed)), place
    with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
        path = pathlib.Path(folder) / "images" / "a.bmp"
        path.parent.mkdir()
        Image.fromarray(x[0, ..., 0]).save(path)
        before, level = path.stat(), load_images(path.parent, 4)["x"]
        Image.fromarray(x[1, ..., 0]).save(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert np.array_equal(level, x[:1])
        assert np.array_equal(load_images(path.parent, 4)["x"], x[1:2]), "the file before"


@contextlib.contextmanager
def _cache_in(folder):
    before = os.environ.get("GAN_JAX_CACHE")
    os.environ["GAN_JAX_CACHE"] = os.path.join(folder, "cache")
    try:
        yield
    finally:
        del os.environ["GAN_JAX_CACHE"]
        if before is not None:
            os.environ["GAN_JAX_CACHE"] = before


KINDS = {
    "ties": ties,
    "copies": copies,
    "scales": scales,
    "class-sorted sets": class_sorted,
    "value ranges": value_ranges,
    "replaced data": replaced_data,
}


def check(kind, times, seed=0):
    """Random cases of a kind.

    Raises:
      AssertionError: with the seed of the first that is wrong.
    """
    for number in range(times):
        try:
            KINDS[kind](np.random.default_rng([seed, number]))
        except AssertionError as error:
            raise AssertionError(f"{kind}, case {number} of seed {seed}: {error}") from error


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=200, help="of each kind")
    parser.add_argument("--kind", default="all", choices=["all", *KINDS])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    for kind in KINDS if given.kind == "all" else [given.kind]:
        began = time.monotonic()
        check(kind, given.times, given.seed)
        found = {"cases": given.times, "wrong": 0, "seconds": round(time.monotonic() - began)}
        record("inputs", kind, found, "python -m tests.stress.inputs")
        print(json.dumps({kind: found}), flush=True)


if __name__ == "__main__":
    main()
