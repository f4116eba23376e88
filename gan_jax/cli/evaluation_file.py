"""`evaluation.json` of a work directory: the evaluations of its checkpoints, written one after the other."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from gan_jax.cli.errors import UsageError
from gan_jax.files import locked
from gan_jax.runs.files import is_there, read_regular, reason, write_atomically
from gan_jax.runs.strict_json import dumps
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir


def write(workdir: Workdir, found: Sequence[Mapping[str, Any]]) -> None:
    """Prints the tables of evaluations, and writes them: what took hours is shown where it cannot be written.

    Raises:
      UsageError: if it cannot.
    """
    from gan_jax.evaluation.score_tables import tables

    path = workdir.root / "evaluation.json"
    tell(tables(found))
    try:
        kept = store(workdir, found)
    except OSError as error:
        raise UsageError(f"{path} could not be written: {reason(error)}.") from error
    beside = f", beside {kept} earlier evaluation{'s' * (kept > 1)}" if kept else ""
    tell(f"Written to {path}{beside}")


def store(workdir: Workdir, found: Sequence[Mapping[str, Any]]) -> int:
    """Writes evaluations into `evaluation.json`, and returns how many earlier ones are kept before them.

    These are all but those that a new one repeats. A file that cannot be read is kept under another name.

    Raises:
      OSError: the file system's own error.
    """
    path = workdir.root / "evaluation.json"
    with locked(workdir.root, wait=True):
        earlier = _stored(path)
        kept = [old for old in earlier or () if not any(_repeats(new, old) for new in found)]
        text = dumps({"checkpoints": [*kept, *found]}, indent=2, name="evaluation") + "\n"
        if earlier is None:
            aside = path.with_name(f"evaluation_unread_{secrets.token_hex(4)}.json")
            path.rename(aside)
            tell(f"What stood in {path} could not be read: it is {aside.name} now.", sys.stderr)
        write_atomically(path, text.encode())
    return len(kept)


def of_checkpoint(
    workdir: Workdir, checkpoint: str, weights: str, seed: int, standing: int | None = None
) -> dict[str, Any] | None:
    """The entry of `evaluation.json` for a checkpoint; of several seeds the part of this one.

    Of several entries it is the newest of those with the most metrics of these weights. An entry of the same round
    but another digest is of other training: the run went on from an earlier checkpoint. One with other standing
    statistics than these, `None` for none, is of other samples.

    Raises:
      UsageError: if it is damaged.
    """
    path = workdir.root / "evaluation.json"
    if not is_there(path):
        return None
    try:
        stored = json.loads(read_regular(path))["checkpoints"]
        entries = [
            entry
            for entry in stored
            if entry.get("checkpoint") == checkpoint and entry.get("standing_statistics") == standing
        ]
        if not entries:
            return None
        found = max(reversed(entries), key=lambda entry: len(entry["samples"].get(weights, ())))
        if "each" in found:
            # The intervals of several seeds are of their mean.
            shared = {name: part for name, part in found.items() if name != "intervals"}
            found = {**shared, **found["each"][found["seeds"].index(seed)]}
        for ends in found.get("intervals", {}).get("samples", {}).values():
            for low, high in ends.values():
                float(low), float(high)
        for kind in found["samples"].values():
            dict(kind)
        for mark in found["fingerprints"].values():
            mark["key"], list(mark["metrics"])
        for launch in found.get("overridden", ()):
            launch["step"], ", ".join(launch["changed"])
        ", ".join(found.get("changed", ()))
        return found
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: evaluate again, or remove it.") from error


def _stored(path: epath.Path) -> list[dict[str, Any]] | None:
    """The evaluations that a file has, none where it is not there; `None` where it cannot be read."""
    if not is_there(path):
        return []
    try:
        stored = json.loads(read_regular(path))["checkpoints"]
        return [entry for entry in stored if _repeats(entry, entry)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _repeats(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether an evaluation has all that another has, of one state, by as many samples and the same features."""

    def of(entry: Mapping[str, Any]) -> list[Any]:
        return [
            entry.get(name) for name in ("step", "checkpoint", "standing_statistics", "evaluation_samples")
        ]

    def has(entry: Mapping[str, Any]) -> set[tuple[str, ...]]:
        numbers = {(kind, name) for kind, by_name in entry["samples"].items() for name in dict(by_name)}
        marks = {(name, str(dict(mark).get("key"))) for name, mark in entry.get("fingerprints", {}).items()}
        return numbers | marks | ({("intervals",)} if "intervals" in entry else set())

    return of(new) == of(old) and has(new) >= has(old)
