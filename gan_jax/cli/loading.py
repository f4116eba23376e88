"""A trained generator from a work directory, or from what was exported of one."""

from __future__ import annotations

import hashlib
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from gan_jax.cli import changes, finding
from gan_jax.cli.errors import UsageError
from gan_jax.evaluation.sampling import generators_of
from gan_jax.evaluation.standing import standing_variables
from gan_jax.functional.options import check_count
from gan_jax.models.model import Model
from gan_jax.models.portable import SUFFIX
from gan_jax.models.programs import Programs, programs_of, weight_names
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.config import read_config, take_saved
from gan_jax.runs.files import is_there, read_regular, reason
from gan_jax.runs.portable_files import DESCRIPTION, Stored, read_model, stored_names
from gan_jax.runs.workdir import Workdir, WorkdirError, refuse_links
from gan_jax.training.experiment import Experiment, ExperimentError


def load_model(
    path: epath.PathLike,
    *,
    round: int | None = None,
    weights: Literal["ema", "raw"] = "ema",
    seed: int | None = None,
    player: str | None = None,
    config: str | pathlib.Path | None = None,
    devices: Sequence[jax.Device] | None = None,
    standing_statistics: int | None = None,
) -> Model:
    """A trained generator, from any folder and on any devices.

    The networks are read from the programs beside the checkpoints, so that no Python of the directory is run. A run
    that was made before there were such programs is rebuilt by its experiment: one of the installation's, or the
    file that `config` names.

    Args:
      path: a run's work directory, or a directory that `--mode=export` wrote.
      round: the round of a checkpoint; by default the newest that is undamaged.
      weights: `ema`, the moving average where there is one, or `raw`.
      seed: which of several seeds was trained; by default the first.
      player: the generator, if the game has several.
      config: the experiment's Python file, or its name, which rebuilds the networks in place of their programs.
      devices: where samples are computed; by default the first one.
      standing_statistics: compute the generator's running statistics again for these weights, from so many batches;
        for that the networks are rebuilt by the experiment.

    Raises:
      WorkdirError, CheckpointError, ExperimentError: with a line for the user.
      ValueError: for weights, a seed or a player that the run or the export does not have; or for statistics that
        cannot be computed again.

    Warns:
      UserWarning: if the networks are rebuilt by code, or with data, that are not those of the run; or if
        `--override` changed the run after this round.
    """
    if weights not in ("ema", "raw"):
        raise ValueError(f"weights is ema or raw, got {weights!r}.")
    if standing_statistics is not None:
        check_count("load_model", "standing_statistics", standing_statistics)
    workdir = Workdir(os.path.expanduser(path))
    if is_there(workdir.root / DESCRIPTION):
        if is_there(workdir.config) and is_there(workdir.checkpoints):
            raise WorkdirError(
                f"{workdir.root} holds an export ({DESCRIPTION}) and a run (config.json): move one of them."
            )
        if standing_statistics is not None:
            raise ValueError(f"{workdir.root} was exported, without what computes running statistics again.")
        return _exported(workdir.root, round, weights, seed, player, devices)
    saved = read_config(workdir)
    refuse_links(workdir)
    experiment = None
    if config is None and standing_statistics is None and is_there(workdir.model / DESCRIPTION):
        programs, description = read_model(workdir.model)
        stored = description.get("weights", {})
    else:
        experiment = _rebuilt(workdir, config)
        programs, stored = programs_of(experiment), stored_names(experiment)
    names = tuple(programs.generators)
    chosen = _chosen(names, player)
    critic = programs.critic_of.get(chosen)
    players: list[str] = [
        name
        for name in (chosen, critic)
        if name is not None and name in (*programs.generators, *programs.critics)
    ]
    seeds, first = (
        _whole(workdir, saved.config, name, default) for name, default in (("seeds", 1), ("seed", 0))
    )
    seed = first if seed is None else seed
    if not first <= seed < first + seeds:
        raise ValueError(f"{workdir.root} has the seeds {first} to {first + seeds - 1}, got seed={seed}.")
    kinds = {name: weights if weights in _kinds_of(workdir, stored, name) else "raw" for name in players}
    read, digest, arrays = _read(workdir, stored, kinds, round)
    if said := changes.later_message(workdir, read):
        warnings.warn(said, stacklevel=2)
    if seeds > 1:
        arrays = {name: {k: v[seed - first] for k, v in part.items()} for name, part in arrays.items()}
    arrays = {name: _in_its_dtypes(programs, name, part) for name, part in arrays.items()}
    _check_shapes(workdir, programs, arrays)
    if experiment is not None and standing_statistics is not None:
        single = experiment if seed == first else _built(workdir, config, seed)[0]
        arrays[chosen] = _standing(single, chosen, arrays[chosen], standing_statistics)
    return Model(
        programs,
        arrays,
        player=chosen,
        round=read,
        kind=kinds[chosen],
        config=saved.config,
        seed=seed,
        checkpoint=digest,
        devices=devices,
    )


def _standing(
    experiment: Experiment, player: str, weights: Mapping[str, np.ndarray], batches: int
) -> dict[str, np.ndarray]:
    """The weights by their names, with running statistics that are computed again."""
    network = experiment.game.players[player].network
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    names = weight_names(shapes)
    variables = jax.tree.unflatten(jax.tree.structure(shapes), [weights[name] for name in names])
    after = standing_variables(experiment, player, variables, batches)
    return {name: np.asarray(leaf) for name, leaf in zip(names, jax.tree.leaves(after), strict=True)}


def _whole(workdir: Workdir, config: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number of a run's configuration.

    Raises:
      WorkdirError: if it is of another type.
    """
    value = config.get(name, default)
    if type(value) is not int:
        raise WorkdirError(f"{workdir.config} is damaged ({name} is {value!r}).")
    return value


def _kinds_of(workdir: Workdir, stored: Any, player: str) -> Sequence[str]:
    """Of which kinds the weights of a player are in the checkpoints."""
    kinds = stored.get(player) if isinstance(stored, dict) else None
    if not isinstance(kinds, dict):
        raise WorkdirError(f"{workdir.model / DESCRIPTION} is damaged (its weights).")
    return list(kinds)


def _chosen(names: tuple[str, ...], player: str | None) -> str:
    if player is None and len(names) == 1:
        return names[0]
    if player is None or player not in names:
        raise ValueError(f"The generators are {', '.join(names)}: pass player=, got {player!r}.")
    return player


def _read(
    workdir: Workdir, stored: Stored, kinds: Mapping[str, str], step: int | None
) -> tuple[int, str, dict[str, dict[str, np.ndarray]]]:
    """The round that was read, its checkpoint's digest, and the weights of players by the programs' names."""
    try:
        names = {player: dict(stored[player][kind]) for player, kind in kinds.items()}
        wanted = [name for part in names.values() for name in part.values()]
        texts = all(isinstance(name, str) for name in wanted)
    except (KeyError, TypeError, ValueError, AttributeError):
        texts = False
    if not texts:
        raise WorkdirError(f"{workdir.model / DESCRIPTION} is damaged (its weights).")
    with Checkpoints(workdir.checkpoints) as checkpoints:
        step, digest, arrays = checkpoints.read(wanted, step)
    return (
        step,
        digest,
        {player: {name: arrays[there] for name, there in part.items()} for player, part in names.items()},
    )


def _in_its_dtypes(programs: Programs, player: str, part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights as their program takes them: an average of bfloat16, say, is stored in float32."""
    program = programs.generators.get(player) or programs.critics[player]

    def cast(name: str, array: np.ndarray) -> np.ndarray:
        wanted = program.weights.get(name)
        narrowed = (
            wanted is not None
            and array.dtype == np.float32
            and jnp.issubdtype(wanted.dtype, jnp.floating)
            and wanted.dtype.itemsize < array.dtype.itemsize
        )
        return array.astype(wanted.dtype) if wanted is not None and narrowed else array

    return {name: cast(name, array) for name, array in part.items()}


def _check_shapes(
    workdir: Workdir, programs: Programs, arrays: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    for player, part in arrays.items():
        program = programs.generators.get(player) or programs.critics[player]
        wanted = {name: (shape.shape, np.dtype(shape.dtype)) for name, shape in program.weights.items()}
        there = {name: (array.shape, array.dtype) for name, array in part.items()}
        if wanted != there:
            differ = next(name for name in sorted({*wanted, *there}) if wanted.get(name) != there.get(name))
            raise WorkdirError(
                f"The checkpoint in {workdir.checkpoints} does not fit the program of {player}: {differ} is "
                f"{there.get(differ)} there, and {wanted.get(differ)} is needed."
            )


def _rebuilt(workdir: Workdir, config: str | pathlib.Path | None) -> Experiment:
    """A run's experiment, of its first seed; its data are closed.

    Raises:
      ExperimentError: if there is no experiment to build them.
    """
    experiment, of_all, path = _built(workdir, config)
    if changed := changes.changes(workdir, of_all, experiment, path):
        warnings.warn(changes.message(workdir, changed), stacklevel=3)
    return experiment


def _built(
    workdir: Workdir, config: str | pathlib.Path | None, seed: int | None = None
) -> tuple[Experiment, Any, pathlib.Path]:
    """A run's experiment of one of its seeds, by default the first; its configuration, and its file.

    Raises:
      ExperimentError: if there is no experiment to build them.
    """
    saved = read_config(workdir)
    try:
        if config is None:
            path = finding.recorded(saved.experiment, str(workdir.root))
        else:
            path = finding.named(str(config))
    except UsageError as error:
        raise ExperimentError(str(error).replace("--config=", "config=")) from error
    module = finding.load(path)
    fields = module.get_config()
    take_saved(fields, saved.config, (), workdir)
    of_all = fields.copy_and_resolve_references()
    if "seeds" in fields:
        fields.seeds = 1
    if seed is not None:
        fields.seed = seed
    experiment = module.build(fields)
    experiment.source.close()
    generators_of(experiment.game)
    return experiment, of_all, path


def _facts(root: epath.Path, programs: Programs, description: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `model.json` says of an export.

    Raises:
      WorkdirError: if it lacks something, or it is of another type.
    """
    facts = description.get("exported")
    if not isinstance(facts, Mapping):
        raise WorkdirError(
            f"{root / DESCRIPTION} is damaged (exported): {root} was not written by --mode=export."
        )
    kinds = {"player": str, "round": int, "weights": str, "config": dict, "seed": int}
    for name, kind in kinds.items():
        if not isinstance(facts.get(name), kind) or isinstance(facts[name], bool):
            raise WorkdirError(f"{root / DESCRIPTION} is damaged (exported.{name} is {facts.get(name)!r}).")
    if facts["player"] not in programs.generators or facts["weights"] not in ("ema", "raw"):
        raise WorkdirError(
            f"{root / DESCRIPTION} is damaged (exported: {facts['weights']} weights of {facts['player']!r})."
        )
    return facts


def _check_digests(root: epath.Path, description: Mapping[str, Any]) -> None:
    """Checks that an export's weights and programs are those that were exported; earlier exports have no digests.

    Raises:
      WorkdirError: naming the file that is another.
    """
    digests = description.get("sha256", {})
    for name, digest in digests.items() if isinstance(digests, Mapping) else ():
        path = root / pathlib.PurePath(name).name
        if (name != "model.safetensors" and not name.endswith(SUFFIX)) or not is_there(path):
            continue  # what nothing is computed from may be changed, and what is missing is named where it is read
        if hashlib.sha256(_content(path)).hexdigest() != digest:
            raise WorkdirError(
                f"{root / name} is damaged: it is not the file that was exported, by its SHA-256."
            )


def _content(path: epath.Path) -> bytes:
    """The content of a file of an export.

    Raises:
      WorkdirError: if it is not there, is a link or no regular file, or cannot be read.
    """
    try:
        return read_regular(path)
    except FileNotFoundError as error:
        raise WorkdirError(f"{path.parent} lacks {path.name}.") from error
    except OSError as error:
        raise WorkdirError(f"Cannot read {path}: {reason(error)}.") from error


def _exported(
    root: epath.Path,
    round: int | None,
    weights: str,
    seed: int | None,
    player: str | None,
    devices: Sequence[jax.Device] | None,
) -> Model:
    """A model from what `--mode=export` wrote: one generator, one round."""
    from gan_jax.data.safetensors import read_safetensors

    programs, description = read_model(root)
    facts = _facts(root, programs, description)
    _check_digests(root, description)
    for name, asked in (("round", round), ("seed", seed), ("player", player)):
        if asked is not None and asked != facts[name]:
            raise ValueError(f"{root} holds {name}={facts[name]}, got {name}={asked}.")
    try:
        arrays = read_safetensors(_content(root / "model.safetensors"))
    except ValueError as error:
        raise WorkdirError(f"{root / 'model.safetensors'} is damaged ({error}).") from error
    if weights == "raw" and facts["weights"] != "raw":
        raise ValueError(
            f"{root} holds the moving average only, got weights='raw': export with --weights=raw."
        )
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in (*programs.generators, *programs.critics)}
    for full, array in arrays.items():
        owner, _, name = full.partition("/")
        if owner not in parts:
            raise WorkdirError(
                f"{root / 'model.safetensors'} has weights of {owner!r}, who is not in {DESCRIPTION}."
            )
        parts[owner][name] = array
    _check_shapes(Workdir(root), programs, parts)
    return Model(
        programs,
        parts,
        player=facts["player"],
        round=facts["round"],
        kind=facts["weights"],
        config=facts["config"],
        seed=facts["seed"],
        devices=devices,
    )
