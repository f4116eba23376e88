"""Comparison of samples with data: the reference data, the features, and the scores."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from gan_jax.data import load_dataset
from gan_jax.data.arrays import encode
from gan_jax.data.source import Source
from gan_jax.data.subsample import subsample
from gan_jax.data.value_range import ValueRange
from gan_jax.evaluation.batches import source_examples
from gan_jax.evaluation.floors import floor_size, real_draws
from gan_jax.evaluation.score_intervals import with_intervals
from gan_jax.functional.batch import DATA_AXIS
from gan_jax.metrics.progress import progress_bar
from gan_jax.processes import gather_arrays, share
from gan_jax.training.experiment import ExperimentError, choose

if TYPE_CHECKING:
    from gan_jax.game import Game
    from gan_jax.metrics import Extractor, Features, Scores

OWN = "own"
METRICS = ("frechet", "kernel", "score", "neighbors", "sliced", "wasserstein")
"""The metrics of `image_scores`, and the exact Wasserstein distance for points."""
BY_NAME = ("spatial", "monge")
"""Metrics that are computed where they are asked for by name."""
MOST_REAL = 50_000
"""The largest number of real examples in a comparison."""
_TRANSPORTED = 2048


def extractor_named(name: str, shape: tuple[int, ...], protocol: str = "") -> Extractor:
    """The feature extractor that a command line names.

    Args:
      name: as in `gan_jax.metrics.named`, or empty for pixels or coordinates.
      shape: the shape of a sample.
      protocol: how Inception's input is made, one of `metrics.PROTOCOLS`; empty for `pytorch`.

    Raises:
      ExperimentError: if there is no such extractor, it cannot be loaded, or it has no protocol and one is given.

    >>> extractor_named("", (8, 8, 1)).name, extractor_named("", (2,)).name
    ('pixels', 'coordinates')
    """
    from gan_jax.metrics import PROTOCOLS, named

    if not is_image(shape) and name not in ("", "coordinates"):
        raise ExperimentError(f"The extractor {name!r} needs images, but the samples have shape {shape}.")
    chosen = name or ("pixels" if is_image(shape) else "coordinates")
    if protocol:
        choose("protocol", protocol, PROTOCOLS)
    if protocol and not chosen.startswith("inception:"):
        raise ExperimentError(
            f"The protocol {protocol!r} says how Inception's input is made, but the extractor is "
            f"{chosen!r}: give --extractor=inception:FILE, or no protocol."
        )
    try:
        return named.extractor_named(chosen, **({"protocol": protocol} if protocol else {}))
    except ValueError as error:
        raise ExperimentError(str(error)) from error


def critic_features(game: Game) -> tuple[str, ...]:
    """The digests of the pretrained networks whose features a game's players are given."""
    return tuple(name for player in game.players.values() for name in player.network.frozen_features)


def is_image(shape: tuple[int, ...]) -> bool:
    """Tells whether a sample of this shape is an image `[H, W, C]` with one to four channels."""
    return len(shape) == 3 and shape[2] in (1, 2, 3, 4)


def reference(
    data: str,
    shape: tuple[int, ...],
    source: Source,
    n: int,
    host_batch_iterator: Iterator[Any] | None = None,
    entry: str = "x",
    held_out: np.ndarray | None = None,
    value_range: ValueRange = None,
    asked: np.ndarray | None = None,
    classes: Sequence[str] = (),
) -> tuple[np.ndarray, str]:
    """Loads real examples to compare samples with.

    Args:
      data: a name for `gan_jax.data.load` (`tfds:NAME@SPLIT`, an image folder, an `.npz`), loaded with the samples'
        size and channels where these can be chosen; `own` for the run's training data; empty for the examples that
        it held out, or its training data if it held out none.
      shape: the shape of a sample.
      source: the run's training data.
      n: the number of examples to take from a source without end.
      host_batch_iterator: as in `source_examples`.
      entry: the entry of the training batches that the samples imitate; see `GeneratorRole.target`.
      held_out: the examples that the run held out, see `Experiment`.
      value_range: of named data, as in `load`.
      asked: labels by the shares of which samples are drawn; `None` where they are not drawn for labels.
      classes: the names of the classes that these number, where they have names.

    Returns:
      At most `MOST_REAL` examples `[N, ...]`, and a description of them. From named data they are a fixed draw
      stratified by class, from the training data the first ones in its shuffled order.

    Raises:
      DataError, ExperimentError: if the data cannot be read, or are not of the samples' shape.

    Warns:
      UserWarning: if named data have their labels by other shares than those that are asked for.
    """
    if not data and held_out is not None:
        real, description = held_out[subsample(len(held_out), MOST_REAL)], "the run's held-out data"
    elif data in ("", OWN):
        most = MOST_REAL if source.size is not None else n
        real = source_examples(source, most, host_batch_iterator, entry)
        description = "the run's own data"
    else:
        made: dict[str, Any] = {"size": shape[:2], "channels": shape[2]} if is_image(shape) else {}
        if value_range is not None:
            made["value_range"] = value_range
        dataset, description = load_dataset(data, **made), data
        loaded = dataset.arrays
        real = loaded["x"][subsample(len(loaded["x"]), MOST_REAL, loaded.get("y"))]
        if asked is not None and "y" in loaded:
            _warn_of_shares(data, loaded["y"], asked, dataset.classes, classes)
    if real.shape[1:] != shape:
        raise ExperimentError(
            f"{description} has examples of shape {real.shape[1:]}, but the samples have shape {shape}."
        )
    return real, description


def _warn_of_shares(
    data: str, labels: np.ndarray, asked: np.ndarray, names: Sequence[str], asked_names: Sequence[str]
) -> None:
    """Warns where labels of data have other shares than those that samples are drawn for, by more than chance.

    Classes are told apart by their names where both have names: a folder without one numbers the others anew.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        return
    if names and asked_names:
        labels, asked = np.array(names)[labels], np.array(asked_names)[asked]
    classes, of = np.unique(np.concatenate([labels, asked]), return_inverse=True)
    theirs, ours = (
        np.bincount(each, minlength=len(classes)) / len(each)
        for each in (of[: len(labels)], of[len(labels) :])
    )
    differing = np.abs(theirs - ours)
    found = len(classes)
    chance = (np.sqrt(found / len(labels)) + found / len(asked)) / 2  # of a draw, and of whole numbers
    if differing.sum() / 2 <= _OTHER_SHARES + chance:
        return
    most = int(differing.argmax())
    warnings.warn(
        f"Samples are drawn for classes by their shares of the training data, and {data} has others (class "
        f"{classes[most]}: {theirs[most]:.3g} there, {ours[most]:.3g} of the samples): a distance to it is one of "
        "these shares too.",
        stacklevel=3,
    )


_OTHER_SHARES = 0.1
"""The total variation of two sets' shares of classes from which on a distance is said to be of these too."""


def against(
    real: np.ndarray,
    *,
    extractor: str | Extractor = "",
    split: str,
    which: Sequence[str] = (),
    seed: int = 0,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = False,
) -> Against:
    """Makes an evaluation that compares samples with real examples.

    Both real and generated images are rounded to 256 levels, as in a file. The features of the real examples are
    computed once, at the first call.

    Args:
      real: `[N, ...]`, images uint8 or floats in [-1, 1].
      extractor: an extractor or its name, see `extractor_named`.
      split: a description of the real examples.
      which: some of `METRICS` and `BY_NAME`; by default all of the former, but the exact Wasserstein
        distance only for points.
      seed: the seed of shuffles and directions.
      devices: the devices that extract features; by default this process's. Of several processes each extracts
        its share of the images, so that all have to make the comparison.
      progress: whether a bar is shown while features are extracted.

    Returns:
      A function from samples `[M, ...]` to their `Scores`, with the fingerprint of the comparison. They have no
      intervals and no floor, which take many times the time of the scores: see `Against.with_intervals`.

    Raises:
      ExperimentError: for an unknown metric or extractor, or real images of other numbers; when called, if samples
        are too few or not finite.

    Warns:
      UserWarning: for real images of booleans, which become black and white, or of floats without one below 0.

    >>> rng = np.random.default_rng(0)
    >>> compare = against(rng.normal(size=(100, 2)), split="a Gaussian", which=("frechet", "wasserstein"))
    >>> scores = compare(rng.normal(size=(100, 2)) + [10.0, 0.0])
    >>> [round(value, -1) for value in scores.values.values()], scores.fingerprint.split
    ([100.0, 10.0], 'a Gaussian')
    """
    for name in which:
        choose("metric", name, dict.fromkeys((*METRICS, *BY_NAME)))
    shape = real.shape[1:]
    if is_image(shape):
        real = _checked(real)

    @functools.cache
    def real_features() -> Features:
        chosen = extractor_named(extractor, shape) if isinstance(extractor, str) else extractor
        return _features(real, chosen, "real", devices, progress)

    def fake_features(samples: np.ndarray) -> Features:
        return _features(samples, real_features().extractor, "fake", devices, progress)

    compared = Against(real_features, fake_features, tuple(which) or _applying(shape), split, seed)
    compared.examples = real, extractor
    return compared


class Against:
    """A comparison of samples with real examples, made by `against`: `samples [M, ...] -> Scores`.

    Args:
      real: extracts the real examples' features, once.
      fake: extracts those of samples.
      which: the metrics.
      split: a description of the real examples.
      seed: the seed of shuffles, directions and resamples.
      intervals: whether scores have intervals and a floor.

    Attributes:
      examples: the real examples and the extractor or its name; `None` where they are not known.
    """

    examples: tuple[np.ndarray, str | Extractor] | None = None

    def __init__(
        self,
        real: Callable[[], Features],
        fake: Callable[[np.ndarray], Features],
        which: Sequence[str],
        split: str,
        seed: int,
        intervals: bool = False,
    ) -> None:
        self._real, self._fake = real, fake
        self._which, self._split, self._seed, self._intervals = which, split, seed, intervals
        self._floors: dict[int, Scores] = {}

    def with_intervals(self) -> Against:
        """The same comparison with intervals and a floor.

        The floor, the scores of two disjoint draws of the real examples, is computed once for a number of samples.
        """
        compared = Against(self._real, self._fake, self._which, self._split, self._seed, intervals=True)
        compared.examples = self.examples
        return compared

    def beside(self, other: Any) -> Against:
        """The same comparison, which takes the features of real examples from another one with the same examples.

        Args:
          other: the other comparison; anything else, or one with other examples or features, shares nothing.
        """
        if not isinstance(other, Against) or self.examples is None or other.examples is None:
            return self
        (ours, mine), (theirs, its) = self.examples, other.examples
        same = ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
        if not same or _identity(mine) != _identity(its):
            return self
        shared = Against(other._real, other._fake, self._which, self._split, self._seed, self._intervals)
        shared.examples = other.examples
        return shared

    def __call__(self, samples: np.ndarray) -> Scores:
        """The scores of samples.

        Raises:
          ExperimentError: if they are too few or not finite.
        """
        try:
            real = self._real()
            fake = self._fake(samples)
            scores = self._scores(real, fake)
            if not self._intervals:
                return scores
            return dataclasses.replace(scores, floor=self._floor(real, len(fake.features)))
        except ValueError as error:
            raise ExperimentError(str(error)) from error

    def _scores(self, real: Features, fake: Features) -> Scores:
        if not self._intervals:
            return _scores(real, fake, self._which, self._split, self._seed)
        # Precision and recall are quadratic: they are counted once, for their values and their intervals.
        plain = [name for name in self._which if name != "neighbors"]
        scores = _scores(real, fake, plain, self._split, self._seed)
        return with_intervals(scores, real, fake, self._which)

    def _floor(self, real: Features, fakes: int) -> Scores | None:
        number = floor_size(len(real.features), fakes)
        if number < 2:
            return None
        if number not in self._floors:
            self._floors[number] = self._scores(*real_draws(real, number, self._seed))
        return self._floors[number]


def _checked(real: np.ndarray) -> np.ndarray:
    """Real images `[N, H, W, C]`, uint8 or floats in [-1, 1]: others would be clipped into that range.

    Raises:
      ExperimentError: for other integers, and floats beyond [-1, 1].
    """
    if real.dtype == np.bool_:
        warnings.warn("Real images of booleans are taken as black and white.", stacklevel=3)
        return real.astype(np.uint8) * np.uint8(255)
    if real.dtype == np.uint8 or not real.size:
        return real
    low, high = float(real.min()), float(real.max())
    if real.dtype.kind in "iu" or low < -1 - _ROUNDING or high > 1 + _ROUNDING:
        raise ExperimentError(
            f"Real images are uint8 in [0, 255] or floats in [-1, 1], these are {real.dtype} in [{low:g}, "
            f"{high:g}]: compare with what is trained on, in its range."
        )
    if -_ROUNDING * high <= low < high:
        warnings.warn(
            f"Real images of floats in [{low:.3g}, {high:.3g}] have no value below 0, which is mid-grey: if 0 is "
            "black, give 2 * x - 1.",
            stacklevel=3,
        )
    return real


_ROUNDING = 1e-3
"""The tolerance for float images beyond [-1, 1]."""


def _identity(extractor: str | Extractor) -> str | tuple[str, ...]:
    if isinstance(extractor, str):
        return extractor
    return extractor.name, extractor.protocol, extractor.resize, extractor.weights


def _applying(shape: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(name for name in METRICS if name != "wasserstein" or not is_image(shape))


def _features(
    samples: np.ndarray,
    extractor: Extractor,
    name: str,
    devices: Sequence[jax.Device] | None,
    progress: bool,
) -> Features:
    from gan_jax.metrics import Features
    from gan_jax.metrics._check import as_samples
    from gan_jax.metrics.features import set_digest

    if not is_image(samples.shape[1:]):
        points = as_samples(samples, name, dtype=None)
        return Features(points, None, "float", extractor, set_digest(points))
    mesh = mesh_over(jax.local_devices() if devices is None else devices)
    if not np.all(np.isfinite(samples)):
        raise ExperimentError(f"The {name} images contain NaN or infinity.")
    images = samples if samples.dtype == np.uint8 else encode(samples)
    return extract_shared(extractor, images, mesh, name=name, progress=progress)


def extract_shared(
    extractor: Extractor, images: np.ndarray, mesh: Mesh, *, name: str, progress: bool = False
) -> Features:
    """The features of images that all processes hold, of which each extracts a share on its devices.

    Args:
      extractor: the extractor.
      images: `[N, H, W, C]` uint8.
      mesh: the devices of this process.
      name: the images' name in errors and before the bar.
      progress: whether a bar is shown.

    Raises:
      ValueError: as `gan_jax.metrics.extract`.
    """
    from gan_jax.metrics import extract
    from gan_jax.metrics.features import BATCH, set_digest

    rows = share(len(images))
    # Every process has an image at least, so that all have the same kinds of features.
    part = images[rows.start : max(rows.stop, rows.start + 1)] if rows.start < len(images) else images[:1]
    with progress_bar(len(rows), name, progress and jax.process_index() == 0) as bar:
        made = extract(
            extractor,
            part,
            batch_size=BATCH * mesh.size,
            mesh=mesh if mesh.size > 1 else None,
            name=name,
            progress=bar.update,
        )
    kinds = {"features": made.features, "logits": made.logits, "spatial": made.spatial}
    parts = gather_arrays({kind: x[: len(rows)] for kind, x in kinds.items() if x is not None})
    joined: dict[str, Any] = {kind: np.concatenate([each[kind] for each in parts]) for kind in parts[0]}
    return made._replace(data=set_digest(images), **joined)


def mesh_over(devices: Sequence[jax.Device]) -> Mesh:
    """A mesh over which batches are sharded for extraction."""
    return jax.make_mesh((len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def _scores(real: Features, fake: Features, which: Sequence[str], split: str, seed: int) -> Scores:
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
    # Equal numbers of both make it an assignment problem, which is fast even without POT.
    number = min(_TRANSPORTED, len(real.features), len(fake.features))
    pair = (side.features[subsample(len(side.features), number, seed=seed)] for side in (real, fake))
    distance = metrics.wasserstein(*pair)
    settings = f"{scores.fingerprint.settings} wasserstein_samples={number}"
    return dataclasses.replace(
        scores,
        values={**scores.values, "wasserstein_1": distance},
        fingerprint=dataclasses.replace(scores.fingerprint, settings=settings),
    )
