"""The runs of a sweep: every combination of the values that `--sweep` gives."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gan_jax
from gan_jax.cli import mode_flags, request
from gan_jax.cli.errors import UsageError
from gan_jax.runs.provenance import modules_beside, source_digest

OF_THE_SWEEP = ("sweep", "jobs", "slurm", "workdir", "mode")
"""Flags that are not handed on to the runs."""
OF_EVALUATION = tuple(
    name for name, modes in mode_flags.MODES_OF.items() if "evaluate" in modes and "train" not in modes
)
"""Flags that are handed on to the evaluation of a run."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A run of a sweep.

    Attributes:
      name: of its work directory, below the sweep's.
      values: what is another than in the other runs, by field.
      train: the launcher's arguments that train it, but for `--workdir`.
      evaluate: those that evaluate it.
      code: the digest of the experiment's code.
    """

    name: str
    values: Mapping[str, str]
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    code: str = ""

    @property
    def record(self) -> list[str]:
        """What is recorded of it once it is finished; a point with another record is launched again."""
        return [*self.train, *self.evaluate, f"code {self.code}"]

    @property
    def mark(self) -> str:
        """What an element of an array job writes once it has finished the run: the digest of the record."""
        return hashlib.sha256(json.dumps(self.record).encode()).hexdigest()


def parse(swept: Sequence[str], config: Any) -> dict[str, tuple[str, ...]]:
    """The values of each field.

    Raises:
      UsageError: if a field is unknown or named twice, or a value is missing or not of the field's type.

    >>> parse(["config.learning_rate=1e-4,2e-4"], {"learning_rate": 0.0})
    {'learning_rate': ('1e-4', '2e-4')}
    """
    fields: dict[str, tuple[str, ...]] = {}
    for text in swept:
        match = re.fullmatch(r"config\.([\w.]+)=(.+)", text, re.DOTALL)
        if match is None:
            raise UsageError(f"--sweep is config.FIELD=VALUE,VALUE, as in config.seed=0,1; got {text!r}.")
        field, values = match[1], tuple(match[2].split(","))
        request.check_fields(["", f"--config.{field}="], config)
        if field in fields:
            raise UsageError(f"--sweep names {field} twice: give all its values at once.")
        default = config
        for name in field.split("."):
            default = default[name]
        if "" in values or len({_typed(field, value, default) for value in values}) != len(values):
            raise UsageError(
                f"--sweep=config.{field} needs different values, separated by commas; got {match[2]!r}."
            )
        fields[field] = values
    return fields


def _typed(field: str, value: str, default: Any) -> bool | int | float | str:
    """A value as the field's type has it: 1e-4 and 0.0001 are one.

    Raises:
      UsageError: if it is not of that type.
    """
    kind = type(default)
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise UsageError(f"--sweep: {field} is true or false, got {value!r}.")
        return value.lower() == "true"
    if kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            raise UsageError(f"--sweep: {field} is a number like {default!r}, got {value!r}.") from None
    return value


def grid(argv: Sequence[str], fields: Mapping[str, Sequence[str]], code: str = "") -> list[Point]:
    """A point for every combination of values, the last field's changing fastest.

    >>> [p.name for p in grid(["launch.py"], {"lr": ("1", "2"), "objective": ("gan",)})]
    ['lr=1,objective=gan', 'lr=2,objective=gan']
    """
    handed_on = list(argv)
    for name in OF_THE_SWEEP:
        handed_on = request.without(handed_on, name)
    evaluate = []
    for name in OF_EVALUATION:
        if (value := request.given(handed_on, name)) is not None:
            evaluate.append(f"--{name}={value}")
            handed_on = request.without(handed_on, name)
    experiment = request.given(argv, "config")
    if experiment is not None:
        evaluate.append(f"--config={experiment}")
    points, taken = [], set()
    for values in itertools.product(*fields.values()):
        chosen = dict(zip(fields, values, strict=True))
        written = ",".join(f"{name}={value}" for name, value in chosen.items())
        name = plain = re.sub(r"[^\w.=,+-]", "_", written)[:150]
        number = 1
        while name in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name)
        train = (*handed_on[1:], *(f"--config.{field}={value}" for field, value in chosen.items()))
        points.append(Point(name, chosen, train, ("--mode=evaluate", *evaluate), code))
    return points


def code_of(experiment: pathlib.Path) -> str:
    """What identifies the code of an experiment, of the modules beside it, and of this package."""
    parts = {"": source_digest(experiment), **modules_beside(experiment), "gan_jax": gan_jax.__version__}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
