"""Measures that need more than features of two sets: labels, held-out images, or the images themselves."""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from gan_jax.data.image_sets import ImageSet, Labels
from gan_jax.data.subsample import subsample
from gan_jax.evaluation.sides import Side
from gan_jax.files import reason, replace_file
from gan_jax.training.experiment import ExperimentError

if TYPE_CHECKING:
    from gan_jax.metrics.memorization import Memorization
    from gan_jax.metrics.paired import Bounds, Measured, Real, Settings
    from gan_jax.metrics.summaries import Summary

MEASURES = ("per_class", "memorization", "classification_accuracy")
"""Measures that are computed where they are asked for by name:

    per_class                the mean over classes of the Frechet distance (intra-FID); resamples within classes
    memorization             the share of fakes nearer to real images than held-out ones are; Wilson's interval
    classification_accuracy  the accuracy on real images of a classifier trained on fakes (CAS); Wilson's interval
"""
_SHOWN_CLASSES = 10
"""The largest number of classes that have a row each."""
_PAIRS = 16
"""How many fakes of a set are shown beside their nearest real images."""
_MOST_BYTES = 2**28
"""The largest size of a set of images that a classifier is trained on."""


class Measurements(NamedTuple):
    """The sets of a comparison with what was extracted of them.

    Attributes:
      real, fakes: the sets.
      fitting: the real side's features and statistics.
      summaries: the features of each set of fakes.
      held_out: real images that the generator was not trained on, with their features.
      duplicates: the file of the picture of near duplicates; `None` draws none.
    """

    real: Side
    fakes: Sequence[Side]
    fitting: Real
    summaries: Sequence[Summary]
    held_out: tuple[Side, Summary] | None = None
    duplicates: str | pathlib.Path | None = None


class ImageMeasures(NamedTuple):
    """What `measure_images` has found.

    Attributes:
      measured: by the measure's name.
      left_out: the reasons for measures that could not be computed, by name.
      notes: what is to be said of them, a line each.
    """

    measured: dict[str, Measured]
    left_out: dict[str, str]
    notes: list[str]


def measure_images(sides: Measurements, which: Sequence[str], settings: Settings) -> ImageMeasures:
    """Computes some of `MEASURES`.

    Args:
      sides: the sets.
      which: the measures' names.
      settings: the covariance's divisor, the seed and the level of intervals.
    """
    measures = {
        "per_class": _per_class,
        "memorization": _memorization,
        "classification_accuracy": _classification_accuracy,
    }
    found = ImageMeasures({}, {}, [])
    for name in which:
        try:
            found.measured.update(measures[name](sides, settings, found.notes))
        except ValueError as error:
            found.left_out[name] = str(error)
    return found


def _real(sides: Measurements) -> tuple[ImageSet, Summary]:
    if sides.real.images is None or sides.fitting.summary is None:
        raise ValueError("needs the real images, and a statistics file has none")
    return sides.real.images, sides.fitting.summary


def _fakes(sides: Measurements) -> list[tuple[Side, ImageSet, Summary]]:
    return [
        (side, side.images, summary)
        for side, summary in zip(sides.fakes, sides.summaries, strict=True)
        if side.images is not None
    ]


# ---------------------------------------------------------------------------------------------------------
# Classes


def _classes(sets: Sequence[tuple[str, ImageSet, Summary]], notes: list[str]) -> list[np.ndarray]:
    """The class of each image of each set: by its name where all sets name their classes, else by its number.

    Args:
      sets: names, images and what is known of them.
      notes: takes a line for each set whose names stand for the numbers of others.

    Raises:
      ValueError: if a set has no labels, or other sets number more classes than it names.
    """
    found = []
    for name, images, summary in sets:
        labels = images.labels(summary.skipped)
        if labels is None:
            raise ValueError(
                f"{name!r} has no labels: expected sub-folders, a dataset.json or labels.csv, an array y, labels "
                "or arr_1 beside the images, or a run of a conditional game"
            )
        if len(labels.numbers) != summary.number:
            raise ValueError(f"{name!r} has {len(labels.numbers)} labels for {summary.number} images")
        if labels.names and not 0 <= labels.numbers.min() <= labels.numbers.max() < len(labels.names):
            raise ValueError(
                f"{name!r} has labels from {labels.numbers.min()} to {labels.numbers.max()}, and names the classes "
                f"0 to {len(labels.names) - 1}: leave images without a class out"
            )
        found.append(labels)
    if all(labels.names for labels in found):
        return [np.array(labels.names)[labels.numbers] for labels in found]
    most = max(int(labels.numbers.max()) for labels in found if not labels.names)
    return [_by_number(name, labels, most, notes) for (name, *_), labels in zip(sets, found, strict=True)]


def _by_number(name: str, labels: Labels, most: int, notes: list[str]) -> np.ndarray:
    """Labels by number beside sets that have numbers up to `most`: those in the names, else their order."""
    names = labels.names
    if not names:
        return labels.numbers
    if all(re.fullmatch(r"\d{1,9}", each) for each in names):
        called = np.array([int(each) for each in names])
        if not np.array_equal(called, np.arange(len(names))):
            notes.append(
                f"{name}: its classes are those of the numbers that they are called by, {', '.join(names[:4])}"
                f"{', ...' if len(names) > 4 else ''}, since another set has numbers."
            )
        return called[labels.numbers]
    if most >= len(names):
        raise ValueError(
            f"{name!r} has {len(names)} classes ({', '.join(names[:3])}, ...), and another set numbers them up to "
            f"{most}: which is which is known where every set names its classes, or numbers them"
        )
    notes.append(
        f"{name}: its classes are numbered in their order, 0 {names[0]} to {len(names) - 1} {names[-1]}, since "
        "another set has numbers."
    )
    return labels.numbers


def _per_class(sides: Measurements, settings: Settings, notes: list[str]) -> dict[str, Measured]:
    from gan_jax.metrics.estimate import Bootstrap
    from gan_jax.metrics.features import names_of
    from gan_jax.metrics.frechet import frechet_bootstrap
    from gan_jax.metrics.paired import distances, resamples_of

    images, real = _real(sides)
    fakes = [(side.name, fake_images, summary) for side, fake_images, summary in _fakes(sides)]
    sets = [(sides.real.name, images, real), *fakes]
    classes = _classes(sets, notes)
    for name, _, summary in sets:
        if not summary.complete:
            kept = len(summary.features.features)
            raise ValueError(
                f"needs the features of all images, and {kept:,} of {summary.number:,} of {name!r} are kept"
            )
    groups = {}
    for label in np.unique(np.concatenate(classes)):
        parts = [
            summary.features.features[of_set == label]
            for (_, _, summary), of_set in zip(sets, classes, strict=True)
        ]
        if min(map(len, parts)) >= 2:
            groups[str(label)] = parts
        else:
            sizes = ", ".join(f"{len(part)} of {name}" for part, (name, *_) in zip(parts, sets, strict=True))
            notes.append(f"class {label} is left out, since a set has fewer than two images of it: {sizes}.")
    if not groups:
        raise ValueError("no class has two images in every set")
    resamples = resamples_of(
        max(min(part.shape[1], len(part)) for parts in groups.values() for part in parts)
    )
    frechet = names_of(real.features.extractor)["frechet"]
    drawn = {
        label: frechet_bootstrap(
            parts[0], parts[1:], resamples=resamples, seed=settings.seed, method="full", ddof=settings.ddof
        )
        for label, parts in groups.items()
    }
    mean = Bootstrap(
        np.mean([each.values for each in drawn.values()], axis=0),
        np.mean([each.draws for each in drawn.values()], axis=0),
        sum(each.freedom for each in drawn.values()),
    )
    measured = {f"{frechet} per class (mean of {len(drawn)})": distances(mean.values, mean, settings)}
    if len(drawn) <= _SHOWN_CLASSES:
        measured |= {
            f"{frechet} of class {label}": distances(each.values, each, settings)
            for label, each in drawn.items()
        }
        return measured
    for place, (name, *_) in enumerate(fakes):
        worst = sorted(drawn, key=lambda label: -float(drawn[label].values[place]))[:3]
        named = ", ".join(f"{label} ({drawn[label].values[place]:.4g})" for label in worst)
        notes.append(f"{name}: the classes with the largest {frechet} are {named}.")
    return measured


# ---------------------------------------------------------------------------------------------------------
# Memorization


def _memorization(sides: Measurements, settings: Settings, notes: list[str]) -> dict[str, Measured]:
    from gan_jax.metrics.memorization import memorization_test
    from gan_jax.metrics.paired import Measured, wilson

    images, real = _real(sides)
    assert sides.held_out is not None
    held_out, held = sides.held_out
    train, others = real.features.features, held.features.features
    found, bounds = [], []
    for side, _, fake in _fakes(sides):
        result = memorization_test(train, others, fake.features.features)
        found.append(result)
        bounds.append(wilson(result.distances <= result.threshold, settings.level))
        notes.append(
            f"{side.name}: {100 * result.share:.3g} % are no farther than {result.threshold:.4g} from an image of "
            f"{sides.real.name}, as are {100 * result.rate:.3g} % of {held_out.name}; p = {result.p_value:.2g} "
            "(Fisher's exact test)."
        )
    if sides.duplicates is not None:
        _draw(sides, images, real, found)

    def difference(i: int, j: int) -> Bounds:
        """Newcombe's interval, for the threshold given."""
        (p, low, high), (q, other_low, other_high) = bounds[i], bounds[j]
        return (
            p - q,
            p - q - math.hypot(p - low, other_high - q),
            p - q + math.hypot(high - p, q - other_low),
        )

    return {f"memorized ({real.features.extractor.name})": Measured(bounds, difference)}


def _draw(sides: Measurements, images: ImageSet, real: Summary, found: Sequence[Memorization]) -> None:
    """Writes a picture of the fakes nearest to real images, each beside its neighbour."""
    from gan_jax.pictures import image_grid, to_png

    if not real.complete or not all(summary.complete for summary in sides.summaries):
        raise ValueError("duplicates can be shown where the features of all images are kept")
    pairs = []
    for result, (_, fake_images, _) in zip(found, _fakes(sides), strict=True):
        chosen = np.argsort(result.distances, kind="stable")[:_PAIRS]
        neighbors = result.neighbors[chosen]
        fakes, reals = _rows(fake_images, chosen), _rows(images, neighbors)
        pairs += [image for pair in zip(fakes, reals, strict=True) for image in pair]
    if len({image.shape for image in pairs}) > 1:
        raise ValueError("duplicates can be shown of images of one size: give size= (--size=N)")
    if jax.process_index() == 0:
        assert sides.duplicates is not None
        grid = image_grid(np.stack(pairs) / np.float32(127.5) - 1, columns=8)
        try:
            replace_file(sides.duplicates, to_png(grid))
        except OSError as error:
            raise ExperimentError(
                f"The picture {str(sides.duplicates)!r} cannot be written: {reason(error)}."
            ) from error


def _rows(images: ImageSet, places: np.ndarray) -> list[np.ndarray]:
    """The images at these places, from one pass over the set."""
    wanted, passed = {int(place) for place in places}, 0
    found: dict[int, np.ndarray] = {}
    for block in images.blocks(0, images.number):
        found |= {passed + k: block[k] for k in range(len(block)) if passed + k in wanted}
        passed += len(block)
        if len(found) == len(wanted):
            break
    return [found[int(place)] for place in places]


# ---------------------------------------------------------------------------------------------------------
# Classification accuracy


def _classification_accuracy(
    sides: Measurements, settings: Settings, notes: list[str]
) -> dict[str, Measured]:
    from gan_jax.metrics.classification_accuracy import classification_accuracy_score
    from gan_jax.metrics.paired import Measured

    images, real = _real(sides)
    fakes = _fakes(sides)
    classes = _classes(
        [(sides.real.name, images, real), *((side.name, made, fake) for side, made, fake in fakes)], notes
    )
    names = np.unique(np.concatenate(classes))
    numbered = [np.searchsorted(names, of_set) for of_set in classes]
    real_part = _part(sides.real.name, images, numbered[0], notes)
    bounds, classifier = [], ""
    for (side, made, _), labels in zip(fakes, numbered[1:], strict=True):
        fake_part = _part(side.name, made, labels, notes)
        found = classification_accuracy_score(
            *fake_part, *real_part, seed=settings.seed, level=settings.level
        )
        bounds.append((found.value, found.low, found.high))
        classifier = found.classifier
        worst = found.classes[found.by_class.argmin()]
        notes.append(
            f"{side.name}: lowest is the accuracy of class {names[worst]}, {found.by_class.min():.3g}."
        )
    return {f"classification accuracy ({classifier})": Measured(bounds, lambda i, j: None)}


def _part(name: str, images: ImageSet, labels: np.ndarray, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The images and their labels, or as many, drawn at random, as fit into the memory."""
    most = max(2, _MOST_BYTES // int(np.prod(images.shape)))
    if len(labels) <= most:
        return np.concatenate(list(images.blocks(0, images.number))), labels
    chosen = np.sort(subsample(len(labels), most, labels))
    notes.append(
        f"{name}: the classification accuracy is of {most:,} of {len(labels):,} images, drawn at random."
    )
    return np.stack(_rows(images, chosen)), labels[chosen]
