"""A limit to how long data are waited for, so that a hung disk or network ends a run with a message."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable
from typing import Any

from gan_jax.data.errors import DataTimeoutError
from gan_jax.data.source import Source


def within(source: Source, seconds: float) -> Source:
    """`source`, whose reading fails where it takes longer than `seconds`.

    What hangs is left behind in a thread that does not hold up the process's end.

    >>> from gan_jax.data.toy import from_toy, ring
    >>> within(from_toy(ring(), batch_size=4), seconds=10).host_batches(3, 2).tolist()
    [3, 4]
    """

    def limited(read: Callable[..., Any]) -> Callable[..., Any]:
        def call(*place: Any) -> Any:
            answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

            def work() -> None:
                try:
                    answer.put((True, read(*place)))
                except BaseException as error:
                    answer.put((False, error))

            threading.Thread(target=work, name="gan_jax-feed", daemon=True).start()
            try:
                fine, value = answer.get(timeout=seconds)
            except queue.Empty:
                asked = f"batches {place[0]} to {place[0] + place[1] - 1}" if place else "a few examples"
                raise DataTimeoutError(
                    f"The data source gave nothing for {seconds:g} s (the experiment's data_timeout) when asked "
                    f"for {asked}: see whether its disk or network answers."
                ) from None
            if not fine:
                raise value
            return value

        return call

    parts, epochs, fingerprint = source.host_batch_shards, source.epoch_batches, source.fingerprint
    return dataclasses.replace(
        source,
        host_batches=limited(source.host_batches),
        host_batch_shards=None if parts is None else limited(parts),
        epoch_batches=None if epochs is None else limited(epochs),
        fingerprint=None if fingerprint is None else limited(fingerprint),
    )
