"""What a run leaves to look at: scalars, pictures, and the progress on the terminal.

Scalars go to `metrics.jsonl` and to TensorBoard, pictures to `samples/*.png` and to TensorBoard. All of it is
written on one background thread, which also waits for the device; training only queues.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import math
import os
import re
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

import jax
import numpy as np
from etils import epath

from gan_jax.pictures.grids import Picture, to_png
from gan_jax.runs.workdir import Workdir, is_local, reason, truncate_metrics, write_atomically

_QUEUE = 64
_FLUSH_EVENTS_SECONDS = 30.0
_RESERVED = ("step", "time")


class WriterError(RuntimeError):
    """Something could not be written; the message is one line for the user."""


# ---------------------------------------------------------------------------------------------------------
# JSON lines


def json_line(step: int, seconds: float, metrics: Mapping[str, Any]) -> str:
    """One line of `metrics.jsonl`: `step`, `time` (seconds since 1970), then the metrics by name.

    Numbers are as short as gives their own precision back; what is not finite is a string, `"NaN"`, `"Infinity"`
    or `"-Infinity"`, because JSON has no such numbers. Vectors are lists.

    >>> json_line(7, 12.5, {"critic/loss": np.float32(0.1), "norms": [1.0, float("inf")]})
    '{"step": 7, "time": 12.5, "critic/loss": 0.1, "norms": [1.0, "Infinity"]}'

    Raises:
      ValueError: if a metric is called `step` or `time`.
    """
    if taken := [name for name in _RESERVED if name in metrics]:
        raise ValueError(f"A metric cannot be called {taken[0]!r}: every line has one of its own.")
    record = {"step": int(step), "time": round(seconds, 3)}
    return json.dumps(
        record | {name: _json_value(metrics[name]) for name in sorted(metrics)}, allow_nan=False
    )


def _json_value(value: Any) -> Any:
    if isinstance(value, str | bool):
        return value
    array = np.asarray(value)
    if array.ndim:
        return [_json_value(item) for item in array]
    if not np.issubdtype(array.dtype, np.inexact) and array.dtype.kind in "biu":
        return array.item()
    number = float(array)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")
    return number if array.dtype == np.float64 else float(str(array))


def is_histogram(name: str, array: np.ndarray) -> bool:
    """Whether a metric is a histogram: called so, `[2, K + 1]`, upper edges over shares."""
    return name.endswith("_histogram") and array.ndim == 2 and array.shape[0] == 2


class _Appended:
    """A file that records are appended to: whole, or not at all."""

    def __init__(self, path: epath.Path):
        self._path = path
        self._local = is_local(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._local:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o666)
        else:  # object stores do not append: the file is written anew at every flush
            self._content = path.read_bytes() if path.exists() else b""
            self._written = len(self._content)

    def append(self, record: bytes) -> None:
        if not self._local:
            self._content += record
            return
        before = os.fstat(self._descriptor).st_size
        try:
            left = memoryview(record)
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            os.ftruncate(self._descriptor, before)
            raise

    def flush(self) -> None:
        if not self._local and self._written < len(self._content):
            self._path.write_bytes(self._content)
            self._written = len(self._content)

    def close(self) -> None:
        self.flush()
        if self._local:
            os.close(self._descriptor)


# ---------------------------------------------------------------------------------------------------------
# TensorBoard


class _Events:
    """One TensorBoard event file, in tensorboardX's protocol buffers and framing.

    Its `SummaryWriter` is not used: it queues through a pipe of its own, which its flush does not wait for.
    """

    def __init__(self, workdir: Workdir, purge_step: int):
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.record_writer import masked_crc32c

        self._event, self._summary, self._checksum = event_pb2.Event, summary_pb2.Summary, masked_crc32c
        self._summary_histogram = summary_pb2.HistogramProto
        # The process id tells two launches within one second apart.
        name = f"events.out.tfevents.{int(time.time())}.{os.getpid()}.gan_jax"
        self._file = _Appended(workdir.events / name)
        self._flushed = time.monotonic()
        self._write(step=purge_step, file_version="brain.Event:2")
        started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=purge_step, session_log=started)  # hides the rounds that a resumed run plays again

    def scalars(self, step: int, seconds: float, metrics: Mapping[str, Any]) -> None:
        values = []
        for name, value in metrics.items():
            array = np.asarray(value)
            if array.dtype.kind not in "biuf" and not np.issubdtype(array.dtype, np.inexact):
                continue
            if is_histogram(name, array):
                values.append(self._summary.Value(tag=name, histo=self._histogram(array)))
                continue
            for index, number in np.ndenumerate(array):
                tag = "/".join([name, *map(str, index)])
                values.append(self._summary.Value(tag=tag, simple_value=float(number)))
        self._write(step=step, wall_time=seconds, summary=self._summary(value=values))
        if time.monotonic() - self._flushed > _FLUSH_EVENTS_SECONDS:
            self.flush()

    def _histogram(self, array: np.ndarray) -> Any:
        limits, shares = array.astype(np.float64)
        middles = np.concatenate([limits[:1], (limits[1:] + limits[:-1]) / 2])
        return self._summary_histogram(
            min=limits[0],
            max=limits[-1],
            num=shares.sum(),
            sum=shares @ middles,
            sum_squares=shares @ middles**2,
            bucket_limit=limits.tolist(),
            bucket=shares.tolist(),
        )

    def picture(self, step: int, seconds: float, name: str, picture: Picture, png: bytes) -> None:
        height, width, channels = picture.shape
        image = self._summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png)
        self._write(
            step=step,
            wall_time=seconds,
            summary=self._summary(value=[self._summary.Value(tag=name, image=image)]),
        )

    def flush(self) -> None:
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._file.close()

    def _write(self, **fields: Any) -> None:
        data = self._event(**{"wall_time": time.time(), **fields}).SerializeToString()
        length = struct.pack("<Q", len(data))
        checksums = [struct.pack("<I", self._checksum(part)) for part in (length, data)]
        self._file.append(length + checksums[0] + data + checksums[1])


# ---------------------------------------------------------------------------------------------------------
# The writer


class Writer:
    """Writes a run's scalars and pictures into its work directory, off the training thread.

    An error of the background thread is raised by the next call. `flush` before a checkpoint is saved, so that
    the log holds every round that the checkpoint has behind it; `close` (or the `with` block's end) writes what is
    queued.

    Args:
      workdir: the work directory.
      resumed_from: the step that the run goes on from: what `metrics.jsonl` says of later rounds is dropped, and
        TensorBoard is told to. `None` starts the log anew.
      tensorboard: whether event files are written too.
      keep_pictures: how many of the newest files of each name stay in `samples/`; 0 keeps all.
      enabled: `False` makes every call do nothing, for processes other than the first.

    Raises:
      WorkdirError, WriterError: if the work directory cannot be written.
    """

    def __init__(
        self,
        workdir: Workdir,
        *,
        resumed_from: int | None = None,
        tensorboard: bool = True,
        keep_pictures: int = 0,
        enabled: bool = True,
    ):
        self._workdir = workdir
        self._enabled = enabled
        self._error: WriterError | None = None
        self._closed = False
        if not enabled:
            return
        first = -1 if resumed_from is None else resumed_from
        truncate_metrics(workdir, first)
        try:
            self._lines = _Appended(workdir.metrics)
        except OSError as error:
            raise WriterError(f"Cannot write {workdir.metrics}: {reason(error)}.") from error
        self._purge_step = first + 1
        self._tensorboard = tensorboard
        self._keep_pictures = keep_pictures
        self._pictures: dict[str, dict[int, epath.Path]] = {}
        self._opened: _Events | None = None
        self._room = threading.BoundedSemaphore(_QUEUE)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="writer")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # An error under way is the one to tell.
        with contextlib.suppress(*() if kind is None else (WriterError,)):
            self.close()

    def scalars(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Logs one round's metrics: numbers or vectors, on the device or not; they must not be donated later.

        Raises:
          WriterError: if an earlier write failed.
          ValueError: if a metric is called `step` or `time`.
        """
        if taken := [name for name in _RESERVED if name in metrics]:
            raise ValueError(f"A metric cannot be called {taken[0]!r}: every line has one of its own.")
        seconds = time.time()
        self._submit(self._workdir.metrics, lambda: self._write_scalars(step, seconds, dict(metrics)))

    def picture(self, step: int, name: str, picture: Picture | Callable[[], Picture]) -> None:
        """Writes `samples/<name>_<step>.png`.

        Args:
          step: the round.
          name: what it shows: `samples`, `interpolation`.
          picture: uint8 `[H, W, C]`, or a function that makes it, which the background thread calls:
            `lambda: image_grid(images)`.

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

    def _write_scalars(self, step: int, seconds: float, metrics: dict[str, Any]) -> None:
        arrays = {name: value for name, value in metrics.items() if isinstance(value, jax.Array)}
        metrics = metrics | jax.device_get(arrays)
        self._lines.append(json_line(step, seconds, metrics).encode() + b"\n")
        if self._tensorboard:
            self._events().scalars(step, seconds, metrics)

    def _write_picture(
        self, step: int, seconds: float, name: str, picture: Picture | Callable[[], Picture]
    ) -> None:
        drawn = picture() if callable(picture) else picture
        png = to_png(drawn)
        self._workdir.samples.mkdir(parents=True, exist_ok=True)
        path = self._workdir.samples / f"{name}_{step:08d}.png"
        write_atomically(path, png)
        if self._keep_pictures:
            self._prune(name, step, path)
        if self._tensorboard:
            self._events().picture(step, seconds, name, drawn, png)

    def _prune(self, name: str, step: int, path: epath.Path) -> None:
        if (
            name not in self._pictures
        ):  # the directory is read once: a picture must not cost more as they grow
            numbered = re.compile(re.escape(name) + r"_(\d{8,})\.png")
            there = ((numbered.fullmatch(old.name), old) for old in self._workdir.samples.iterdir())
            self._pictures[name] = {int(match[1]): old for match, old in there if match}
        known = self._pictures[name]
        known[step] = path
        while len(known) > self._keep_pictures:
            known.pop(min(known)).unlink(missing_ok=True)

    def _events(self) -> _Events:
        if self._opened is None:
            self._opened = _Events(self._workdir, self._purge_step)
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


# ---------------------------------------------------------------------------------------------------------
# Progress


class Progress(Protocol):
    """How far a run is, shown to whoever watches."""

    def update(self, step: int, losses: Mapping[str, Any] | None = None) -> None:
        """Says that `step` rounds are played; `losses` are by player, on the device or not."""

    def note(self, text: str) -> None:
        """Shows a line of text without spoiling what is there."""

    def close(self) -> None:
        """Ends the display, the last state on it."""


def progress(
    total: int,
    *,
    start: int = 0,
    stream: TextIO | None = None,
    enabled: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """A bar with rate, losses and the time left on a terminal; elsewhere a plain line every so often.

    Args:
      total: the round that the run ends with.
      start: the round that it begins at.
      stream: `sys.stderr` by default.
      enabled: `False` shows nothing, for processes other than the first.
      clock: seconds, for tests.
    """
    stream = sys.stderr if stream is None else stream
    if not enabled or stream is None:
        return _NoProgress()
    return (_Bar if _can_redraw(stream) else _PlainLines)(total, start, stream, clock)


def _can_redraw(stream: TextIO) -> bool:
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    try:
        return (
            os.get_terminal_size(stream.fileno()).columns > 0
        )  # 0 where a recorder stands in for a terminal
    except (OSError, ValueError):
        return False


class _NoProgress:
    def update(self, step: int, losses: Mapping[str, Any] | None = None) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Bar:
    """tqdm's bar, drawn ten times a second at most: the losses are only fetched when they are shown."""

    _SECONDS = 0.1
    _FORMAT = (
        "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
    )

    def __init__(self, total: int, start: int, stream: TextIO, clock: Callable[[], float]):
        from tqdm import tqdm

        class Bar(tqdm):
            monitor_interval = 0  # no thread of tqdm's beside ours

        self._bar = Bar(
            total=total,
            initial=start,
            file=stream,
            dynamic_ncols=True,
            unit=" rounds",
            bar_format=self._FORMAT,
            mininterval=0.0,
            miniters=1,
        )
        self._clock = clock
        self._shown = clock()
        self._last: tuple[int, Mapping[str, Any]] = (start, {})

    def update(self, step: int, losses: Mapping[str, Any] | None = None) -> None:
        self._last = step, self._last[1] if losses is None else losses
        now = self._clock()
        if now - self._shown >= self._SECONDS:
            self._shown = now
            self._draw()

    def note(self, text: str) -> None:
        with _even_if_nobody_reads():
            self._bar.write(text, file=self._bar.fp)

    def close(self) -> None:
        self._draw()
        with _even_if_nobody_reads():
            self._bar.close()

    def _draw(self) -> None:
        step, losses = self._last
        self._bar.set_postfix_str(losses_text(losses), refresh=False)
        with _even_if_nobody_reads():
            if not self._bar.update(step - self._bar.n):
                self._bar.refresh()


class _PlainLines:
    """A line every ten seconds, and less often the longer a run takes: a log of an hour has some sixty."""

    _FIRST, _SHARE, _LONGEST = 10.0, 0.1, 300.0

    def __init__(self, total: int, start: int, stream: TextIO, clock: Callable[[], float]):
        self._total, self._start, self._stream, self._clock = total, start, stream, clock
        self._began = self._shown = clock()
        self._shown_step = start
        self._last: tuple[int, Mapping[str, Any]] = (start, {})
        self._ended = False

    def update(self, step: int, losses: Mapping[str, Any] | None = None) -> None:
        self._last = step, self._last[1] if losses is None else losses
        now = self._clock()
        pause = min(max(self._FIRST, self._SHARE * (now - self._began)), self._LONGEST)
        if now - self._shown >= pause:
            rate = (step - self._shown_step) / (now - self._shown)
            left = duration((self._total - step) / rate) if rate > 0 else "?"
            self._line(f"{rate:.4g} rounds/s, {left} left")
            self._shown, self._shown_step = now, step

    def note(self, text: str) -> None:
        with _even_if_nobody_reads():
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        played = self._last[0] - self._start
        if played and not self._ended:
            seconds = self._clock() - self._began
            rate = f"{played / seconds:.4g} rounds/s, " if seconds > 0 else ""
            self._line(f"{rate}{duration(seconds)} taken")
        self._ended = True

    def _line(self, pace: str) -> None:
        step, losses = self._last
        share = f" ({100 * step // self._total}%)" if self._total else ""
        self.note(", ".join(filter(None, [f"{step}/{self._total} rounds{share}", pace, losses_text(losses)])))


def _even_if_nobody_reads() -> contextlib.AbstractContextManager[None]:
    # A closed pipe or terminal is no reason to end a run.
    return contextlib.suppress(OSError, ValueError)


def losses_text(losses: Mapping[str, Any]) -> str:
    """Players' losses in a few characters.

    >>> losses_text({"critic": 0.69314, "generator": 1.2})
    'critic 0.6931, generator 1.2'
    """
    return ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items())


def duration(seconds: float) -> str:
    """Seconds as minutes or hours.

    >>> duration(75), duration(3 * 3600 + 62)
    ('1:15', '3:01:02')
    """
    whole = int(seconds)
    hours, minutes, seconds_left = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{seconds_left:02d}" if hours else f"{minutes}:{seconds_left:02d}"
