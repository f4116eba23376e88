"""Comparisons of sets of images without a run: by published protocols, with intervals and floors."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from gan_jax.data.errors import DataError
from gan_jax.evaluation.comparison import Column, Comparison, Difference
from gan_jax.evaluation.floors import floor_size, real_draws
from gan_jax.evaluation.image_measures import MEASURES, Measurements, measure_images
from gan_jax.evaluation.scoring import extractor_named, mesh_over
from gan_jax.evaluation.sides import Given, Side, open_fakes, open_side
from gan_jax.metrics.progress import progress_bar, progress_line
from gan_jax.processes import share
from gan_jax.training.experiment import ExperimentError, choose

if TYPE_CHECKING:
    from gan_jax.metrics import Extractor, Features
    from gan_jax.metrics.paired import Paired, Real, Settings
    from gan_jax.metrics.summaries import Summary

_FEW = 5
"""How many skipped images are named."""


def compare(
    real: Given,
    fake: Given | Sequence[Given] | Mapping[str, Given],
    *,
    protocol: str = "",
    metrics: Sequence[str] = (),
    extractor: str | Extractor = "",
    covariance: str = "N-1",
    neighbors: int = 5,
    pairs: int = 10_000,
    size: int | None = None,
    channels: int | None = None,
    damaged: str = "refuse",
    save_stats: str | pathlib.Path | None = None,
    held_out: Given | None = None,
    duplicates: str | pathlib.Path | None = None,
    seed: int = 0,
    level: float = 0.95,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = True,
    use_cache: bool = True,
) -> Comparison:
    """Compares one or several sets of fakes with real images; printing the result shows a table.

    A set is a folder of images with or without sub-folders, a ZIP (the StyleGAN tools' format), a `.npz` or `.npy`
    of images, a prepared TFDS split `tfds:NAME@SPLIT`, a statistics file `.npz` (`mu`, `sigma`), or an array
    `[N, H, W, C]`, uint8 or floats in [-1, 1]. Images are read once, in order and in bounded memory. Floats are
    rounded to 256 levels, as in a file.

    Of several processes each extracts a share of the images, and all return the same.

    Every score has an interval and a floor: the score of two disjoint draws of the real images, of the sizes of the
    comparison or as near to them as the images allow. Of several sets, `differences` says which scores differ by
    more than chance.

    Args:
      real: the real images, or their statistics.
      fake: a set of fakes, several, or sets by the names that they are to have.
      protocol: how Inception's input is made: `pytorch` (pytorch-fid; the default), `tf` (NVIDIA, torch-fidelity,
        ADM) or `clean` (clean-fid). It has to be named for a statistics file of another tool, which does not record
        it.
      metrics: some of `gan_jax.metrics.paired.METRICS`, by default all that the extractor's results allow, of
        `gan_jax.metrics.paired.BY_NAME`, and of `gan_jax.evaluation.image_measures.MEASURES`: `per_class`,
        `classification_accuracy` (both need labels on both sides) and `memorization` (needs `held_out`).
      extractor: an extractor, or its name as in `gan_jax.metrics.named`; `pixels` by default.
      covariance: what covariances are divided by: `N-1` (pytorch-fid, clean-fid, torch-fidelity, ADM) or `N`
        (StyleGAN2-ADA).
      neighbors: k of precision, recall, density and coverage.
      pairs: the largest number of images of a side that these four are of, drawn at random.
      size: crop encoded images to a square and resize them to this size before anything else.
      channels: read encoded images with 1 or 3 channels; by default 1 if all of a set are grey, else 3.
      damaged: `refuse` images that cannot be read, or `skip` and count them.
      save_stats: a `.npz` into which the statistics of the real images are written, with a record of the protocol;
        those of spatial features too, where `spatial` is among the metrics.
      held_out: real images that the generator was not trained on, for `memorization`.
      duplicates: a `.png` of the fakes that come nearest to real images beside these, for `memorization`.
      seed: the seed of shuffles, subsets and resamples.
      level: the confidence level of intervals.
      devices: the devices that extract features; by default all of this process.
      progress: whether bars and lines on stderr say what is being done.
      use_cache: whether features are kept on disk by the content of the images.

    Raises:
      DataError: if a set cannot be read, or sets do not fit together.
      ExperimentError: for an unknown extractor, protocol, metric or covariance; for numbers out of range;
        or if nothing can be measured.

    >>> images = np.random.default_rng(0).integers(256, size=(3, 120, 4, 4, 1), dtype=np.uint8)
    >>> fakes = {"noise": images[1], "dark": images[2] // 2}
    >>> found = compare(images[0], fakes, metrics=["frechet"], progress=False)
    >>> [(each.first, each.second, each.supported) for each in found.differences]
    [('noise', 'dark', True)]
    """
    from gan_jax.metrics import PROTOCOLS, Extractor
    from gan_jax.metrics.paired import BY_NAME, METRICS, Settings
    from gan_jax.metrics.statistics import check_statistics_path, refuse_others

    for name in metrics:
        choose("metric", name, dict.fromkeys((*METRICS, *BY_NAME, *MEASURES)))
    if "memorization" in metrics and held_out is None:
        raise ExperimentError(
            "memorization compares with real images that the generator was not trained on: give held_out "
            "(--held_out=SET)."
        )
    if (held_out is not None or duplicates is not None) and "memorization" not in metrics:
        raise ExperimentError(
            "held_out and duplicates are for the metric memorization (--metrics=memorization)."
        )
    if protocol:
        choose("protocol", protocol, PROTOCOLS)
    ddof = choose("covariance", covariance, {"N-1": 1, "N": 0})
    if not 0 < level < 1:
        raise ExperimentError(f"A confidence level must lie in (0, 1), got {level}.")
    try:
        settings = Settings(ddof=ddof, neighbors=neighbors, pairs=pairs, seed=seed, level=level)
    except ValueError as error:
        raise ExperimentError(str(error).replace("Settings(", "compare(", 1)) from error
    if not isinstance(extractor, str | Extractor):
        raise ExperimentError(f"An extractor is an Extractor or its name, got {extractor!r}.")
    if save_stats is not None:  # before hours of features
        check_statistics_path(save_stats)
        refuse_others(save_stats)
    options: dict[str, Any] = {"size": size, "channels": channels, "damaged": damaged}
    first, others = open_side(real, "real", **options), open_fakes(fake, **options)
    third = None if held_out is None else open_side(held_out, "held out", **options)
    _check_sides(first, [*others, *([third] if third is not None else [])])
    shape = others[0].images.shape if others[0].images is not None else (0, 0, 0)
    chosen = extractor if not isinstance(extractor, str) else extractor_named(extractor, shape, protocol)
    _check_sizes(first, [*others, *([third] if third is not None else [])], chosen)
    extraction = _Extraction(chosen, devices, progress, use_cache)
    summaries = [extraction(side) for side in others]
    fitting = _real(first, extraction, summaries[0].features, settings, named=bool(protocol))
    if save_stats is not None:
        _save(save_stats, first, fitting.summary, settings, spatial="spatial" in metrics)
    measured = Measurements(
        real=first,
        fakes=others,
        fitting=fitting,
        summaries=summaries,
        held_out=None if third is None else (third, extraction(third)),
        duplicates=duplicates,
    )
    sides = (first, *others, *([third] if third is not None else []))
    notes = [note for side in sides for note in _notes_of(side, extraction)]
    try:
        which = tuple(metrics) or _applying(METRICS, summaries[0].features)
        progress_line(
            f"Scoring by {', '.join(which)}, with intervals and floors; resampling takes the longest.",
            progress and jax.process_index() == 0,
        )
        return _compared(measured, which, settings, notes)
    except ValueError as error:
        raise ExperimentError(str(error)) from error


def _applying(names: Sequence[str], features: Features) -> tuple[str, ...]:
    """The metrics for which the extractor's results suffice."""
    lacking = () if features.logits is not None else ("score", "score_contiguous")
    return tuple(name for name in names if name not in lacking)


def _check_sides(real: Side, fakes: Sequence[Side]) -> None:
    """Checks that every set of fakes has images, of as many channels as the real ones."""
    for side in fakes:
        if side.images is None:
            raise DataError(f"{side.name!r} is a statistics file: give the fakes' images.")
        if real.images is not None and real.images.shape[2] != side.images.shape[2]:
            kinds = {1: "grey", 2: "transparent grey", 3: "colour", 4: "transparent"}
            channels = real.images.shape[2], side.images.shape[2]
            ours, theirs = (kinds.get(number, f"{number}-channel") for number in channels)
            kept = f"channels={max(channels)} to keep transparency, " if max(channels) in (2, 4) else ""
            raise DataError(
                f"{real.name!r} has {ours} images and {side.name!r} has {theirs} ones: give {kept}"
                "channels=3 (--channels=3) to repeat grey ones, or "
                "channels=1 to take the grey levels of all; arrays have to be converted first."
            )


def _check_sizes(real: Side, fakes: Sequence[Side], extractor: Extractor) -> None:
    """Checks that an extractor that does not resize is given images of one size."""
    sides = [side for side in (real, *fakes) if side.images is not None]
    shapes = [side.images.shape[:2] for side in sides if side.images is not None]
    if extractor.resize == "none" and len(set(shapes)) > 1:
        said = ", ".join(f"{side.name!r} {h} x {w}" for side, (h, w) in zip(sides, shapes, strict=True))
        raise DataError(
            f"The images differ in size ({said}), and {extractor.name!r} compares images of one size: give size= "
            "(--size=N) to crop and resize encoded images; arrays have to be resized first."
        )


class _Extraction:
    """Extracts the features of sides, each once, with a progress bar."""

    def __init__(
        self, extractor: Extractor, devices: Sequence[jax.Device] | None, progress: bool, use_cache: bool
    ) -> None:
        self.extractor = extractor
        mesh = mesh_over(jax.local_devices() if devices is None else devices)
        self._mesh = mesh if mesh.size > 1 else None
        self._progress, self._use_cache = progress, use_cache
        self.made: dict[int, Summary] = {}

    def __call__(self, side: Side) -> Summary:
        """The summary of a side's images."""
        from gan_jax.metrics.summaries import summarize

        images = side.images
        assert images is not None
        if id(images) not in self.made:
            shown = self._progress and jax.process_index() == 0
            with progress_bar(len(share(images.number)), side.name, shown) as bar:
                self.made[id(images)] = summarize(
                    self.extractor,
                    images,
                    mesh=self._mesh,
                    progress=bar.update,
                    use_cache=self._use_cache,
                )
        return self.made[id(images)]


def _real(side: Side, extraction: _Extraction, fakes: Features, settings: Settings, *, named: bool) -> Real:
    """The real side's summary and statistics, which are checked against the features of fakes."""
    from gan_jax.metrics.paired import Real

    statistics = side.statistics
    if statistics is None:
        return Real(extraction(side))
    statistics.check(fakes, settings.ddof)
    if not statistics.record and extraction.extractor.protocol and not named:
        raise DataError(
            f"{statistics.name!r} does not record how its statistics were made: name the protocol, pytorch, tf or "
            "clean (--protocol=...)."
        )
    summary = extraction(side) if side.images is not None else None
    return Real(summary, statistics.gaussian, statistics.spatial)


def _save(
    path: str | pathlib.Path, side: Side, summary: Summary | None, settings: Settings, *, spatial: bool
) -> None:
    from gan_jax.metrics.statistics import write_statistics

    if summary is None or summary.moments is None:
        raise DataError(
            f"The statistics of {side.name!r} cannot be saved: they need its images, and an extractor of at most "
            "4,096 dimensions."
        )
    places = summary.moments_of_places() if spatial else None
    if spatial and places is None:
        raise DataError(
            f"{summary.features.extractor.name!r} has no spatial features of at most 4,096 dimensions to save."
        )
    if jax.process_index() == 0:
        write_statistics(
            path, summary.moments, summary.features, spatial=places, ddof=settings.ddof, split=side.name
        )


def _notes_of(side: Side, extraction: _Extraction) -> list[str]:
    """What is to be said of a side: what was left out and skipped, what is kept, where statistics are from."""
    notes = []
    images = side.images
    if side.statistics is not None:
        record = side.statistics.record
        if record:
            made = f"{record.get('extractor')}, protocol {record.get('protocol') or 'none'}"
            notes.append(
                f"{side.name}: statistics of {record.get('number', 0):,} images by {made}, as recorded."
            )
        else:
            protocol = extraction.extractor.protocol or "none"
            notes.append(
                f"{side.name}: the file does not record how its statistics were made; protocol {protocol} as given."
            )
    if images is None:
        return notes
    if images.note:
        notes.append(f"{side.name}: {images.note}.")
    summary = extraction.made[id(images)]
    if summary.skipped:
        named = "; ".join(f"{name} ({why})" for name, why in itertools.islice(summary.skipped.items(), _FEW))
        more = ", ..." if len(summary.skipped) > _FEW else ""
        notes.append(
            f"{side.name}: {len(summary.skipped)} of {images.number} images were skipped: {named}{more}."
        )
    if not summary.complete:
        kept = len(summary.features.features)
        what = "all metrics" if summary.moments is None else "all metrics but the Frechet distance's value"
        notes.append(f"{side.name}: {what} are of {kept:,} of {summary.number:,} images, drawn at random.")
    return notes


def _compared(sides: Measurements, which: Sequence[str], settings: Settings, notes: list[str]) -> Comparison:
    from gan_jax.metrics.paired import Paired, paired_scores

    real, fakes, fitting, summaries = sides.real, sides.fakes, sides.fitting, sides.summaries
    of_features = [name for name in which if name not in MEASURES]
    found = paired_scores(fitting, summaries, of_features, settings) if of_features else Paired({}, {})
    of_images = measure_images(sides, [name for name in which if name in MEASURES], settings)
    found.measured.update(of_images.measured)
    found.left_out.update(of_images.left_out)
    if not found.measured:
        raise ValueError("; ".join(f"{name}: {why}" for name, why in found.left_out.items()))
    names = [side.name for side in fakes]
    columns = {
        name: Column(
            {metric: measured.bounds[place] for metric, measured in found.measured.items()},
            _fingerprint(real, fitting, summaries[place], settings),
        )
        for place, name in enumerate(names)
    }
    differences = [
        Difference(metric, names[i], names[j], *bounds)
        for metric, measured in found.measured.items()
        for i, j in itertools.combinations(range(len(names)), 2)
        if (bounds := measured.difference(i, j)) is not None
    ]
    without = [metric for metric in found.measured if metric not in {each.metric for each in differences}]
    if len(names) > 1 and without:
        notes.append(f"without an interval of the difference of two sets: {', '.join(without)}.")
    notes += _without_interval(found, names)
    floors, floor_notes = _floors(real, fitting, summaries, of_features, settings)
    for side, summary in zip(fakes, summaries, strict=True):
        notes += _of_parts(side, summary, real, fitting, settings) if "neighbors" in which else []
    notes += of_images.notes
    notes += [f"left out: {name}: {why}" for name, why in found.left_out.items()]
    return Comparison(
        fakes=columns,
        floors=floors,
        differences=differences,
        notes=tuple(dict.fromkeys([*notes, *floor_notes])),
        level=settings.level,
    )


def _without_interval(found: Paired, names: Sequence[str]) -> list[str]:
    notes = []
    for metric, measured in found.measured.items():
        sets = [
            name for name, bounds in zip(names, measured.bounds, strict=True) if not np.isfinite(bounds).all()
        ]
        if sets:
            notes.append(f"{metric} has no interval ({', '.join(sets)}): {measured.without}.")
    return notes


def _of_parts(side: Side, summary: Summary, real: Side, fitting: Real, settings: Settings) -> list[str]:
    sets = [(side.name, summary), *([(real.name, fitting.summary)] if fitting.summary is not None else [])]
    return [
        f"{name}: precision, recall, density and coverage are of {settings.pairs:,} of {each.number:,} images."
        for name, each in sets
        if len(each.features.features) > settings.pairs
    ]


def _fingerprint(real: Side, fitting: Real, fake: Summary, settings: Settings) -> Any:
    from gan_jax.metrics.fingerprints import fingerprint_of

    if fitting.summary is not None:
        sizes = fitting.summary.number, fake.number
        made = fitting.summary.features
    else:
        assert real.statistics is not None
        record = real.statistics.record
        sizes = int(record.get("number", 0)), fake.number
        data = str(record.get("data", "")) or _gaussian_digest(real)
        made = fake.features._replace(data=data, value_range=str(record.get("value_range", "unknown")))
    return fingerprint_of(
        made, fake.features, split=real.name, seed=settings.seed, settings=str(settings), sizes=sizes
    )


def _gaussian_digest(side: Side) -> str:
    from gan_jax.metrics.features import tree_digest

    assert side.statistics is not None
    return tree_digest(side.statistics.gaussian)[:8]


def _floors(
    real: Side, fitting: Real, fakes: Sequence[Summary], which: Sequence[str], settings: Settings
) -> tuple[dict[str, Column], list[str]]:
    """Two disjoint draws of the real images for every number of fakes, and what is to be said of them."""
    from gan_jax.metrics.fingerprints import fingerprint_of
    from gan_jax.metrics.paired import Real, paired_scores

    if not which:
        return {}, []
    if fitting.summary is None:
        return {}, ["There is no real-against-real floor: it needs the real images, not their statistics."]
    features = fitting.summary.features
    floors: dict[str, Column] = {}
    numbers = list(dict.fromkeys(floor_size(len(features.features), fake.number) for fake in fakes))
    for number in numbers:
        parts = [_whole(fitting.summary, part) for part in real_draws(features, number, settings.seed)]
        found: Paired = paired_scores(Real(parts[0]), [parts[1]], which, settings)
        label = "real against real" if len(numbers) == 1 else f"real against real ({number:,})"
        floors[label] = Column(
            {metric: measured.bounds[0] for metric, measured in found.measured.items()},
            fingerprint_of(
                parts[0].features,
                parts[1].features,
                split=real.name,
                seed=settings.seed,
                settings=str(settings),
                sizes=(parts[0].number, parts[1].number),
            ),
        )
    return floors, []


def _whole(summary: Summary, part: Features) -> Summary:
    """A part of a summary's images, complete by itself."""
    return summary._replace(number=len(part.features), features=part, moments=None, spatial_moments=None)
