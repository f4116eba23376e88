"""Checkpoints: a pytree of arrays and a little host data at a round, saved completely or not at all.

    <directory>/500/state/...         the arrays, by orbax (every process writes its shards)
    <directory>/500/payload/0         bytes of the host (a data iterator's state), where there are any
    <directory>/500/manifest.json     written last: metadata, leaves, and the sha256 of every other file
    <directory>/500/amendment.json    what was due when the state was saved and has been done since, if anything was

A step counts once its manifest is there and everything it lists is as it says. A save that was cut, by a kill or a
full disk, leaves a directory without a manifest, which nobody restores and the next save clears away.

orbax's cost is by the array, so those up to 1 MiB go into one of bytes, `packed`; the manifest says where in it
each leaf begins (`at`). Larger ones, and small ones split over hosts, are arrays under `large`.
"""

from __future__ import annotations

import concurrent.futures
import logging
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.sharding import Sharding

from gan_jax.runs.across_processes import from_process_0, gather_bytes
from gan_jax.runs.files import is_there, reason, root_reason, write_atomically
from gan_jax.runs.leaves import describe, load, load_arrays, new_saver, orbax, shown, targets, to_save
from gan_jax.runs.retention import ranked
from gan_jax.runs.sealing import (
    FORMAT,
    MANIFEST,
    ProtectedError,
    hash_files,
    seal,
    write_amendment,
)
from gan_jax.runs.steps import CheckpointError, CheckpointWarning, StepDirectory
from gan_jax.runs.strict_json import to_json
from gan_jax.training.experiment import Best
from gan_jax.types import Tree

_NAMED_IN_ERRORS = 3


class Restored(NamedTuple):
    """What `Checkpoints.restore` hands back.

    Attributes:
      step: the round it was saved at.
      state: the pytree, in the target's structure and on its devices.
      metadata: the JSON values given to `save`.
      payload: the bytes this process gave to `save`, `None` if none were given.
      due: what was due at this step and had not been done when the process ended, by name.
      digest: see `Checkpoints.digest`.
    """

    step: int
    state: Tree
    metadata: dict[str, Any]
    payload: bytes | None
    due: tuple[str, ...]
    digest: str


class Checkpoints:
    """The checkpoints of one directory.

    Saves run in the background; `wait` or `close` (or the `with` block's end) before the process ends, or the last
    one is lost. Every process calls `save` and `restore` alike; process 0 alone writes manifests and deletes.

    Args:
      directory: made at the first save. A `gs://` path works as well.
      keep: how many of the latest steps are kept; the newest always is.
      best: which to keep beside those.
      check_place: raises where the directory is no longer that of the run: then no step is made to count there, and
        none is deleted.

    Raises:
      ValueError: if `keep`, or `best.keep`, is below 1.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        *,
        keep: int = 3,
        best: Best | None = None,
        check_place: Callable[[], None] = lambda: None,
    ):
        if keep < 1 or (best is not None and best.keep < 1):
            raise ValueError(f"At least one checkpoint is kept, got keep={keep} and best={best}.")
        self._steps = StepDirectory(directory)
        self.directory = self._steps.directory
        self._keep = keep
        self._best = best
        self._check_place = check_place
        self._saver: Any = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: list[tuple[int, concurrent.futures.Future[None]]] = []
        self._current: int | None = None
        self._aside: epath.Path | None = None
        self._complaint: str | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:  # the error that is being raised is the one to report
            _quietly(self.close)

    def save(
        self,
        step: int,
        state: Tree,
        *,
        metadata: Mapping[str, Any] | None = None,
        payload: bytes | None = None,
        due: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        blocking: bool = False,
    ) -> bool:
        """Saves `state` at `step`, returning as soon as the arrays may be changed or donated.

        An earlier save is waited for first. A step that this object has just saved or restored is already there and
        not written again; what an older branch of the run left at this step is replaced.

        Args:
          step: the round.
          state: a pytree of JAX arrays (typed keys too) and numpy arrays.
          metadata: values that JSON holds; by `steps.MEASURED_BY` how the metrics were measured.
          payload: this process's bytes, a data iterator's state; all processes give some, or none.
          due: what is due at this step and not done yet, by name; see `amend`.
          metrics: numbers by which the best checkpoints are chosen.
          blocking: return only once the checkpoint counts.

        Returns:
          Whether something was written.

        Raises:
          CheckpointError: if this save, or an earlier one in the background, failed; no older one is harmed.
          TypeError: if a leaf is no array, or `metadata` no JSON.
        """
        self.wait()
        if step == self._current:
            return False
        arrays, leaves = to_save(state)
        manifest = {
            "format": FORMAT,
            "id": secrets.token_hex(8),
            "step": int(step),
            "metadata": to_json(metadata or {}, "metadata"),
            "metrics": to_json(metrics or {}, "metrics"),
            "due": list(due),
            "leaves": leaves,
        }
        payloads = gather_bytes(payload)
        try:
            if jax.process_index() == 0:
                self._check_place()
                self._steps.refuse_protected(step)
                self._aside = self._steps.set_aside(step)
                self._steps.path(step).mkdir(parents=True, exist_ok=True)
            self._saver = self._saver or new_saver()
            self._saver.save(self._steps.path(step) / "state", args=orbax().args.PyTreeSave(arrays))
        except CheckpointError:
            raise
        except Exception as error:
            raise self._failed(step, error) from error
        self._pending.append((step, self._thread.submit(self._finish, step, manifest, payloads)))
        if blocking:
            self.wait()
        return True

    def amend(
        self,
        step: int,
        *,
        due: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Completes a saved step, in the background and once it counts: some of what was due has been done.

        Args:
          step: the round.
          due: what is still due.
          metrics: numbers by which the best checkpoints are chosen, if the step was saved without; those of an
            earlier call stay.
          metadata: values that replace some of those given to `save`, or to an earlier call.

        Raises:
          TypeError: if `metrics` or `metadata` is no JSON.
        """
        content = {
            "due": list(due),
            "metrics": to_json(metrics or {}, "metrics"),
            "metadata": to_json(metadata or {}, "metadata"),
        }
        self._pending.append((step, self._thread.submit(self._amend, step, content)))

    def wait(self) -> None:
        """Returns once no save is under way.

        Raises:
          CheckpointError: if the save failed.

        Warns:
          CheckpointWarning: if what need not be kept could not be deleted.
        """
        while self._pending:
            step, future = self._pending.pop(0)
            try:
                future.result()
            except CheckpointError:
                raise
            except Exception as error:
                # What was to complete it is not to make it count.
                self._pending = [pending for pending in self._pending if pending[0] != step]
                raise self._failed(step, error) from error
            self._current = step
        complaint, self._complaint = self._complaint, None
        if complaint is not None:
            warnings.warn(complaint, CheckpointWarning, stacklevel=2)

    def close(self) -> None:
        """Waits for the save under way and ends the threads.

        Raises:
          CheckpointError: if the save failed.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            if self._saver is not None:
                self._saver.close()
                self._saver = None

    def steps(self) -> list[int]:
        """The steps whose manifest is there, ascending; whether they are undamaged is not checked."""
        return self._steps.saved()

    def latest_valid(self) -> int | None:
        """The newest step that is undamaged, every file's hash checked; `None` if there is none.

        Raises:
          CheckpointError: if a newer one is not to be touched (`sealing.ProtectedError`).

        Warns:
          CheckpointWarning: naming each newer one passed over, and why.
        """
        return next(self._steps.valid(), None)

    def best(self) -> int | None:
        """The best step by `Best`'s metric as the latest was measured, `None` if there is none."""
        if self._best is None:
            return None
        steps = ranked(self._steps.evaluated(), self._best)
        return steps[0] if steps else None

    def manifest(self, step: int) -> dict[str, Any]:
        """What a step says of itself: `metadata`, `metrics`, `due`, `leaves` (shape and dtype by name) and `files`.

        Raises:
          CheckpointError: if the step is not there or its manifest is damaged.
        """
        return self._steps.manifest(step)

    def digest(self, step: int) -> str:
        """What identifies a saved state: two of the same step that were saved at different times differ in it.

        Raises:
          CheckpointError: as `manifest`.
        """
        digest: str = self.manifest(step)["sha256"]
        return digest

    def restore(self, target: Tree, step: int | None = None, shardings: Tree | None = None) -> Restored:
        """Restores the newest undamaged step, or the one asked for, bit for bit.

        Args:
          target: the state's structure: arrays, or `jax.ShapeDtypeStruct`s. A leaf goes where its `sharding` says.
          step: a certain step; then a damaged one is an error, and no other is taken for it.
          shardings: a sharding, or a tree prefix of them, in place of the target's.

        Raises:
          CheckpointError: if there is none, none is valid, the newest is not to be touched, or
            it does not fit `target` (leaves are named).

        Warns:
          CheckpointWarning: naming each damaged checkpoint passed over, and why.
        """
        self.wait()
        wanted = targets(target, shardings)
        while True:
            chosen = from_process_0(lambda: self._choose(step))
            if chosen is None:
                raise CheckpointError(self._why_none())
            try:
                manifest, leaves, payload = self._read(chosen, wanted)
            except CheckpointError:
                # A run that trains here meanwhile may have deleted it since: then there is a newer one.
                if step is None and chosen not in self.steps() and jax.process_count() == 1:
                    continue
                raise
            self._current = chosen
            state = jax.tree.unflatten(jax.tree.structure(target), leaves)
            due, digest = tuple(manifest["due"]), manifest["sha256"]
            return Restored(chosen, state, manifest["metadata"], payload, due, digest)

    def check_fits(self, state: Tree) -> None:
        """Checks that the newest step with an undamaged manifest, if there is one, is of a state's structure.

        Raises:
          CheckpointError: if it is of another (leaves are named), or is not to be touched.
        """
        self.wait()
        for step in reversed(self.steps()):
            self._steps.refuse_protected(step)
            try:
                leaves = self.manifest(step)["leaves"]
            except CheckpointError:  # a damaged one, which the save clears away
                continue
            self._check_fits(step, leaves, targets(state, None))
            return

    def read(self, names: Sequence[str], step: int | None = None) -> tuple[int, str, dict[str, np.ndarray]]:
        """Some leaves of the newest undamaged step, or of the one asked for, without the state's structure.

        Args:
          names: the leaves' names in the manifest.
          step: a certain step.

        Returns:
          The step, its digest, and the arrays by name; of typed keys their data.

        Raises:
          CheckpointError: as `restore`.

        Warns:
          CheckpointWarning: as `restore`.
        """
        self.wait()
        while True:
            chosen = self._choose(step)
            if chosen is None:
                raise CheckpointError(self._why_none())
            try:
                manifest = self.manifest(chosen)
                leaves = manifest["leaves"]
                if missing := [name for name in names if name not in leaves]:
                    raise CheckpointError(
                        f"Checkpoint {chosen} in {self.directory} lacks {', '.join(missing[:_NAMED_IN_ERRORS])}."
                    )
                arrays = self._arrays(chosen, {name: leaves[name] for name in names})
            except CheckpointError:
                # As in `restore`.
                if step is None and chosen not in self.steps():
                    continue
                raise
            return chosen, manifest["sha256"], arrays

    def _arrays(self, step: int, leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
        try:
            return load_arrays(self._steps.path(step) / "state", leaves)
        except Exception as error:
            raise CheckpointError(self._why_unreadable(step, error)) from error

    def discard_after(self, step: int) -> list[int]:
        """Deletes the steps after `step`, which a run that goes on from `step` will not pass through again.

        Returns:
          The steps deleted.

        Raises:
          CheckpointError: if one cannot be deleted, or is not to be touched: then none is.
        """
        return self._steps.discard_after(step)

    # What follows runs on the background thread, but for the few that both use.

    def _finish(self, step: int, manifest: dict[str, Any], payloads: tuple[bytes, ...]) -> None:
        # orbax's barriers have waited for every process's shards; what is left is process 0's.
        self._saver.wait_until_finished()
        if jax.process_index() != 0:
            return
        path = self._steps.path(step)
        for index, payload in enumerate(payloads):
            (path / "payload").mkdir(parents=True, exist_ok=True)
            write_atomically(path / "payload" / str(index), payload)
        content = seal({**manifest, "files": hash_files(path)})
        self._check_place()  # it may have been moved while its shards were written
        write_atomically(path / MANIFEST, content)
        aside, self._aside = self._aside, None
        if aside is not None:
            aside.rmtree(missing_ok=True)
        self._prune_or_complain(step)

    def _amend(self, step: int, content: dict[str, Any]) -> None:
        path = self._steps.path(step)
        if jax.process_index() != 0 or not is_there(path / MANIFEST):  # its save has failed, and is reported
            return
        self._check_place()
        try:
            write_amendment(path, content)
        except (OSError, ProtectedError) as error:
            raise CheckpointError(
                f"Cannot complete checkpoint {step} in {self.directory}: {reason(error)}."
            ) from error
        self._prune_or_complain(step)

    def _prune_or_complain(self, newest: int) -> None:
        self._check_place()
        try:
            self._steps.prune(newest, self._keep, self._best)
        except OSError as error:  # the checkpoint counts all the same
            self._complaint = f"Older checkpoints in {self.directory} could not be deleted: {reason(error)}."

    def _choose(self, step: int | None) -> int | None:
        if step is None:
            return self.latest_valid()
        if step not in self._steps.numbered():
            raise CheckpointError(
                f"There is no checkpoint {step} in {self.directory}: there are {self.steps() or 'none'}."
            )
        self._steps.verify(step)
        return step

    def _read(
        self, step: int, wanted: dict[str, tuple[Any, Sharding | None]]
    ) -> tuple[dict[str, Any], list[Any], bytes | None]:
        manifest = self.manifest(step)
        self._check_fits(step, manifest["leaves"], wanted)
        try:
            leaves = load(self._steps.path(step) / "state", wanted, manifest["leaves"])
            payload = self._payload(step, manifest)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(self._why_unreadable(step, error)) from error
        return manifest, leaves, payload

    def _why_unreadable(self, step: int, error: Exception) -> str:
        if not self._steps.path(step).exists():
            return (
                f"Checkpoint {step} in {self.directory} was deleted while it was being read: a run in training "
                "deletes old ones. Try again."
            )
        return f"Cannot read checkpoint {step} in {self.directory}: {reason(error)}."

    def _why_none(self) -> str:
        there = self._steps.numbered()
        if aside := self._steps.left_aside():
            return (
                f"A save in {self.directory} was cut, and what was there before is in {aside[-1]}: rename it to "
                f"{aside[-1].split('-')[1]} to go on from it."
            )
        if not there:
            return f"There is no checkpoint in {self.directory}: train there first, or correct the path."
        return f"None of the checkpoints {there} in {self.directory} is undamaged: nothing can be restored."

    def _failed(self, step: int, error: Exception) -> CheckpointError:
        if self._saver is not None:
            self._saver, saver = None, self._saver
            _quietly(saver.close)
        if jax.process_index() == 0:
            aside, self._aside = self._aside, None
            _quietly(lambda: self._undo(step, aside))
        try:
            good = self.steps()
            left = f"the last one saved is {good[-1]}" if good else "there is no earlier one"
        except CheckpointError:
            left = "nor can the earlier ones be read"
        return CheckpointError(
            f"Cannot save checkpoint {step} in {self.directory}: {root_reason(error)}; {left}."
        )

    def _undo(self, step: int, aside: epath.Path | None) -> None:
        try:
            self._check_place()
        except Exception:
            self._steps.clear_made_again(step)
            return
        if aside is None:
            self._steps.remove(step)
        else:
            self._steps.put_back(step, aside)

    def _check_fits(self, step: int, there: dict[str, Any], wanted: dict[str, Any]) -> None:
        here = {name: describe(leaf) for name, (leaf, _) in wanted.items()}
        faults = [f"it lacks {name}" for name in here if name not in there]
        faults += [f"it has {name}, which is not expected" for name in there if name not in here]
        faults += [
            f"{name} is {shown(there[name])} there and {shown(here[name])} here"
            for name in here
            if name in there and shown(there[name]) != shown(here[name])
        ]
        if faults:
            more = len(faults) - _NAMED_IN_ERRORS
            raise CheckpointError(
                f"Checkpoint {step} in {self.directory} is of another structure: "
                + "; ".join(faults[:_NAMED_IN_ERRORS])
                + (f"; and {more} more" if more > 0 else "")
                + _why(here, there)
            )

    def _payload(self, step: int, manifest: dict[str, Any]) -> bytes | None:
        count = sum(name.startswith("payload/") for name in manifest["files"])
        if count == 0:
            return None
        if count not in (1, jax.process_count()):
            raise CheckpointError(
                f"Checkpoint {step} in {self.directory} holds {count} processes' data states, and "
                f"{jax.process_count()} are reading: start as many as saved it."
            )
        index = jax.process_index() if count > 1 else 0
        return (self._steps.path(step) / "payload" / str(index)).read_bytes()


def _why(here: Mapping[str, dict[str, Any]], there: Mapping[str, dict[str, Any]]) -> str:
    """What may have made the difference between two structures."""
    narrow = lambda leaves: {  # noqa: E731
        name: (leaf["dtype"].replace("64", "32"), leaf["shape"]) for name, leaf in leaves.items()
    }
    if narrow(here) == narrow(there):
        with_64 = any(
            "64" in leaf["dtype"] for name, leaf in there.items() if leaf["dtype"] != here[name]["dtype"]
        )
        return (
            f". It was saved with{'' if with_64 else 'out'} 64-bit numbers: launch with "
            f"JAX_ENABLE_X64={int(with_64)} to go on."
        )
    return ". Was it saved with another configuration?"


def _quietly(action: Any) -> None:
    try:
        action()
    except Exception as error:  # the failure that led here is the one to report
        logging.getLogger(__name__).debug("While clearing up: %s", error)
