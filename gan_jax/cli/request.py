"""What the launcher's flags ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from gan_jax.runs.config import read_config
from gan_jax.runs.strict_json import from_json
from gan_jax.runs.workdir import Workdir


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
      checkpoints, data, extractor, metrics, player: see `EVALUATION`.
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
    player: str | None = None
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    until: int | None = None
    prepare: bool = False
    profile: int | None = None


EVALUATION = {
    "checkpoints": "--mode=evaluate: all, best, or rounds as in 500,1000; --checkpoint or the newest by default.",
    "data": "--mode=evaluate: what samples are compared with: own (the default), tfds:NAME@SPLIT, an image folder, "
    "a .npz.",
    "extractor": "--mode=evaluate: pixels, classifier:DATA, or inception:FILE; the experiment's by default.",
    "metrics": "--mode=evaluate: some of frechet, kernel, score, neighbors, sliced, wasserstein; all by default.",
    "player": "--mode=evaluate and --mode=sample: which generator, where a game has several; all by default.",
}
"""Flags of `--mode=evaluate`, each a string, and their help texts; `--mode=sample` reads `player` too."""


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


def default_experiment(argv: Sequence[str], default: str) -> str:
    """The experiment's file where `--config` does not name one: the work directory's, else `default`."""
    workdir = given(argv, "workdir")
    if workdir is None or not Workdir(workdir).config.exists():
        return default
    return read_config(Workdir(workdir)).experiment or default


def resolve(request: Request) -> Any:
    """The configuration (the work directory's if `--config` was not given) with the command line's overrides."""
    config = request.config
    if request.workdir is None or request.config_given or not Workdir(request.workdir).config.exists():
        return config
    for name, value in read_config(Workdir(request.workdir)).config.items():
        if name in config and name not in request.overrides:
            value = from_json(value) if isinstance(config[name], float) else value
            config[name] = tuple(value) if isinstance(config[name], tuple) else value
    return config
