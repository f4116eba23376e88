"""`config.json`: what a run was asked for and made with, and how a relaunch is held to it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gan_jax.runs.files import is_there, read_regular, reason, write_atomically
from gan_jax.runs.provenance import APART, computed_by, git_commit, library_versions
from gan_jax.runs.strict_json import dumps, from_json, to_json
from gan_jax.runs.workdir import Workdir, WorkdirError, has_checkpoints

_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Launch:
    """What a run was gone on with from some round.

    Attributes:
      step: the round.
      time: when, as `2026-01-31 12:00:00`.
      versions: library name -> version.
      commit: the code's git commit, with `-dirty` behind it if files were changed; `None` outside git.
      overridden: what was another than before, and let pass by `--override`.
      computation: platform, device, precision of products and PRNG, see `provenance.computed_by`.
    """

    step: int
    time: str
    versions: dict[str, str]
    commit: str | None
    overridden: list[str] = dataclasses.field(default_factory=list)
    computation: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SavedConfig:
    """What `config.json` says of its run.

    Attributes:
      config: the resolved configuration as JSON values.
      experiment: the experiment's name or file.
      versions, commit, computation: those of the first launch.
      source: the sha256 of the experiment's code; empty where that is not known.
      modules: those of the modules beside it that it imports, by their paths.
      data: the data's fingerprint; empty where that is not known.
      classes: the names of the classes that labels number; empty where they have none.
      launches: the first launch, and every one that changed something.
    """

    config: dict[str, Any]
    experiment: str
    versions: dict[str, str]
    commit: str | None
    source: str = ""
    modules: dict[str, str] = dataclasses.field(default_factory=dict)
    data: dict[str, str] = dataclasses.field(default_factory=dict)
    classes: list[str] = dataclasses.field(default_factory=list)
    launches: list[Launch] = dataclasses.field(default_factory=list)
    computation: dict[str, str] = dataclasses.field(default_factory=dict)


def jsonable(config: Any) -> dict[str, Any]:
    """A configuration as JSON values, see `strict_json.to_json`.

    Raises:
      WorkdirError: naming the field, where a value has no JSON form.
    """
    try:
        return to_json(config, "config")
    except TypeError as error:
        raise WorkdirError(
            f"{str(error).removesuffix('.')}: a configuration is made of numbers, strings, booleans, None, "
            "lists and dicts."
        ) from error


def write_config(
    workdir: Workdir,
    config: Any,
    *,
    experiment: str = "",
    source: str = "",
    modules: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    step: int = 0,
    overridden: Sequence[str] = (),
    precision: str = "default",
    replicas: int = 0,
) -> str:
    """Writes `config.json`, making the directory if it is not there; earlier launches stay in it.

    Args:
      workdir: the work directory.
      config: the resolved configuration, a mapping or a `ConfigDict`.
      experiment: the experiment's name or file.
      source: the sha256 of the experiment's code.
      modules: those of the modules beside it that it imports.
      data: the data's fingerprint.
      classes: the names of the classes.
      step: the round that the launch begins at.
      overridden: what is another than before, and was let pass.
      precision: of the training's products, see `Experiment.matmul_precision`.
      replicas: under `pmap`, how many there are, since each draws for itself; otherwise 0.

    Returns:
      What of the libraries, the code and the device is another than at the last launch, in one line; empty if
      nothing is.

    Raises:
      WorkdirError: where a value has no JSON form, or the directory cannot be read or written.
    """
    now = Launch(
        step,
        time.strftime("%F %T"),
        library_versions(),
        git_commit(),
        list(overridden),
        {**computed_by(precision), **({"replicas": str(replicas)} if replicas else {})},
    )
    before = read_config(workdir) if is_there(workdir.config) else None
    launches = [_gone_on(launch, step) for launch in before.launches] if before is not None else []
    if before is not None and not launches:  # written before launches were recorded
        launches = [Launch(0, "", before.versions, before.commit, [], before.computation)]
    changed = _changed(launches[-1], now) if launches else []
    if changed or overridden or not launches:
        launches.append(now)
    first = launches[0]
    saved = SavedConfig(
        config=jsonable(config),
        experiment=experiment,
        versions=first.versions,
        commit=first.commit,
        computation=first.computation,
        source=source,
        modules=dict(modules or {}),
        data=dict(data or {}),
        classes=list(classes),
        launches=launches,
    )
    text = dumps(dataclasses.asdict(saved), indent=2) + "\n"
    try:
        workdir.root.mkdir(parents=True, exist_ok=True)
        write_atomically(workdir.config, text.encode())
    except OSError as error:
        raise WorkdirError(f"Cannot write {workdir.config}: {reason(error)}.") from error
    return ", ".join(changed)


def _gone_on(launch: Launch, step: int) -> Launch:
    """An earlier launch of a run that now goes on from round `step`, maybe from before the launch began.

    What the launch changed is in force then from `step` on, for the rounds that it played are played again.
    """
    return dataclasses.replace(launch, step=min(launch.step, step))


def _changed(before: Launch, now: Launch) -> list[str]:
    there = {**before.versions, "commit": before.commit, **before.computation}
    here = {**now.versions, "commit": now.commit, **(now.computation if before.computation else {})}
    return [
        f"{name} {there.get(name)} -> {here.get(name)}"
        for name in (*here, *(there.keys() - here.keys()))
        if there.get(name) != here.get(name)
    ]


def read_config(workdir: Workdir) -> SavedConfig:
    """Reads `config.json`.

    Raises:
      WorkdirError: if the directory is not there, holds no run, or the file is not a configuration or has fields
        that this version does not know.
    """
    if not workdir.root.exists():
        raise WorkdirError(
            f"Work directory {workdir.root} does not exist: train there first, or mend the path."
        )
    try:
        content = json.loads(read_regular(workdir.config))
        launches = content.pop("launches", [])
        unknown = [
            *_unknown(SavedConfig, content),
            *(name for each in launches for name in _unknown(Launch, each)),
        ]
        if unknown:
            raise WorkdirError(
                f"{workdir.config} was written by a newer version of gan_jax, or edited: this version does not "
                f"know its {' and '.join(map(repr, dict.fromkeys(unknown)))}."
            )
        launches = [Launch(**launch) for launch in launches]
        saved = SavedConfig(**content, launches=launches)
    except FileNotFoundError:
        if is_there(workdir.exported):
            raise WorkdirError(
                f"{workdir.root} holds an export and no run: it is for gan_jax.load_model, --mode=sample with "
                "--sample_seeds, interpolate, project and explore."
            ) from None
        raise WorkdirError(
            f"{workdir.root} holds no run (there is no config.json): train there first, or mend the path."
        ) from None
    except OSError as error:
        raise WorkdirError(f"Cannot read {workdir.config}: {reason(error)}.") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WorkdirError(f"{workdir.config} is damaged ({reason(error)}).") from error
    if wrong := _wrong_types(saved):
        raise WorkdirError(f"{workdir.config} is damaged ({wrong}).")
    return saved


def _unknown(kind: type[SavedConfig | Launch], content: Mapping[str, Any]) -> list[str]:
    """The names in a record that are no fields of its kind."""
    return sorted(content.keys() - {field.name for field in dataclasses.fields(kind)})


def overridden_after(saved: SavedConfig, step: int) -> list[Launch]:
    """The launches that went on otherwise, by `--override`, from this round or a later one.

    A state of this round was trained before them, and whoever reads it now has the configuration of the last.
    """
    return [launch for launch in saved.launches if launch.overridden and launch.step >= max(step, 1)]


def _wrong_types(saved: SavedConfig) -> str:
    """Which field is of another type than it is written with, or nothing."""
    texts = lambda value: isinstance(value, dict) and all(isinstance(v, str) for v in value.values())  # noqa: E731
    fields = {
        "config": isinstance(saved.config, dict),
        "experiment": isinstance(saved.experiment, str),
        "source": isinstance(saved.source, str),
        "modules": texts(saved.modules),
        "data": texts(saved.data),
        "versions": texts(saved.versions),
        "computation": texts(saved.computation),
        "commit": isinstance(saved.commit, str | None),
        "classes": isinstance(saved.classes, list) and all(isinstance(c, str) for c in saved.classes),
        "launches": all(
            type(launch.step) is int
            and isinstance(launch.time, str)
            and isinstance(launch.overridden, list)
            and isinstance(launch.commit, str | None)
            and texts(launch.versions)
            and texts(launch.computation)
            for launch in saved.launches
        ),
    }
    return next((f"its {name} is of another type" for name, fine in fields.items() if not fine), "")


_CODE = "function:"
"""With what the name of an extractor begins that is a function of an importable module."""


def _function_in(value: Any) -> str:
    """A text within a saved value that names a function, or nothing: the folder of a run may be importable too."""
    if isinstance(value, str):
        return value if value.strip().lower().startswith(_CODE) else ""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_function_in, parts)), "")


def take_saved(
    config: Any, saved: Mapping[str, Any], overrides: Sequence[str], workdir: Workdir, prefix: str = ""
) -> None:
    """Takes a work directory's values over into an experiment's configuration, each of the type that its field has.

    Args:
      config: the experiment's configuration, changed here; fields that it has not are left out.
      saved: the values of `config.json`.
      overrides: names of fields that keep the value that they have.
      workdir: the work directory, for messages.
      prefix: of the names, within a nested configuration.

    Raises:
      WorkdirError: if a value is of another type, or names a function that would be imported and run.
    """
    for name, value in saved.items():
        if name not in config or prefix + name in overrides:
            continue
        now = config[name]
        if hasattr(now, "keys") and isinstance(value, dict):
            take_saved(now, value, overrides, workdir, f"{prefix}{name}.")
            continue
        if value != now and (function := _function_in(value)):
            raise WorkdirError(
                f"{workdir.config} names code, {prefix}{name}={function!r}, and no work directory runs code by "
                f"itself. If you trust it, give it: --config.{prefix}{name}={function}."
            )
        if isinstance(now, float) or isinstance(value, list):
            value = from_json(value)
        if isinstance(now, tuple) and isinstance(value, list):
            value = tuple(value)
        if isinstance(now, float) and type(value) is int:
            value = float(value)
        if now is not None and type(value) is not type(now):
            raise WorkdirError(
                f"{workdir.config} is damaged: {prefix}{name} is {value!r}, and the experiment has a "
                f"{type(now).__name__} there, {now!r}."
            )
        config[name] = value


INTERVALS = ("log_every", "checkpoint_every", "sample_every", "evaluate_every")
"""Intervals of what is written of a run."""


def differences(saved: Any, new: Any, *, may_change: Iterable[str] = ()) -> list[str]:
    """How a new configuration differs from a saved one, a line for each field, sorted by name.

    `rounds`, `INTERVALS` and the fields in `may_change` are left out: a run may be made longer, and logged or saved
    more or less often, without being another run. Another field that ends in `_every` may be of the training.

    >>> differences({"lr": 1e-3, "rounds": 10}, {"lr": 1e-4, "rounds": 20})
    ['lr: 0.001 in the work directory, 0.0001 now']
    """
    free = {"rounds", *may_change}
    before, after = _flat(jsonable(saved)), _flat(jsonable(new))
    lines = []
    for name in sorted({*before, *after}):
        if name in free or name.rsplit(".", 1)[-1] in INTERVALS:
            continue
        old, now = before.get(name, _ABSENT), after.get(name, _ABSENT)
        if old != now or isinstance(old, bool) != isinstance(now, bool):
            lines.append(f"{name}: {_shown(old)} in the work directory, {_shown(now)} now")
    return lines


def check_config(
    workdir: Workdir,
    config: Any,
    *,
    source: str = "",
    modules: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    may_change: Iterable[str] = (),
    override: bool = False,
) -> list[str]:
    """Checks that a relaunch has the configuration, code and data of its run, and this package's version.

    What is empty, here or in `config.json`, is not compared.

    Returns:
      The differences that `override` let pass; the empty list where there are none, or nothing was trained yet.

    Raises:
      WorkdirError: listing the differences, or if there are checkpoints without a `config.json`, unless `override`.
    """
    if not is_there(workdir.config):
        if not has_checkpoints(workdir):
            return []
        if override:
            return ["what its checkpoints are of is not known, without config.json"]
        raise WorkdirError(
            f"{workdir.root} has checkpoints and no config.json, so what they are of is not known: put it back, "
            "choose another --workdir, or pass --override to go on from them."
        )
    saved = read_config(workdir)
    changed = differences(saved.config, config, may_change=may_change)
    if source and saved.source and source != saved.source:
        changed.append(
            f"the experiment's code: {saved.experiment} sha256:{saved.source[:12]} in the work directory, "
            f"sha256:{source[:12]} now"
        )
    if modules and saved.modules:
        changed += _different("the experiment's module", _as_digests(saved.modules), _as_digests(modules))
    if saved.launches:
        before, now = (
            versions.get("gan_jax") for versions in (saved.launches[-1].versions, library_versions())
        )
        if before and now and before != now:
            changed.append(f"the version of gan_jax: {before} in the work directory, {now} now")
    if data and saved.data:
        before_and_now: list[Mapping[str, str]] = [saved.data, data]
        alone = {name for name in {*saved.data} ^ {*data} if name.startswith(APART)}
        changed += _different(
            "the data", *({n: mark for n, mark in of.items() if n not in alone} for of in before_and_now)
        )
    if changed and not override:
        raise WorkdirError(
            f"{workdir.root} was made with another configuration, code or data ({'; '.join(changed)}): "
            "restore it, choose another --workdir, or pass --override to go on with the new one."
        )
    return changed


def _as_digests(modules: Mapping[str, str]) -> dict[str, str]:
    return {name: f"sha256:{digest}" for name, digest in modules.items()}


def _different(what: str, saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{what} {name}: {shortened(saved.get(name))} in the work directory, {shortened(now.get(name))} now"
        for name in sorted({*saved, *now})
        if saved.get(name) != now.get(name)
    ]


def shortened(fingerprint: str | None) -> str:
    """A fingerprint with the beginning of its digest.

    >>> shortened("float32[3] sha256:" + 64 * "0")
    'float32[3] sha256:000000000000'
    """
    if fingerprint is None:
        return "absent"
    what, sha256, digest = fingerprint.partition("sha256:")
    return what + sha256 + digest[:12]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
