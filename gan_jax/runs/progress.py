"""How far a run is, on the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from gan_jax.runs.terminal import clean, tell


class Progress(Protocol):
    """How far a run is, shown on the terminal."""

    def update(self, step: int, losses: Mapping[str, Any] | None = None) -> None:
        """Shows that `step` rounds are played; `losses` are by player, on the device or not."""

    def skip(self, seconds: float) -> None:
        """Leaves out so many seconds, in which no rounds were played, of the rate and the time left."""

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

    The first dispatch compiles its program: every rate, that of the last line too, and with it the time left, is
    that of what comes after it.

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
        # A recorder that stands in for a terminal has 0 columns.
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return False


class _NoProgress:
    def update(self, step: int, losses: Mapping[str, Any] | None = None) -> None:
        pass

    def skip(self, seconds: float) -> None:
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
            monitor_interval = 0  # no thread of tqdm's beside the run's

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
        self._measured: tuple[int, float] | None = None  # since when the rate of all rounds is measured

    def update(self, step: int, losses: Mapping[str, Any] | None = None) -> None:
        self._last = step, self._last[1] if losses is None else losses
        now = self._clock()
        if self._measured is None:
            self._measured = step, now
            self._bar.n = self._bar.initial = self._bar.last_print_n = step
            self._bar.last_print_t = time.time()  # tqdm's clock
        if now - self._shown >= self._SECONDS:
            self._shown = now
            self._draw()

    def skip(self, seconds: float) -> None:
        self._bar.start_t += seconds
        self._bar.last_print_t += seconds
        self._measured = _later(self._measured, seconds)

    def note(self, text: str) -> None:
        with _even_if_nobody_reads():
            self._bar.write(clean(text), file=self._bar.fp)

    def close(self) -> None:
        rate = _rate_since(self._measured, self._last[0], self._clock())
        if rate is not None:
            self._bar.bar_format = self._FORMAT.replace("{rate_noinv_fmt}", f"{rate:5.2f} rounds/s")
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
        self._last: tuple[int, Mapping[str, Any]] = (start, {})
        self._timed: tuple[int, float] | None = None  # since when the next line's rate is measured
        self._measured: tuple[int, float] | None = None  # and since when the last one's
        self._ended = False

    def update(self, step: int, losses: Mapping[str, Any] | None = None) -> None:
        self._last = step, self._last[1] if losses is None else losses
        now = self._clock()
        if self._timed is None:
            self._timed = self._measured = step, now
        pause = min(max(self._FIRST, self._SHARE * (now - self._began)), self._LONGEST)
        if now - self._shown >= pause:
            rounds, seconds = step - self._timed[0], now - self._timed[1]
            if rounds and seconds > 0:
                self._line(
                    f"{rounds / seconds:.4g} rounds/s, {duration((self._total - step) * seconds / rounds)} left"
                )
            else:
                self._line(f"compiled in {duration(now - self._began)}")
            self._shown, self._timed = now, (step, now)

    def skip(self, seconds: float) -> None:
        self._timed, self._measured = _later(self._timed, seconds), _later(self._measured, seconds)

    def note(self, text: str) -> None:
        tell(text, self._stream)

    def close(self) -> None:
        if self._last[0] > self._start and not self._ended:
            now = self._clock()
            rate = _rate_since(self._measured, self._last[0], now)
            text = "" if rate is None else f"{rate:.4g} rounds/s, "
            self._line(f"{text}{duration(now - self._began)} taken")
        self._ended = True

    def _line(self, rate: str) -> None:
        step, losses = self._last
        share = f" ({100 * step // self._total}%)" if self._total else ""
        self.note(", ".join(filter(None, [f"{step}/{self._total} rounds{share}", rate, losses_text(losses)])))


def _later(since: tuple[int, float] | None, seconds: float) -> tuple[int, float] | None:
    return None if since is None else (since[0], since[1] + seconds)


def _rate_since(since: tuple[int, float] | None, step: int, now: float) -> float | None:
    """Rounds a second since a round and its time; `None` where none was played since."""
    if since is None or step <= since[0] or now <= since[1]:
        return None
    return (step - since[0]) / (now - since[1])


def _even_if_nobody_reads() -> contextlib.AbstractContextManager[None]:
    # A closed pipe or terminal is no reason to end a run.
    return contextlib.suppress(OSError, ValueError)


def losses_text(losses: Mapping[str, Any]) -> str:
    """Players' losses as a short text.

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
