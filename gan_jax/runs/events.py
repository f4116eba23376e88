"""TensorBoard's event files, in tensorboardX's protocol buffers and framing."""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from gan_jax.pictures.grids import Picture
from gan_jax.runs.files import Appended, entries, is_link
from gan_jax.runs.workdir import Workdir

_FLUSH_SECONDS = 30.0
FILE_BYTES, ALL_BYTES = 32 << 20, 256 << 20
"""A full event file is followed by another; the oldest go as soon as all of a run hold more."""


_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.\d+(\.\d+)?\.gan_jax")


def is_histogram(name: str, array: np.ndarray) -> bool:
    """Whether a metric is a histogram: called so, `[2, K + 1]`, upper edges over shares."""
    return name.endswith("_histogram") and array.ndim == 2 and array.shape[0] == 2


class Events:
    """An event file.

    tensorboardX's `SummaryWriter` is not used: it queues through a pipe, which its flush does not wait for.
    """

    def __init__(self, workdir: Workdir, purge_step: int):
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.record_writer import masked_crc32c

        self._event, self._summary, self._checksum = event_pb2.Event, summary_pb2.Summary, masked_crc32c
        self._summary_histogram = summary_pb2.HistogramProto
        self._folder, self._files = workdir.events, 0
        self._open(purge_step)
        started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=purge_step, session_log=started)  # hides the rounds that a resumed run plays again

    def _open(self, step: int) -> None:
        # TensorBoard reads files in the order of their names, and this one hides a part of those before it: it is
        # the last also where the clock has gone back. The process id distinguishes two launches within one second.
        earlier = [int(match[1]) for path in entries(self._folder) if (match := _NAME.fullmatch(path.name))]
        seconds = max([int(time.time()), *(second + 1 for second in earlier)])
        name = f"events.out.tfevents.{seconds}.{os.getpid()}.{self._files:04d}.gan_jax"
        self._file, self._size = Appended(self._folder / name), 0
        self._files += 1
        self._flushed = time.monotonic()
        self._write(step=step, file_version="brain.Event:2")
        self._bound(name)

    def _bound(self, newest: str) -> None:
        """Deletes the oldest event files of this project while there are more bytes than are kept."""
        sizes = {
            path: path.stat().length
            for path in sorted(entries(self._folder), key=lambda path: path.name)
            if _NAME.fullmatch(path.name) and path.name != newest and not is_link(path)
        }
        for path in list(sizes):
            if sum(sizes.values()) <= ALL_BYTES - FILE_BYTES:
                return
            path.unlink(missing_ok=True)
            del sizes[path]

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
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
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
        self._size += len(data) + 16
        if self._size >= FILE_BYTES:
            self._file.close()
            self._open(fields.get("step", 0))
