"""Writes a run's scalars and pictures, on a background thread.

Scalars go to `metrics.jsonl` and to TensorBoard, pictures to `samples/*.png` and to TensorBoard. The thread also
waits for the device; training only queues.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from gan_jax.pictures.grids import Picture, to_png
from gan_jax.runs.events import Events
from gan_jax.runs.files import Appended, reason, write_atomically
from gan_jax.runs.metrics_log import check_names, count_lines, json_line, thin_metrics, truncate_metrics
from gan_jax.runs.trackers import Tracker, numbers_of
from gan_jax.runs.workdir import Workdir

_QUEUE = 64
MOST_LINES = 20_000
"""As soon as `metrics.jsonl` has so many lines, every second of its older half is dropped."""


class WriterError(RuntimeError):
    """Something could not be written; the message is one line for the user."""


class Writer:
    """Writes a run's scalars and pictures into its work directory, off the training thread.

    An error of the background thread is raised by the next call. `flush` before a checkpoint is saved, so that
    the log holds every round that the checkpoint has behind it; `close` (or the `with` block's end) writes what is
    queued.

    Args:
      workdir: the work directory.
      resumed_from: the step that the run goes on from: what `metrics.jsonl` says of later rounds is dropped, and
        TensorBoard hides it. `None` begins a new log.
      resumed_lines: how many lines of the step `resumed_from` stay; all if `None`.
      tensorboard: whether event files are written too.
      keep_pictures: how many of the newest files of each name stay in `samples/`; 0 keeps all.
      check_place: raises where the work directory is no longer at its path: then no file is made there. Open ones
        are where it is now.
      trackers: make the further places where everything is written, when the first is.
      enabled: `False` makes every call do nothing, for processes other than the first.

    Raises:
      WorkdirError, WriterError: if the work directory cannot be written.
    """

    def __init__(
        self,
        workdir: Workdir,
        *,
        resumed_from: int | None = None,
        resumed_lines: int | None = None,
        tensorboard: bool = True,
        keep_pictures: int = 0,
        check_place: Callable[[], None] = lambda: None,
        trackers: Sequence[Callable[[], Tracker]] = (),
        enabled: bool = True,
    ):
        self._workdir = workdir
        self._check_place = check_place
        self._enabled = enabled
        self._error: WriterError | None = None
        self._closed = False
        self._lines_at = resumed_from, resumed_lines or 0
        if not enabled:
            return
        first = -1 if resumed_from is None else resumed_from
        truncate_metrics(workdir, first, resumed_lines)
        self._count = count_lines(workdir)
        try:
            self._lines = Appended(workdir.metrics)
        except OSError as error:
            raise WriterError(f"Cannot write {workdir.metrics}: {reason(error)}.") from error
        self._purge_step = first + 1
        self._tensorboard = tensorboard
        self._make_trackers = trackers
        self._trackers: list[Tracker] | None = None
        self._keep_pictures = keep_pictures
        self._pictures: dict[str, dict[int, epath.Path]] = {}
        self._opened: Events | None = None
        self._room = threading.BoundedSemaphore(_QUEUE)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="writer")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # An error that is already being raised is the one to report.
        with contextlib.suppress(*() if kind is None else (WriterError,)):
            self.close()

    def scalars(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Logs one round's metrics: numbers or vectors, on the device or not; they must not be donated later.

        Raises:
          WriterError: if an earlier write failed.
          ValueError: if a metric is called `step` or `time`.
        """
        check_names(metrics)
        self._lines_at = step, self.lines_at(step) + 1
        seconds = time.time()
        self._submit(self._workdir.metrics, lambda: self._write_scalars(step, seconds, dict(metrics)))

    def machine(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs numbers of the machine, which are others at every launch: not into `metrics.jsonl`.

        Raises:
          WriterError: if an earlier write failed.
        """
        seconds = time.time()
        self._submit(
            self._workdir.events, lambda: self._write_scalars(step, seconds, dict(metrics), lines=False)
        )

    def lines_at(self, step: int) -> int:
        """How many lines of `metrics.jsonl` are of this step, which must be the last that was logged, or later."""
        return self._lines_at[1] if self._lines_at[0] == step else 0

    def picture(self, step: int, name: str, picture: Picture | Callable[[], Picture | None]) -> None:
        """Writes `samples/<name>_<step>.png`.

        Args:
          step: the round.
          name: what it shows: `samples`, `interpolation`.
          picture: uint8 `[H, W, C]`, or a function that makes it, which the background thread calls:
            `lambda: image_grid(images)`. Nothing is written if the function returns `None`.

        Raises:
          WriterError: if an earlier write failed.
          ValueError: if the name has a path separator in it.
        """
        if not name or "/" in name or os.sep in name or name.startswith("."):
            raise ValueError(f"A picture's name is a plain file name, got {name!r}.")
        seconds = time.time()
        self._submit(self._workdir.samples, lambda: self._write_picture(step, seconds, name, picture))

    def flush(self) -> None:
        """Returns once everything logged so far is in its file.

        Raises:
          WriterError: if a write failed.
        """
        if self._enabled and not self._closed:
            self._thread.submit(self._run, self._workdir.root, self._flush).result()
        self._raise()

    def close(self) -> None:
        """Flushes and closes; a second call does nothing.

        Raises:
          WriterError: if a write failed.
        """
        if self._enabled and not self._closed:
            self._closed = True
            self._thread.submit(self._run, self._workdir.root, self._close).result()
            self._thread.shutdown()
        self._raise()

    def _submit(self, path: Any, job: Callable[[], None]) -> None:
        self._raise()
        if not self._enabled:
            return
        if self._closed:
            raise WriterError("This writer is closed.")
        self._room.acquire()

        def bounded() -> None:
            try:
                self._run(path, job)
            finally:
                self._room.release()

        self._thread.submit(bounded)

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # On the background thread.

    def _run(self, path: Any, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            if self._error is None:
                self._error = WriterError(f"Cannot write {path}: {reason(error)}.")
                self._error.__cause__ = error

    def _write_scalars(
        self, step: int, seconds: float, metrics: dict[str, Any], *, lines: bool = True
    ) -> None:
        arrays = {name: value for name, value in metrics.items() if isinstance(value, jax.Array)}
        metrics = metrics | jax.device_get(arrays)
        if lines:
            self._write_line(step, seconds, metrics)
        if self._tensorboard:
            self._events().scalars(step, seconds, metrics)
        for tracker in self._started_trackers():
            tracker.scalars(step, numbers_of(metrics))
            for name, value in metrics.items():
                if isinstance(value, str):
                    tracker.text(name, value)

    def _write_line(self, step: int, seconds: float, metrics: dict[str, Any]) -> None:
        self._lines.append(json_line(step, seconds, metrics).encode() + b"\n")
        self._count += 1
        if self._count >= MOST_LINES:
            self._check_place()
            self._lines.close()
            try:
                self._count = thin_metrics(self._workdir, MOST_LINES // 2)
            finally:
                self._lines = Appended(self._workdir.metrics)

    def _write_picture(
        self, step: int, seconds: float, name: str, picture: Picture | Callable[[], Picture | None]
    ) -> None:
        drawn = picture() if callable(picture) else picture
        if drawn is None:
            return
        png = to_png(drawn)
        self._check_place()
        self._workdir.samples.mkdir(exist_ok=True)  # a work directory that is gone is not made again
        path = self._workdir.samples / f"{name}_{step:08d}.png"
        write_atomically(path, png)
        if self._keep_pictures:
            self._prune(name, step, path)
        if self._tensorboard:
            self._events().picture(step, seconds, name, drawn, png)
        for tracker in self._started_trackers():
            tracker.picture(step, name, png)

    def _prune(self, name: str, step: int, path: epath.Path) -> None:
        if (
            name not in self._pictures
        ):  # the directory is read once: its size must not decide what a picture costs
            numbered = re.compile(re.escape(name) + r"_(\d{8,})\.png")
            there = ((numbered.fullmatch(old.name), old) for old in self._workdir.samples.iterdir())
            self._pictures[name] = {int(match[1]): old for match, old in there if match}
        known = self._pictures[name]
        known[step] = path
        while len(known) > self._keep_pictures:
            known.pop(min(known)).unlink(missing_ok=True)

    def _started_trackers(self) -> list[Tracker]:
        if self._trackers is None:
            self._trackers = [make() for make in self._make_trackers]
        return self._trackers

    def _events(self) -> Events:
        if self._opened is None:
            self._check_place()
            self._opened = Events(self._workdir, self._purge_step)
        return self._opened

    def _flush(self) -> None:
        self._lines.flush()
        if self._opened is not None:
            self._opened.flush()

    def _close(self) -> None:
        try:
            self._lines.close()
        finally:
            if self._opened is not None:
                self._opened.close()
            for tracker in self._trackers or ():
                tracker.close()
