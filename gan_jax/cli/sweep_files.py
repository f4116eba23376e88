"""The directory of a sweep: the record of what is finished, the table, and what the runs have written.

Nothing is written through a link, nor in place of what no sweep of the directory has written.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gan_jax.cli import sweep_report
from gan_jax.cli.errors import UsageError
from gan_jax.cli.sweep_grid import Point
from gan_jax.files import reason, write_atomically
from gan_jax.runs.files import is_link, is_there, read_regular
from gan_jax.runs.strict_json import dumps
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir

MADE = ".made"
"""The ending of a file beside a run: an element of an array job says there for which point it has finished it."""
_WRITTEN = "written"
"""The entry of `sweep.json` with the digests of the files that a sweep has written, by name; no point's name."""


def refuse_links(root: pathlib.Path, points: Sequence[Point]) -> None:
    """Checks that nothing is written through a link in a sweep's directory; a run's directory may be one.

    Raises:
      UsageError: naming the link.
    """
    names = (
        "sweep.json",
        "table.md",
        "sweep.png",
        *(point.name + end for point in points for end in (".log", MADE)),
    )
    for path in (Workdir(root).root / name for name in names):
        if is_link(path):
            raise UsageError(f"{path} is a link, and nothing is written through one: remove it.")


def make(root: pathlib.Path) -> None:
    """Makes the sweep's directory.

    Raises:
      UsageError: if it cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--workdir={root} cannot be written: {reason(error)}.") from error


def adopt(root: pathlib.Path) -> None:
    """Begins the record of a sweep's directory, or goes on with it; another file of its name is renamed.

    Raises:
      UsageError: if it cannot be renamed or written.
    """
    path = _record(root)
    stored = recorded(root)
    if is_there(path) and not all(isinstance(stored[name], list) for name in stored.keys() - {_WRITTEN}):
        stored = {}
    if is_there(path) and not stored:
        aside = path.with_name(f"sweep_unread_{secrets.token_hex(4)}.json")
        try:
            path.rename(aside)
        except OSError as error:
            raise UsageError(f"cannot rename {path}, which is no sweep's record: {reason(error)}.") from error
        tell(f"What stood in {path} is no record of a sweep: it is {aside.name} now.", sys.stderr)
    if _WRITTEN not in stored:
        # Of a sweep that was made before digests were recorded, the files are its own.
        there = [name for name in sweep_report.FILES if stored and (root / name).is_file()]
        write_record(root, {**stored, _WRITTEN: {name: [_digest(root / name)] for name in there}})


def _digest(path: pathlib.Path) -> str:
    """The sha256 of a file.

    Raises:
      UsageError: if it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason(error)}.") from error


def _written(root: pathlib.Path) -> dict[str, list[str]]:
    """The digests of what a sweep of this directory has written, by the files' names."""
    stored = recorded(root).get(_WRITTEN)
    found = stored if isinstance(stored, dict) else {}
    return {name: digests for name, digests in found.items() if isinstance(digests, list)}


def refuse_other(path: pathlib.Path, root: pathlib.Path) -> None:
    """Checks that a file which is to be replaced is as a sweep of this directory has written it.

    Raises:
      UsageError: if it is somebody's own, or was edited since, or cannot be read.
    """
    if path.is_file() and _digest(path) not in _written(root).get(path.name, ()):
        raise UsageError(
            f"{path} is there, not as an earlier sweep has written it: move it, or name another."
        )


def record_written(root: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Records what a sweep is about to write, beside what is there until then.

    Raises:
      UsageError: if it cannot.
    """
    before = _written(root)
    made = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    now = {name: [*before.get(name, [])[-1:], digest] for name, digest in made.items()}
    write_record(root, {**recorded(root), _WRITTEN: {**before, **now}})


def write_report(root: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Writes the table and the plot, in place of those of an earlier sweep.

    Raises:
      UsageError: if one of them is not as that has written it.
      OSError: the file system's own error; an existing file is then as it was.
    """
    for name in files:
        refuse_other(root / name, root)
    record_written(root, files)
    for name, content in files.items():
        write_atomically(root / name, content)
    tell(f"Written to {' and '.join(str(root / name) for name in files)}")


def write_record(root: pathlib.Path, done: Mapping[str, Any]) -> None:
    """Writes which runs are done, and how they were made.

    Raises:
      UsageError: if it cannot.
    """
    try:
        write_atomically(_record(root), (dumps(done, indent=1) + "\n").encode())
    except OSError as error:
        raise UsageError(f"cannot write {_record(root)}: {reason(error)}.") from error


def _record(root: pathlib.Path) -> Any:
    return Workdir(root).root / "sweep.json"


def recorded(root: pathlib.Path) -> dict[str, Any]:
    """What `sweep.json` holds of each point, whatever it is; empty where there is none."""
    try:
        stored = json.loads(read_regular(_record(root)))
    except (OSError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def finished(root: pathlib.Path, points: Sequence[Point]) -> dict[str, list[str]]:
    """The records of those points that were finished with the arguments and the code that they have now."""
    stored = recorded(root)

    def is_made(point: Point) -> bool:
        try:
            return read_regular(Workdir(root).root / f"{point.name}{MADE}").decode().strip() == point.mark
        except (OSError, UnicodeDecodeError):  # by no array job
            return bool(stored.get(point.name) == point.record)

    return {
        point.name: point.record for point in points if is_made(point) and unfinished(root, point) is None
    }


def evaluation_of(root: pathlib.Path, point: Point) -> dict[str, Any] | None:
    """The evaluation of a run's newest checkpoint, if there is one.

    Of several of the same state it is one that was made as the sweep's are: with its `--standing_statistics`, and
    without `--weights` of both kinds of weights, where somebody has evaluated those themselves by themselves.
    """
    flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in point.evaluate)
    try:
        entries = json.loads((root / point.name / "evaluation.json").read_text())["checkpoints"]
        last = entries[-1]
        same = [entry for entry in entries if _of_one_state(entry, last)]
        standing = [
            e for e in same if str(e.get("standing_statistics", "")) == flags.get("standing_statistics", "")
        ]
        if weights := flags.get("weights"):
            fitting = [entry for entry in standing if list(entry.get("samples", ())) == [weights]]
        else:
            kinds = max((len(entry.get("samples", ())) for entry in standing), default=0)
            fitting = [entry for entry in standing if len(entry.get("samples", ())) == kinds]
        return (fitting or [last])[-1]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _of_one_state(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(entry.get(name) == other.get(name) for name in ("step", "checkpoint"))


_EXAMPLES = re.compile(r"(source\.)*(all\.)?x( \(of .*\))?")
"""What `config.json` calls the examples: `all.x` on the device, `x (of 50000 examples)` of a stream, either within
the `source.` of another source; `labelled.x` is a part of them."""


def examples_of(root: pathlib.Path, point: Point) -> str:
    """What identifies the examples that a run was trained on; empty where it has recorded none."""
    try:
        stored = json.loads((root / point.name / "config.json").read_text())["data"]
        return ", ".join(str(value) for name, value in stored.items() if _EXAMPLES.fullmatch(name))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""


def unfinished(root: pathlib.Path, point: Point) -> str | None:
    """Why a run that ended in order is not finished; `None` if it is."""
    evaluation = evaluation_of(root, point)
    if evaluation is None:
        return "there is no evaluation"
    try:
        rounds = json.loads((root / point.name / "config.json").read_text())["config"]["rounds"]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # an experiment without this field
    return None if evaluation["step"] >= rounds else f"it was stopped at round {evaluation['step']}"
