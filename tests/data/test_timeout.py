"""Data that do not come in time are an error that says so."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from gan_jax.data.errors import DataError, DataTimeoutError
from gan_jax.data.stream import array_reader, from_reader
from gan_jax.data.timeout import within


def source():
    return from_reader(array_reader({"x": np.arange(12.0)[:, None]}), 12, 4, ahead=0)


def test_what_comes_in_time_is_passed_on():
    plain, limited = source(), within(source(), 10.0)
    np.testing.assert_array_equal(limited.host_batches(1, 2)["x"], plain.host_batches(1, 2)["x"])
    np.testing.assert_array_equal(
        limited.host_batch_shards(1, 2, (1,), 2)["x"], plain.host_batches(1, 2)["x"][:, 2:]
    )


def test_what_hangs_is_named_and_left_behind():
    release = threading.Event()
    hung = within(dataclasses.replace(source(), host_batches=lambda cursor, count: release.wait(60)), 0.1)
    began = time.monotonic()
    with pytest.raises(
        DataTimeoutError, match=r"nothing for 0\.1 s \(the experiment's data_timeout\).*batches 7 to 8"
    ):
        hung.host_batches(7, 2)
    assert time.monotonic() - began < 30
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "gan_jax-feed")
    release.set()


def test_an_error_while_reading_is_its_own():
    def broken(indices):
        raise DataError("bad record 3")

    with pytest.raises(DataError, match="bad record 3"):
        within(from_reader(broken, 12, 4, ahead=0), 10.0).host_batches(0, 1)
