"""`--mode=compare`: sets of images against each other, without a run or with the samples of runs."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.cli import finding
from gan_jax.cli.errors import UsageError
from gan_jax.cli.opened_run import OpenedRun, open_run
from gan_jax.cli.request import PATH_LENGTH, Request
from gan_jax.data.value_range import parse_range
from gan_jax.files import reason, replace_file
from gan_jax.game import GeneratorRole
from gan_jax.own_pictures import write_own
from gan_jax.runs.config import read_config
from gan_jax.runs.strict_json import to_json
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir

if TYPE_CHECKING:
    from gan_jax.data.image_sets import ImageSet
    from gan_jax.state import TrainState
    from gan_jax.training.experiment import Experiment

PLOT = "comparison.png"
"""Where the figure of several sets goes by default."""
_NUMBERS = ("neighbors", "size", "channels")


def compare(request: Request) -> None:
    """Prints the table of a comparison; writes its numbers if asked, and a figure of several sets."""
    from gan_jax.distributed import hosts
    from gan_jax.evaluation.compare import compare as compare_sets
    from gan_jax.pictures.figures import figure_format

    given = dict(request.comparison)
    real, fake, plot, scores = (given.pop(name, None) for name in ("real", "fake", "plot", "scores"))
    if not real or not fake:
        raise UsageError(
            "name what is compared: --real=A --fake=B, each a folder, a .zip, .npz or .npy file, tfds:NAME@SPLIT, "
            "a statistics file, or a run's work directory."
        )
    if plot:  # before hours of features
        try:
            figure_format(plot)
        except ValueError as error:
            raise UsageError(f"--plot={plot}: {error}") from error
    sets = (real, *fake.split(","), given.get("held_out") or "")
    for name, picture in {"plot": plot, "duplicates": given.get("duplicates")}.items():
        if picture and _lies_in(picture, sets):
            raise UsageError(
                f"--{name}={picture} would be one of the images that are compared: name another folder."
            )
    if scores:
        _check_scores_path(pathlib.Path(scores))
    if not any(map(_is_run, sets)):
        _refuse_flags_of_runs(request)
    if note := _of_another_range(sets):
        tell(note, sys.stderr)
    given_features: set[str] = set()
    reals = _opened(request, real, given_features)
    if len(reals) > 1:
        raise UsageError(
            f"--real={real} has several sets of samples ({', '.join(reals)}): name one generator."
        )
    fakes: dict[str, ImageSet | str] = {}
    for name in filter(None, fake.split(",")):
        for label, images in _opened(request, name, given_features).items():
            fakes[label if label not in fakes else f"{label} ({len(fakes) + 1})"] = images
    held_out = given.pop("held_out")
    if PATH_LENGTH in (request.metrics or "").split(","):
        raise UsageError(
            f"{PATH_LENGTH} is a measure of a generator, not of images: --mode=evaluate --workdir=RUN "
            f"--metrics={PATH_LENGTH}."
        )
    options: dict[str, Any] = {
        name: _number(name, value) if name in _NUMBERS else value
        for name, value in given.items()
        if value is not None
    }
    if held_out:
        options["held_out"] = next(iter(_opened(request, held_out, given_features).values()))
    found = compare_sets(
        next(iter(reals.values())),
        fakes,
        metrics=tuple(filter(None, (request.metrics or "").split(","))),
        **_extractor(request, given_features),
        **options,
    )
    if not hosts.first():
        return
    tell(str(found))
    if scores:
        try:
            replace_file(scores, (json.dumps(to_json(found.as_dict()), indent=1) + "\n").encode())
        except OSError as error:
            raise UsageError(f"--scores={scores} cannot be written: {reason(error)}.") from error
        tell(f"Written to {scores}")
    path = plot if plot is not None else PLOT if len(fakes) > 1 else ""
    if path and _lies_in(path, sets):
        tell(f"No figure is written: {path} would be one of the images; --plot=FILE names another.")
    elif path:
        try:
            written = _written(found.figure(), path, named=plot is not None)
        except ValueError as error:
            raise UsageError(f"--plot={path}: {error}") from error
        except OSError as error:
            raise UsageError(f"--plot={path} cannot be written: {reason(error)}.") from error
        tell(f"Written to {written}")


def _written(figure: Any, path: str, *, named: bool) -> pathlib.Path:
    """Writes the figure; one whose name is not given replaces no picture of somebody else. Where it is."""
    from gan_jax.pictures import save, to_array

    if named:
        save(figure, path)
        return pathlib.Path(path)
    return write_own(pathlib.Path(path), to_array(figure))


def _lies_in(path: str, sets: Iterable[str]) -> bool:
    """Whether a file would be among the images of one of these sets when they are read again."""
    folders = [pathlib.Path(name).expanduser() for name in sets if name and not _is_run(name)]
    there = pathlib.Path(path).resolve()
    return any(folder.is_dir() and there.is_relative_to(folder.resolve()) for folder in folders)


def _extractor(request: Request, given_features: Collection[str]) -> dict[str, Any]:
    """The options of a comparison that say what images are compared by, marked if a run's critic was given it."""
    from gan_jax.evaluation.scoring import extractor_named
    from gan_jax.metrics.features import marked_as_given

    name, protocol = request.extractor or "", request.protocol or ""
    if not given_features:
        return {"extractor": name, "protocol": protocol}
    chosen = marked_as_given(extractor_named(name, (1, 1, 1), protocol), given_features)
    return {"extractor": chosen, "protocol": protocol}


def _check_scores_path(path: pathlib.Path) -> None:
    """Checks the file that scores are written to.

    Raises:
      UsageError: if its name does not end in `.json`, or there is no such folder.
    """
    if path.suffix != ".json":
        raise UsageError(f"--scores is a .json file, got {str(path)!r}.")
    if not path.parent.is_dir():
        raise UsageError(f"--scores={path}: there is no folder {str(path.parent)!r}.")


def _number(name: str, value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"--{name} is 1 or more, got {value!r}.")
    return number


def _opened(request: Request, name: str, given_features: set[str]) -> Mapping[str, ImageSet | str]:
    """The sets that a name stands for, by their labels: those of a work directory, or what it names itself.

    The digests of pretrained networks that the critics of a run are given join `given_features`.
    """
    return _samples(request, name, given_features) if _is_run(name) else {name: name}


def _is_run(name: str) -> bool:
    """Whether a set is named by a run's work directory."""
    workdir = Workdir(name)
    return bool(name and workdir.config.exists() and workdir.checkpoints.exists())


def _of_another_range(sets: Iterable[str]) -> str:
    """A line where the data of a run are in a range of their own, and it is compared with what is no run."""
    runs = [name for name in sets if name and _is_run(name)]
    found = {name: str(read_config(Workdir(name)).config.get("value_range", "")) for name in runs}
    others = [name for name in sets if name and name not in runs]
    named = [f"{name} ({own})" for name, own in found.items() if own and parse_range(own) not in _RECOGNISED]
    if not named or not others:
        return ""
    return (
        f"Trained on data in a value_range of their own: {', '.join(named)}. Other sets are read in [0, 255] or "
        f"[-1, 1], or [0, 1] where that is recognised: if {', '.join(others)} is of the same range as those data, "
        "--mode=evaluate --workdir=RUN --data=SET reads it in that."
    )


_RECOGNISED = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""Ranges that sets are read in without being told."""


def _refuse_flags_of_runs(request: Request) -> None:
    """Refuses what says how samples of a run are drawn, where none are.

    Raises:
      UsageError: naming the flag.
    """
    for name in ("num_samples", "checkpoint", "player", "weights", "standing_statistics"):
        if getattr(request, name) is not None:
            raise UsageError(
                f"--{name} is of samples of runs, and no set that is compared is a work directory."
            )


def _samples(request: Request, name: str, given_features: set[str]) -> dict[str, ImageSet]:
    """Samples of a run's newest checkpoint (or of `--checkpoint`): of every seed and generator a set."""
    import jax

    from gan_jax.evaluation.scoring import critic_features

    path = request.experiment
    if not request.config_given:
        path = str(finding.recorded(read_config(Workdir(name)).experiment, name))
    config = finding.load(pathlib.Path(path)).get_config()
    run = open_run(dataclasses.replace(request, workdir=name, experiment=path, config=config, overrides=()))
    # Every process draws its share of the samples on its devices.
    (restored,) = run.restored([request.checkpoint], jax.local_devices() if jax.process_count() > 1 else None)
    given_features.update(critic_features(run.experiment.game))
    sets: dict[str, ImageSet] = {}
    for experiment, seed_state in run.per_seed(restored.state, run.standing(request)):
        for player in run.generators(request.player):
            label = f"{name} {player}" if len(run.generators(None)) > 1 else name
            label += f" seed {experiment.seed}" if run.experiment.seeds > 1 else ""
            sets[label] = _drawn(request, run, experiment, seed_state, player, label)
    return sets


def _drawn(
    request: Request, run: OpenedRun, experiment: Experiment, state: TrainState, player: str, label: str
) -> ImageSet:
    """Samples of a generator, drawn as they are asked for: they are never in memory as a whole.

    Raises:
      UsageError: if they are no images, or too few.
    """
    import jax

    from gan_jax.data.arrays import encode
    from gan_jax.data.image_sets import ImageSet, Labels
    from gan_jax.evaluation import sampling
    from gan_jax.evaluation.scoring import is_image
    from gan_jax.keys import named_key
    from gan_jax.metrics._check import check_finite

    n = experiment.evaluation_samples if request.num_samples is None else request.num_samples
    if n < 2:
        raise UsageError(f"--num_samples is 2 or more to compare, got {n}.")
    run.different_samples(request, experiment, player, n, evaluates=True)
    shape = run.sample_shape(player)
    if not is_image(shape):
        raise UsageError(f"{label} is a run of samples of shape {shape}, which are no images.")
    condition_batch = experiment.evaluation_batch or experiment.condition_batch
    ema = run.weights(request) != "raw"

    def blocks(start: int, stop: int) -> Iterator[np.ndarray]:
        drawn = sampling.sample_blocks(
            experiment.game,
            state,
            named_key(jax.random.key(experiment.seed), "evaluation"),
            n,
            player=player,
            ema=ema,
            condition_batch=condition_batch,
            start=start,
            stop=stop,
        )
        for block in drawn:
            check_finite(block, f"the samples of {label}")
            yield encode(block)

    def labels(skipped: Collection[str]) -> Labels | None:
        role = experiment.game.players[player].role
        assert isinstance(role, GeneratorRole)
        batch = condition_batch(n)
        asked = [x for x in role.condition(batch) if x is batch.get("y")]
        return Labels(np.asarray(asked[0]), tuple(experiment.classes)) if asked else None

    return ImageSet(
        name=label,
        number=n,
        shape=(shape[0], shape[1], shape[2]),
        value_range="float [-1, 1] rounded to 256 levels",
        blocks=blocks,
        content=None,
        labels=labels,
    )
