"""Samples against data: what they are compared with, by which features, and the tables of what came out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from gan_jax.data import load
from gan_jax.data.arrays import encode
from gan_jax.data.source import Source
from gan_jax.data.subsample import subsample
from gan_jax.evaluation.batches import source_examples
from gan_jax.functional.batch import DATA_AXIS
from gan_jax.tables import number_table
from gan_jax.training.experiment import ExperimentError, choose

if TYPE_CHECKING:
    from gan_jax.metrics import Extractor, Features, Scores

OWN = "own"
METRICS = ("frechet", "kernel", "score", "neighbors", "sliced", "wasserstein")
"""What can be computed: `image_scores`' metrics, and the exact Wasserstein distance of points."""
MOST_REAL = 50_000
"""Real examples compared with at most."""
_TRANSPORTED = 2048


def extractor_named(name: str, shape: tuple[int, ...]) -> Extractor:
    """The features that a command line names.

    Args:
      name: `pixels`; `coordinates`, of what is no image; `classifier:DATA`, the small classifier of a labelled
        data set; `inception:FILE`, the standard FID network with its weights in a file; or nothing, which is pixels
        or coordinates.
      shape: of one sample.

    Raises:
      ExperimentError: if there is no such extractor, or it cannot be had.

    >>> extractor_named("", (8, 8, 1)).name, extractor_named("", (2,)).name
    ('pixels', 'coordinates')
    """
    from gan_jax import metrics

    kind, _, rest = name.partition(":")
    plain = "pixels" if is_image(shape) else "coordinates"
    makers: dict[str, Callable[[], Extractor]] = {
        "pixels": metrics.pixels,
        "coordinates": lambda: metrics.from_callable("coordinates", lambda x: x.reshape(x.shape[0], -1)),
        "classifier": lambda: metrics.classifier_for(rest),
        "inception": lambda: metrics.inception_extractor(rest),
    }
    make = choose("extractor", kind or plain, makers)
    if bool(rest) != (kind in ("classifier", "inception")):
        raise ExperimentError(
            f"The extractor {name!r} is not understood: pixels, coordinates, classifier:DATA (digits, mnist5k, "
            "...) or inception:FILE."
        )
    if not is_image(shape) and kind not in ("", "coordinates"):
        raise ExperimentError(f"The extractor {name!r} is of images; the samples have shape {shape}.")
    try:
        return make()
    except ValueError as error:
        raise ExperimentError(str(error)) from error


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether a sample `[H, W, C]` is an image of one or three channels."""
    return len(shape) == 3 and shape[2] in (1, 3)


def reference(
    data: str,
    shape: tuple[int, ...],
    source: Source,
    n: int,
    host_batch_iterator: Iterator[Any] | None = None,
    entry: str = "x",
) -> tuple[np.ndarray, str]:
    """Real examples to compare samples with, and what they are in words.

    Args:
      data: as `gan_jax.data.load` names it (`tfds:NAME@SPLIT`, an image folder, an `.npz`), in the samples' size
        and channels where that is a choice; `own`, or nothing, for the run's own.
      shape: of one sample.
      source: the run's own data.
      n: how many of its own are taken where it draws without end.
      host_batch_iterator: as in `source_examples`.
      entry: of the run's own data, what the samples imitate; see `GeneratorRole.target`.

    Returns:
      `[N, ...]`, at most `MOST_REAL` of them: of data with a name a fixed draw with every class's share, of the
      run's own the first that it reads, in its shuffled order.

    Raises:
      DataError, ExperimentError: if the data cannot be read, or are not of the samples' shape.
    """
    if data in ("", OWN):
        most = MOST_REAL if source.size is not None else n
        real = source_examples(source, most, host_batch_iterator, entry)
        words = "the run's own data"
    else:
        square = is_image(shape) and shape[0] == shape[1]
        made: dict[str, Any] = {"size": shape[0], "channels": shape[2]} if square else {}
        loaded, words = load(data, **made), data
        real = loaded["x"][subsample(len(loaded["x"]), MOST_REAL, loaded.get("y"))]
    if real.shape[1:] != shape:
        raise ExperimentError(f"{words} has examples of shape {real.shape[1:]}, the samples have {shape}.")
    return real, words


def against(
    real: np.ndarray,
    *,
    extractor: str | Extractor = "",
    split: str,
    which: Sequence[str] = (),
    seed: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[np.ndarray], Scores]:
    """An evaluation: how far samples are from real examples, with the fingerprint of the comparison.

    Images are compared as a file would hold them, in 256 levels, real and fake alike. The features of the real
    examples are computed once, at the first call.

    Args:
      real: `[N, ...]`, images uint8 or floats in [-1, 1].
      extractor: an extractor or its name, see `extractor_named`.
      split: which real examples these are, in words.
      which: some of `METRICS`; all that apply if empty: the exact Wasserstein distance is left out then of anything
        but points.
      seed: of shuffles and directions.
      devices: where features are extracted; this process's if `None`.

    Raises:
      ExperimentError: for an unknown metric or extractor; when called, if there are too few samples, or bad ones.

    >>> rng = np.random.default_rng(0)
    >>> compare = against(rng.normal(size=(100, 2)), split="a Gaussian", which=("frechet", "wasserstein"))
    >>> scores = compare(rng.normal(size=(100, 2)) + [10.0, 0.0])
    >>> [round(value, -1) for value in scores.values.values()], scores.fingerprint.split
    ([100.0, 10.0], 'a Gaussian')
    """
    for name in which:
        choose("metric", name, dict.fromkeys(METRICS))
    shape = real.shape[1:]

    @functools.cache
    def prepared() -> tuple[Extractor, Features]:
        chosen = extractor_named(extractor, shape) if isinstance(extractor, str) else extractor
        return chosen, _features(real, chosen, "real", devices)

    def compare(samples: np.ndarray) -> Scores:
        chosen, features = prepared()
        try:
            fake = _features(samples, chosen, "fake", devices)
            return _scores(features, fake, which or _applying(shape), split, seed)
        except ValueError as error:
            raise ExperimentError(str(error)) from error

    return compare


def _applying(shape: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(name for name in METRICS if name != "wasserstein" or not is_image(shape))


def _features(
    samples: np.ndarray, extractor: Extractor, name: str, devices: Sequence[jax.Device] | None
) -> Features:
    from gan_jax.metrics import Features, extract
    from gan_jax.metrics._check import as_samples
    from gan_jax.metrics.features import set_digest

    if not is_image(samples.shape[1:]):
        points = as_samples(samples, name, dtype=None)
        return Features(points, None, "float", extractor, set_digest(points))
    mesh = _mesh(jax.local_devices() if devices is None else devices)
    if not np.all(np.isfinite(samples)):
        raise ExperimentError(f"The {name} images are not all finite numbers.")
    images = samples if samples.dtype == np.uint8 else encode(samples)
    return extract(
        extractor,
        images,
        batch_size=max(1, 256 // mesh.size) * mesh.size,
        mesh=mesh if mesh.size > 1 else None,
        name=name,
    )


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return jax.make_mesh((len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def _scores(real: Features, fake: Features, which: Sequence[str], split: str, seed: int) -> Scores:
    import dataclasses

    from gan_jax import metrics

    scores = metrics.image_scores(
        real,
        fake,
        real.extractor,
        which=[name for name in which if name != "wasserstein"],
        split=split,
        seed=seed,
    )
    if "wasserstein" not in which:
        return scores
    # As many of either: an assignment, which is quick without POT too.
    number = min(_TRANSPORTED, len(real.features), len(fake.features))
    pair = (side.features[subsample(len(side.features), number, seed=seed)] for side in (real, fake))
    distance = metrics.wasserstein(*pair)
    settings = f"{scores.fingerprint.settings} wasserstein_samples={number}"
    return dataclasses.replace(
        scores,
        values={**scores.values, "wasserstein_1": distance},
        fingerprint=dataclasses.replace(scores.fingerprint, settings=settings),
    )


# ---------------------------------------------------------------------------------------------------------
# Tables


def tables(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """What `evaluate` found of each checkpoint, for the terminal: raw and averaged weights below each other.

    Scores stand apart from the experiment's own numbers, a table for each evaluation; a row with another
    fingerprint than the first is marked. Losses are not shown: they are in the file.
    """
    from gan_jax.metrics import Fingerprint, Scores, score_table

    own: dict[str, dict[str, Any]] = {}
    scored: dict[str, dict[str, Scores]] = {}
    for one in evaluations:
        marked = {name for mark in one["fingerprints"].values() for name in mark["metrics"]}
        for kind, numbers in one["samples"].items():
            row = f"round {one['step']}, {kind}"
            if "seeds" in one:
                row += f", mean of {len(one['seeds'])} seeds"
            own[row] = {name: value for name, value in numbers.items() if name not in marked}
            for evaluation, mark in one["fingerprints"].items():
                fields = {k: v for k, v in mark.items() if k not in ("key", "metrics", "left_out")}
                values = {name: numbers[name] for name in mark["metrics"]}
                scores = Scores(values, Fingerprint(**fields), mark.get("left_out", {}))
                scored.setdefault(evaluation, {})[row] = scores
    parts = [number_table(own)] if any(own.values()) else []
    for rows in scored.values():
        reasons = {
            f"left out: {name}: {why}": None for one in rows.values() for name, why in one.left_out.items()
        }
        parts.append("\n".join([score_table(rows), *reasons, str(next(iter(rows.values())).fingerprint)]))
    return "\n\n".join(parts)
