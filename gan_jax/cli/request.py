"""What the launcher's flags ask for."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gan_jax.cli import finding
from gan_jax.cli.errors import UsageError
from gan_jax.files import is_local
from gan_jax.runs.config import read_config, take_saved
from gan_jax.runs.portable_files import DESCRIPTION
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import closest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What the flags asked for.

    Attributes:
      experiment: the experiment's file.
      config: its configuration with the command line's overrides.
      overrides: the names that the command line set.
      config_given: whether `--config` named the experiment.
      workdir: the run's directory, or `None`.
      override: go on although the configuration has changed.
      checkpoint: the round to evaluate or sample; `None` is the newest.
      num_samples: how many `--mode=sample` and `--mode=evaluate` draw; `None` is the experiment's own number.
      checkpoints, data, extractor, metrics, intervals, protocol, lpips, player, weights, standing_statistics,
        sample_seeds, label, truncation, out, walk, walk_steps, image, distance, project_steps, format,
        license, port, onnxruntime_web, training_images, track: see `EVALUATION`.
      comparison: the flags of `COMPARISON` by name, `None` where one is not given.
      coordinator, num_processes, process_id: see `hosts.join`.
      until: the round that `--mode=replay` stops at; `None` is the one that the log names.
      prepare: download and prepare the configuration's TFDS data set before anything else.
      profile: the first round of `--mode=train` that is traced for the profiler; `None` traces nothing.
    """

    experiment: str
    config: Any
    overrides: Sequence[str]
    config_given: bool
    workdir: str | None
    override: bool
    checkpoint: int | None
    num_samples: int | None
    checkpoints: str | None = None
    data: str | None = None
    extractor: str | None = None
    metrics: str | None = None
    intervals: str | None = None
    protocol: str | None = None
    lpips: str | None = None
    player: str | None = None
    weights: str | None = None
    standing_statistics: str | None = None
    sample_seeds: str | None = None
    label: str | None = None
    truncation: str | None = None
    out: str | None = None
    walk: str | None = None
    walk_steps: str | None = None
    image: str | None = None
    distance: str | None = None
    project_steps: str | None = None
    format: str | None = None
    license: str | None = None
    port: str | None = None
    onnxruntime_web: str | None = None
    training_images: str | None = None
    track: str | None = None
    comparison: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    until: int | None = None
    prepare: bool = False
    profile: int | None = None


WEIGHTS = ("ema", "raw")
EVALUATION = {
    "checkpoints": "all, best, or rounds as in 500,1000; --checkpoint or the newest by default.",
    "data": "what samples are compared with: own, the training data, tfds:NAME@SPLIT, an image folder, a .npz; by "
    "default what the run held out, or its training data.",
    "extractor": "pixels, classifier:DATA, inception:FILE, vgg16:FILE, clip:FILE, dinov2:FILE, onnx:FILE or "
    "function:MODULE.NAME; the experiment's by default, pixels without a run.",
    "metrics": "in evaluate some of frechet, kernel, score, neighbors, sliced, wasserstein; in compare some of "
    "frechet, kernel, kernel_subsets, score, score_contiguous, neighbors; all by default. In both modes also "
    "spatial (sFID) and monge (MIND), where they are named; in compare per_class, memorization and "
    "classification_accuracy, in evaluate path_length.",
    "intervals": "yes (the default), or no to leave out intervals and the scores of real samples against real "
    "ones, which take many times the time of the scores.",
    "protocol": "how Inception's input is made: pytorch (pytorch-fid; the default), tf (NVIDIA, torch-fidelity, "
    "ADM) or clean (clean-fid).",
    "lpips": "with --metrics=path_length, VGG16.pth,HEADS.pth, the files of the distance LPIPS; without them it is "
    "that of the extractor's features.",
    "player": "which generator, where a game has several; all by default.",
    "weights": "ema (the moving average) or raw; by default samples are of the average, where there is one, and "
    "evaluations of both.",
    "standing_statistics": "compute the generators' running statistics again, from so many batches (16, say); by "
    "default those of the training are taken.",
    "sample_seeds": "seeds as in 0-499 or 0,3,7; one sample of each.",
    "label": "the class of the samples, by number or name.",
    "truncation": "how far samples may lie from the typical one, as .7.",
    "out": "the directory that is written.",
    "walk": "spherical (the default) or linear.",
    "walk_steps": "samples of each walk, both ends included; 16 by default.",
    "image": "the image whose latent is looked for.",
    "distance": "pixels (the default), features, those of the critic, or an extractor: vgg16:FILE, inception:FILE, "
    "classifier:digits, ...",
    "project_steps": "steps of the search for a latent; 1000 by default.",
    "format": "safetensors (the default), stablehlo or onnx.",
    "port": "the port of the page, 8265 by default; 0 is any that is free.",
    "onnxruntime_web": "with --out, the archive of onnxruntime-web, or its folder; npm fetches it by default.",
    "training_images": "with --out, how many training images the folder has at most, to find those nearest to a "
    "sample; 5000 by default, 0 for none.",
    "track": "wandb, mlflow or both with a comma, to follow the run there too.",
    "license": "the weights' licence for the model card, as apache-2.0; unknown by default.",
}
"""Flags of the modes that read a run, each a string, and their help texts; `mode_flags` has their modes."""
USES = ("interpolate", "project", "export", "explore")
"""Modes that use a model rather than an experiment; `--mode=sample` does with one of `SAMPLE_FLAGS`."""
SAMPLE_FLAGS = ("sample_seeds", "label", "truncation", "out")

PATH_LENGTH = "path_length"
"""A metric of `--mode=evaluate` only: it is measured of a generator."""

COMPARISON = {
    "real": "the real images: a folder, a .zip, .npz or .npy file, tfds:NAME@SPLIT, a statistics file (.npz with "
    "mu and sigma), or a work directory, whose samples are drawn.",
    "fake": "what is compared with them, the same or several with commas between them.",
    "covariance": "covariances are divided by N-1 (the default) or N (StyleGAN2-ADA).",
    "neighbors": "k of precision, recall, density and coverage; 5 by default.",
    "size": "crop encoded images to a square and resize them to this size first.",
    "channels": "read encoded images with 1 or 3 channels.",
    "damaged": "refuse (the default) or skip images that cannot be read.",
    "save_stats": "a .npz into which the statistics of the real images are written.",
    "held_out": "with --metrics=memorization, real images that the generator was not trained on.",
    "duplicates": "with --metrics=memorization, a .png of the fakes nearest to real images.",
    "scores": "a .json into which the scores are written, with their intervals, floors and fingerprints.",
    "plot": "a .png, .svg or .pdf for the figure; where there are several fakes comparison.png, or "
    "comparison-2.png where that is another's.",
}
"""Flags of `--mode=compare` only, each a string, and their help texts."""


PLACES = (
    *("config", "workdir", "out", "image", "slurm", "onnxruntime_web"),
    *("save_stats", "duplicates", "scores", "plot"),
)
"""Flags whose value is a path."""
ON_OBJECT_STORES = ("workdir", "out", "real", "fake")
"""Flags that may name a place of an object store; of `real` and `fake` a work directory."""


def expand_homes(argv: Sequence[str]) -> list[str]:
    """`argv` with home directories in the paths that flags name: shells expand no `~` within `--workdir=~/runs`.

    Places of an object store are checked, and stay as they are.

    Raises:
      UsageError: for the home of a user whom this machine does not know, or an object store that cannot be used.
    """
    expanded, awaiting = [], ""
    for argument in argv:
        flag, equals, value = argument.partition("=")
        if argument.startswith("-") and flag.lstrip("-") in (*PLACES, *ON_OBJECT_STORES):
            named = flag.lstrip("-")
            expanded.append(f"{flag}={_place(named, value)}" if equals else argument)
            awaiting = "" if equals else named
            continue
        expanded.append(_place(awaiting, argument) if awaiting else argument)
        awaiting = ""
    return expanded


def _place(flag: str, value: str) -> str:
    """What a flag names, with its home directory where it is a path."""
    if flag in PLACES:
        value = at_home(value)
    if not is_local(value):
        check_store(flag, value)
    return value


def check_store(flag: str, value: str) -> None:
    """Checks that a flag may name a place of an object store, and that this one can be reached.

    Raises:
      UsageError: if it may not, the store is of another kind than Google's, or the package for it is missing.
    """
    if flag not in ON_OBJECT_STORES:
        raise UsageError(
            f"--{flag}={value}: a file or folder of this machine is needed; only "
            f"{' and '.join(f'--{name}' for name in ON_OBJECT_STORES[:2])} may be on an object store."
        )
    if not value.startswith("gs://"):
        raise UsageError(
            f"--{flag}={value}: the only object store is Google's, gs://BUCKET/...; of another one mount a folder."
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise UsageError(f"--{flag}={value}: the package gcsfs is not installed: pip install 'gan_jax[gcs]'.")


def at_home(path: str) -> str:
    """A path with the home directory that it begins with; `./~` is a directory of this name.

    Raises:
      UsageError: for the home of a user whom this machine does not know.

    >>> at_home("runs/a"), at_home("./~/a")
    ('runs/a', './~/a')
    """
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise UsageError(
            f"{path} begins with ~ and a user that this machine does not know: for a directory of this name give "
            f"./{path}."
        )
    return found


def parse_standing(text: str | None) -> int | None:
    """From how many batches `--standing_statistics` asks for running statistics; `None` where it is not given.

    Raises:
      UsageError: if it is no number of batches.

    >>> parse_standing("16")
    16
    """
    if text is not None and not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise UsageError(f"--standing_statistics is a number of batches, 1 or more, got {text!r}.")
    return None if text is None else int(text)


def given(argv: Sequence[str], name: str) -> str | None:
    """The value of a string flag as `argv` has it, before the flags are parsed; `None` if it is not there.

    >>> given(["launch.py", "--mode=train", "--workdir", "runs/a"], "workdir")
    'runs/a'
    """
    value = None
    for place, argument in enumerate(argv):
        flag, equals, rest = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == name:
            value = rest if equals else next(iter(argv[place + 1 : place + 2]), None)
    return value


def without(argv: Sequence[str], name: str) -> list[str]:
    """`argv` without a string flag and its value.

    >>> without(["launch.py", "--config=ring", "--config.rounds=3", "--config", "digits"], "config")
    ['launch.py', '--config.rounds=3']
    """
    kept: list[str] = []
    skip = False
    for argument in argv:
        flag, equals, _ = argument.lstrip("-").partition("=")
        named_here = argument.startswith("-") and flag == name
        if not skip and not named_here:
            kept.append(argument)
        skip = named_here and not equals
    return kept


def experiment_of(argv: Sequence[str]) -> pathlib.Path:
    """The experiment's file: the one that `--config` names, else the work directory's, else the default.

    Raises:
      UsageError: if the work directory's is none of the installation's, or what `--config` names is ambiguous.
    """
    named_by_flag = given(argv, "config")
    if named_by_flag is not None:
        return finding.named(named_by_flag)
    default = finding.EXPERIMENTS / f"{finding.DEFAULT}.py"
    workdir = given(argv, "workdir")
    asks_for_help = any(argument.lstrip("-") in _HELP for argument in argv[1:] if argument.startswith("-"))
    if workdir is None or asks_for_help or not Workdir(workdir).config.exists():
        return default
    if uses_model(argv) and (Workdir(workdir).model / DESCRIPTION).exists():
        return default  # a model is read without its experiment
    if given(argv, "mode") == "sample" and only_its_model(workdir):
        return default
    return finding.recorded(read_config(Workdir(workdir)).experiment, workdir)


def only_its_model(workdir: str) -> bool:
    """Whether a run is of somebody's own experiment, whose code is not run, and has its model to sample from."""
    try:
        finding.recorded(read_config(Workdir(workdir)).experiment, workdir)
    except UsageError:
        return (Workdir(workdir).model / DESCRIPTION).exists()
    return False


def uses_model(argv: Sequence[str]) -> bool:
    """Whether a command reads a model, which needs no experiment.

    >>> uses_model(["launch.py", "--mode=sample"]), uses_model(["launch.py", "--mode=sample", "--sample_seeds=0-9"])
    (False, True)
    """
    mode = given(argv, "mode")
    return mode in USES or (mode == "sample" and any(given(argv, flag) is not None for flag in SAMPLE_FLAGS))


_HELP = ("help", "helpshort", "helpfull", "helpxml", "h", "?")


def check_fields(argv: Sequence[str], config: Any) -> None:
    """Checks that the configuration has every field that `argv` sets.

    Raises:
      UsageError: naming the one that it has not, and those that it has.

    >>> check_fields(["launch.py", "--config.objectiv=gan"], {"objective": "gan", "rounds": 3})
    Traceback (most recent call last):
    gan_jax.cli.errors.UsageError: unknown field --config.objectiv (did you mean 'objective'?); the fields are
    objective, rounds.
    """
    for argument in argv[1:]:
        match = re.match(r"--?(?:no)?config\.([^=]*)", argument)
        fields = config
        for name in match[1].split(".") if match else ():
            plain = re.sub(r"\[\d+\]$", "", name)
            if not hasattr(fields, "keys") or plain not in fields:
                known = sorted(fields.keys()) if hasattr(fields, "keys") else sorted(config.keys())
                raise UsageError(
                    f"unknown field --config.{match[1] if match else ''}{closest(name, known)}; the fields are "
                    f"{', '.join(known)}."
                )
            fields = fields[plain]


def resolve(request: Request) -> Any:
    """The work directory's configuration with the command line's overrides; without a run there, the experiment's.

    Where `--config` names the experiment and `--override` is given, the experiment's is asked for.

    Raises:
      WorkdirError: if the work directory's configuration cannot be that of this experiment.
    """
    config = request.config
    if request.workdir is None or not Workdir(request.workdir).config.exists():
        return config
    if not (request.config_given and request.override):
        workdir = Workdir(request.workdir)
        take_saved(config, read_config(workdir).config, request.overrides, workdir)
    return config
