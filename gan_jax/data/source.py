"""Source: one shape for data that is drawn, data that lives on the device, and data that streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gan_jax.types import Batch, Tree


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Batches, split into what the host sends and what the device makes of it.

    Attributes:
      host_batches: `(cursor, count) -> tree of numpy arrays [count, ...]`: what crosses to the device for the
        batches `cursor .. cursor + count - 1`. A pure function of its arguments, unless `state` is given.
      get_batch: `(device_data, host_batch) -> batch`: on the device, inside the step, for one batch's share of
        `host_batches`. A function of its arguments only: what depends on the seed lies in them, so that one
        program serves many seeds.
      device_data: a tree that is put on the device once and stays there (uint8 images, labels); `()` if none.
      for_device: `device_data -> device_data`, the same tree in the form that is put on the device, which
        `get_batch` takes as well: images `[N, H, W, C]` as rows `[N, H * W * C]`, since a TPU's memory pads a last
        axis of 3 channels to 128 and a set of images would take four times its size or more.
      batch_size: B of `x`.
      size: how many examples there are, or `None` where they are drawn without end.
      host_batch_shards: `(cursor, count, parts, total) -> tree [count, ...]`: of every batch that `host_batches`
        gives, those of its `total` equal parts whose numbers `parts` has, in order, reading no others; so several
        processes read their own. `None` where the whole batch is no burden.
      epoch_batches: where `host_batches` draws with replacement, the same without it: the first batches that hold
        `size` examples hold each of them once. `None` where `host_batches` is of this kind.
      fingerprint: what identifies data that are not in `device_data`, by name, read cheaply: a run that goes on
        with other data is refused. `None` where there are none, or nothing cheap identifies them.
      state, restore: for streams, the iterator's state as bytes, and how to take it up again.
      in_order: whether batches are read in order only, so that none is read just to see what it is like.
      close: releases workers and files; training does so at its end.
    """

    host_batches: Callable[[int, int], Any]
    get_batch: Callable[[Tree, Tree], Batch]
    device_data: Tree = ()
    for_device: Callable[[Tree], Tree] = lambda device_data: device_data
    batch_size: int
    size: int | None = None
    host_batch_shards: Callable[[int, int, Sequence[int], int], Any] | None = None
    epoch_batches: Callable[[int, int], Any] | None = None
    fingerprint: Callable[[], Mapping[str, str]] | None = None
    state: Callable[[], bytes] | None = None
    restore: Callable[[bytes], None] | None = None
    in_order: bool = False
    close: Callable[[], None] = lambda: None


def parts_of(rows: np.ndarray, parts: Sequence[int], total: int) -> np.ndarray:
    """Of rows in `total` equal parts along the first axis, those numbered `parts`.

    >>> parts_of(np.arange(8), (1, 3), 4).tolist()
    [2, 3, 6, 7]
    """
    pieces = rows.reshape(total, len(rows) // total, *rows.shape[1:])
    return pieces[list(parts)].reshape(-1, *rows.shape[1:])
