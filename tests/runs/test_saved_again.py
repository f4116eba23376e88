"""A round that is saved again: the state that was there stays until the new one is complete."""

import errno

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.runs import checkpoint
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints

STATE = {"a": jnp.arange(3.0)}


def saved_again(path, value=1.0, **options):
    with Checkpoints(path) as checkpoints:
        checkpoints.save(5, {"a": jnp.full(3, value)}, blocking=True, **options)


def restored(path):
    with Checkpoints(path) as checkpoints:
        return np.asarray(checkpoints.restore(STATE).state["a"]).tolist()


def names(path):
    return sorted(child.name for child in path.iterdir())


def test_a_round_is_replaced(tmp_path):
    saved_again(tmp_path)
    saved_again(tmp_path, 2.0)
    assert restored(tmp_path) == [2.0] * 3
    assert names(tmp_path) == ["5"]


@pytest.mark.parametrize("function", ["new_saver", "hash_files", "write_atomically"])
def test_a_full_disk_leaves_the_state_that_was_there(tmp_path, monkeypatch, function):
    saved_again(tmp_path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, function, full)
        with pytest.raises(CheckpointError, match=r"disk is full.*the last one saved is 5"):
            saved_again(tmp_path, 2.0)
    assert restored(tmp_path) == [1.0] * 3
    assert names(tmp_path) == ["5"]


def test_a_kill_loses_nothing_and_is_named(tmp_path, monkeypatch):
    saved_again(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        aside = checkpoints._steps.set_aside(5)
    assert aside is not None
    with pytest.raises(CheckpointError, match=rf"is in {aside.name}: rename it to 5"):
        restored(tmp_path)
    aside.rename(tmp_path / "5")
    assert restored(tmp_path) == [1.0] * 3
