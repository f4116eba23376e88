"""The directory of a run's checkpoints: which steps there are, what they say of themselves, and their deletion."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import warnings
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from gan_jax.runs.files import entries, is_link, is_local, is_there, reason
from gan_jax.runs.retention import Evaluated, steps_to_keep
from gan_jax.runs.sealing import MANIFEST, DamagedError, ProtectedError, read_manifest, verify
from gan_jax.training.experiment import Best

MEASURED_BY = "measured_by"
"""The entry of a step's metadata that identifies how its metrics were measured."""


_OF_A_STEP = re.compile(
    r"manifest\.json|amendment\.json|payload|state(\.orbax-checkpoint-tmp.*)?"
    r"|\.(manifest|amendment)\.json\..*"
    r"|\.DS_Store|\._.*|\.nfs.*|@eaDir|Thumbs\.db|desktop\.ini"
)
"""What lies in a step's directory, be its save cut: its files, what is half written or half copied by rsync, and
what file systems add to any."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be saved or restored; the message is one line for the user."""


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was passed over."""


class StepDirectory:
    """The steps in one directory. A step that is not to be touched is never deleted or passed over.

    What has a number for a name and is no step, as `is_other` says, is nobody's here: it is left alone.

    Args:
      directory: which need not be there yet.
    """

    def __init__(self, directory: epath.PathLike):
        path = epath.Path(directory)
        self.directory = epath.Path(os.path.abspath(path)) if is_local(path) else path

    def path(self, step: int) -> epath.Path:
        """The directory of one step."""
        return self.directory / str(int(step))

    def numbered(self) -> list[int]:
        """All steps, those of cut saves too, ascending.

        Raises:
          CheckpointError: if the directory cannot be read: that is not the same as its being empty.
        """
        return [step for step in self._numbers() if not self.is_other(step)]

    def refuse_others(self) -> None:
        """Checks that nothing of somebody else has the name of a step, before one is to be saved there.

        Raises:
          CheckpointError: if there is, as `is_other` says.
        """
        for number in filter(self.is_other, self._numbers()):
            raise self._other(number)

    def is_other(self, step: int) -> bool:
        """Whether what lies where a step would is of somebody else: a folder of their own, another's checkpoint.

        That is a file, or a folder with more in it than a step has, and without a manifest of ours.
        """
        path = self.path(step)
        if is_link(path):  # which is never touched either, and named
            return False
        try:
            names = [child.name for child in path.iterdir()]
        except NotADirectoryError:
            return True
        except OSError:  # it has gone meanwhile, or cannot be read: who reads it says so
            return False
        if all(_OF_A_STEP.fullmatch(name) for name in names):
            return False
        with contextlib.suppress(ProtectedError):
            try:
                read_manifest(path)
            except DamagedError:
                return True
        return False

    def _numbers(self) -> list[int]:
        try:
            names = [path.name for path in entries(self.directory)]
        except OSError as error:
            raise CheckpointError(f"Cannot read {self.directory}: {reason(error)}.") from error
        return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))

    def saved(self) -> list[int]:
        """The steps whose manifest is there, ascending.

        Raises:
          CheckpointError: if that cannot be found out.
        """
        try:
            return [step for step in self.numbered() if is_there(self.path(step) / MANIFEST)]
        except OSError as error:
            raise CheckpointError(f"Cannot read {self.directory}: {reason(error)}.") from error

    def manifest(self, step: int) -> dict[str, Any]:
        """The manifest of a step, see `sealing.read_manifest`.

        Raises:
          CheckpointError: if the step is not there, its manifest is damaged, or it is not to be touched.
        """
        try:
            return read_manifest(self.path(step))
        except DamagedError as damage:
            raise CheckpointError(f"Checkpoint {step} in {self.directory} {damage}.") from None
        except ProtectedError as error:
            raise self._protected(step, error) from None

    def evaluated(self) -> dict[int, Evaluated]:
        """The evaluation of every step that has a readable manifest."""
        found = {}
        for step in self.numbered():
            try:
                manifest = read_manifest(self.path(step))
            except (DamagedError, ProtectedError):
                continue
            measured_by = str(manifest["metadata"].get(MEASURED_BY, ""))
            found[step] = Evaluated(manifest["metrics"], measured_by)
        return found

    def verify(self, step: int) -> None:
        """Checks every file of a step.

        Raises:
          CheckpointError: if it is damaged, or it is not to be touched.
        """
        try:
            verify(self.path(step))
        except DamagedError as damage:
            raise CheckpointError(f"Checkpoint {step} in {self.directory} {damage}.") from None
        except ProtectedError as error:
            raise self._protected(step, error) from None

    def valid(self) -> Iterator[int]:
        """The undamaged steps, the newest first.

        Raises:
          CheckpointError: at a step that is not to be touched.

        Warns:
          CheckpointWarning: naming each damaged one, and why it is passed over.
        """
        for step in reversed(self.numbered()):
            try:
                verify(self.path(step))
            except ProtectedError as error:
                raise self._protected(step, error) from None
            except DamagedError as damage:
                message = f"Checkpoint {step} in {self.directory} is passed over: it {damage}."
                warnings.warn(message, CheckpointWarning, stacklevel=3)
            else:
                yield step

    def refuse_protected(self, step: int) -> None:
        """Checks that a step may be replaced or deleted: see `sealing.ProtectedError`, and `is_other`.

        Raises:
          CheckpointError: if it may not.
        """
        if self.is_other(step):
            raise self._other(step)
        try:
            read_manifest(self.path(step))
        except DamagedError:
            return
        except ProtectedError as error:
            raise self._protected(step, error) from None

    def _other(self, step: int) -> CheckpointError:
        return CheckpointError(
            f"{self.path(step)} is there and is no checkpoint: move it, or choose another directory."
        )

    def _protected(self, step: int, error: ProtectedError) -> CheckpointError:
        return CheckpointError(f"Checkpoint {step} in {self.directory} {error}.")

    def remove(self, step: int) -> None:
        """Deletes a step, if it is there; a link to another is left as it is."""
        path = self.path(step)
        if is_link(path) or not is_there(path):
            return
        (path / MANIFEST).unlink(missing_ok=True)  # first: half a deletion must not look like a checkpoint
        path.rmtree(missing_ok=True)

    def set_aside(self, step: int) -> epath.Path | None:
        """Moves a step out of the way of another save of it; `None` where there is none, or nothing is renamed."""
        path = self.path(step)
        if is_link(path) or not is_there(path):
            return None
        if not is_local(path):
            self.remove(step)
            return None
        aside = self.directory / f".replaced-{int(step)}-{secrets.token_hex(8)}"
        os.rename(path, aside)
        return aside

    def put_back(self, step: int, aside: epath.Path) -> None:
        """Moves a step back that was set aside, in place of what a save that failed has left."""
        self.remove(step)
        os.rename(aside, self.path(step))

    def clear_made_again(self, step: int) -> None:
        """Deletes what a save of this step has made where the work directory was, if nothing else is there.

        The work directory was moved, and the files of a save that was under way are written by their paths.
        """
        root = self.directory.parent
        if not is_local(root) or [path.name for path in root.iterdir()] != [self.directory.name]:
            return
        if self.numbered() == [step] and not is_there(self.path(step) / MANIFEST):
            self.path(step).rmtree()
            self.directory.rmdir()  # these are refused where somebody has written by now
            root.rmdir()

    def left_aside(self) -> list[str]:
        """The names of steps that were set aside for a save that was cut."""
        if not is_local(self.directory) or not is_there(self.directory):
            return []
        return sorted(path.name for path in self.directory.iterdir() if path.name.startswith(".replaced-"))

    def prune(self, newest: int, keep: int, best: Best | None) -> None:
        """Deletes the steps before `newest` that are not to be kept, and what cut saves have left.

        Steps without a readable manifest are those of cut saves: the lock says that nobody is writing them.
        """
        kept = steps_to_keep(self.evaluated(), keep, best)
        for step in self.numbered():
            if step < newest and step not in kept and not self._is_protected(step):
                self.remove(step)

    def _is_protected(self, step: int) -> bool:
        try:
            self.refuse_protected(step)
        except CheckpointError:
            return True
        return False

    def discard_after(self, step: int) -> list[int]:
        """Deletes the steps after `step`; only process 0 does.

        Returns:
          These steps.

        Raises:
          CheckpointError: if one cannot be deleted, or it is not to be touched: then none is.
        """
        later = [other for other in self.numbered() if other > step]
        if jax.process_index() == 0:
            for other in later:
                self.refuse_protected(other)
            try:
                for other in later:
                    self.remove(other)
            except OSError as error:
                raise CheckpointError(
                    f"Cannot delete checkpoints {later} in {self.directory}: {reason(error)}."
                ) from error
        return later
