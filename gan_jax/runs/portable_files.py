"""The programs of a run's networks beside its checkpoints: `model/`, written once and read without any Python.

The weights stay in the checkpoints. `model.json` says by which names they are there, and what the programs were
made with: a launch with another configuration, code or version writes them again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
from etils import epath

from gan_jax.models.portable import PortableError, from_files, to_files
from gan_jax.models.programs import Programs, programs_of, weight_names
from gan_jax.runs.files import is_there, read_regular, reason, write_atomically
from gan_jax.runs.leaves import leaf_names
from gan_jax.runs.strict_json import dumps
from gan_jax.runs.workdir import Workdir, WorkdirError
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state

DESCRIPTION = "model.json"
Stored = Mapping[str, Mapping[str, Mapping[str, str]]]
"""The names of weights in checkpoints: player -> `raw` or `ema` -> the program's name -> the checkpoint's."""


class PortableWriter:
    """Makes the programs of `model/` on a thread of its own, while the first round is compiled.

    Args:
      workdir: the work directory.
      experiment: what is trained.
      made_with: what the programs depend on, JSON values; where `model.json` has the same, nothing is done.
    """

    def __init__(self, workdir: Workdir, experiment: Experiment, made_with: Mapping[str, Any]):
        self._directory = workdir.model
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="portable")
        self._made = self._thread.submit(_make, self._directory, experiment, made_with)
        self._thread.shutdown(wait=False)

    def finish(self, log: Callable[[str], None]) -> None:
        """Writes the programs; if that is not possible, logs why: a run does not end by it."""
        try:
            made = self._made.result()
            if made is not None:
                write_model(self._directory, *made)
            return
        except OSError as error:
            why = f"{self._directory} cannot be written ({reason(error)})"
        except Exception as error:  # a network that cannot be traced outside of a turn raises anything
            why = " ".join(str(error).split())[:300] or type(error).__name__
        log(f"Without its code this run can be trained and not sampled: {why}.")


def _make(
    directory: epath.Path, experiment: Experiment, made_with: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, bytes]] | None:
    """The description and the files of the programs; `None` where they are there."""
    if is_there(directory / DESCRIPTION):
        with contextlib.suppress(ValueError, AttributeError):  # a damaged one is made again
            before = json.loads(read_regular(directory / DESCRIPTION))
            if before.get("made_with") == json.loads(dumps(made_with, name="made_with")):
                return None
    description, files = to_files(programs_of(experiment))
    return {**description, "weights": stored_names(experiment), "made_with": made_with}, files


def write_model(directory: epath.Path, description: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Writes programs into a directory, `model.json` last; an earlier one, of other programs, goes first.

    Raises:
      OSError: the file system's error.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / DESCRIPTION).unlink(missing_ok=True)
    for name, content in files.items():
        write_atomically(directory / name, content)
    write_atomically(directory / DESCRIPTION, described(description))


def described(description: Mapping[str, Any]) -> bytes:
    """The content of `model.json`."""
    return (dumps(description, indent=1, name="model") + "\n").encode()


def stored_names(experiment: Experiment) -> Stored:
    """By which names the weights of every player's program are in checkpoints."""
    state: TrainState = jax.eval_shape(lambda key: init_state(experiment.game, key), jax.random.key(0))
    names = jax.tree.unflatten(jax.tree.structure(state), leaf_names(state))
    stored: dict[str, dict[str, dict[str, str]]] = {}
    for player, part in names.players.items():
        weights = {"raw": (part.params, part.model_state)}
        if player in names.ema:
            weights["ema"] = tuple(names.ema[player])
        shapes = (state.players[player].params, state.players[player].model_state)
        stored[player] = {
            kind: dict(zip(weight_names(shapes), jax.tree.leaves(tree), strict=True))
            for kind, tree in weights.items()
        }
    return stored


def read_model(directory: epath.Path) -> tuple[Programs, dict[str, Any]]:
    """The programs of a directory, and what `model.json` says of them.

    Raises:
      WorkdirError: if there is no model, or it cannot be used.
    """

    def read(name: str) -> bytes:
        return read_regular(directory / name)

    try:
        description = json.loads(read(DESCRIPTION))
        return from_files(description, read), description
    except FileNotFoundError as error:
        raise WorkdirError(f"{directory} lacks {epath.Path(error.filename).name}.") from error
    except OSError as error:
        raise WorkdirError(f"Cannot read {directory}: {reason(error)}.") from error
    except PortableError as error:
        raise WorkdirError(f"The model in {directory} cannot be used: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise WorkdirError(f"{directory / DESCRIPTION} is damaged ({reason(error)}).") from error
