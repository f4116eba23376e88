"""Dispatches: how many rounds fit into one, and when what they read is sent. The programs here play nothing."""

import types

import numpy as np
import pytest

from gan_jax.data.errors import DataError
from gan_jax.data.source import Source
from gan_jax.distributed.transfer import Sent
from gan_jax.runs import rounds as rounds_module
from gan_jax.runs.interrupts import Interrupt
from gan_jax.runs.rounds import Rounds, dispatches
from gan_jax.state import TrainState
from tests.runs.test_loop import experiment

BATCH = np.zeros((8, 4, 4, 3), np.uint8)
ROUND = 2 * BATCH.nbytes


class Events:
    """A layout whose programs note what happens, in order, and a source of images that does too."""

    def __init__(self, ends=None):
        self.log, self.sent = [], []
        self._ends = ends

    def source(self):
        def host_batches(cursor, count):
            self.log.append(("read", cursor, count))
            if self._ends is not None and cursor + count > self._ends:
                raise DataError(f"The stream ended after {self._ends} batches.")
            return {"x": np.stack([BATCH] * count)}

        return Source(host_batches=host_batches, get_batch=lambda _, batch: batch, batch_size=8)

    def layout(self):
        def send(host_batches):
            self.sent.append(host_batches["x"].shape[0])
            return Sent(host_batches)

        def compiled(game, source, *, schedule, diagnostics):
            def run(state, device_data, sent, rounds):
                assert isinstance(sent, Sent)
                self.log.append(("play", rounds))
                return state, {"critic/loss": Fetched(self.log, rounds, sent.batches["x"].shape[0])}

            return run

        return types.SimpleNamespace(
            local_source=lambda source: source,
            place=lambda data: data,
            send=send,
            compile=compiled,
            pick=None,
        )


class Fetched:
    """A metric that notes when the host waits for it."""

    def __init__(self, log, rounds, capacity):
        self._log, self._rounds, self._capacity = log, rounds, capacity

    def __array__(self, dtype=None, copy=None):
        self._log.append(("wait", self._rounds))
        return np.zeros(self._capacity, np.float32)


@pytest.fixture
def played(monkeypatch):
    """Plays 12 rounds of two turns with four rounds' bytes in a dispatch; the lengths of the dispatches."""
    monkeypatch.setattr(rounds_module, "BYTES_PER_DISPATCH", 4 * ROUND + 1)
    monkeypatch.setattr(
        rounds_module.jax, "device_get", lambda tree: {n: np.asarray(v) for n, v in tree.items()}
    )

    def play(events, until=12, most=None):
        asked = experiment(rounds=until, source=events.source(), log_every=100, checkpoint_every=0)
        rounds = Rounds(asked, events.layout())
        begun = rounds.at(TrainState(np.int32(0), np.int32(0), None, {}, {}))
        return [
            played.step - played.start
            for played in dispatches(rounds, begun, until=until, interrupt=Interrupt(), most=most)
        ]

    return play


def test_a_dispatch_reads_so_many_bytes_at_most_and_all_have_one_length(played):
    events = Events()
    lengths = played(events)
    assert sum(lengths) == 12
    assert lengths[0] == 1
    assert max(lengths) == 4
    assert set(events.sent) == {4}, "padded to one length, that of the program"


def test_what_the_next_dispatch_reads_is_sent_before_this_one_is_waited_for(played):
    events = Events()
    lengths = played(events)
    kinds = [kind for kind, *_ in events.log]
    assert kinds == ["read", "play", *["read", "wait", "play"] * (len(lengths) - 1), "wait"]


def test_every_batch_is_read_once_and_in_order(played):
    events = Events()
    played(events)
    read = [(cursor, count) for kind, cursor, *rest in events.log if kind == "read" for count in rest]
    assert [cursor for cursor, _ in read] == list(np.cumsum([0, *(count for _, count in read)])[:-1])
    assert sum(count for _, count in read) == 24


def test_rounds_one_by_one_are_sent_ahead_too(played):
    events = Events()
    assert played(events, until=3, most=1) == [1, 1, 1]
    assert set(events.sent) == {4}


def test_data_that_end_are_refused_when_their_round_comes(played):
    """The rounds before it are played and handed out."""
    events = Events(ends=4)
    with pytest.raises(DataError, match="ended after 4 batches"):
        played(events)
    assert [rounds for kind, rounds, *_ in events.log if kind == "wait"] == [1, 1]
