"""A work directory that is moved while a save is under way, and what of a round is recorded after it."""

import shutil

import jax
import numpy as np
import pytest

from gan_jax.runs import checkpoint, loop
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.config import read_config
from gan_jax.runs.workdir import Workdir, WorkdirError, WorkdirMovedError
from tests.runs.test_loop import experiment, lines_of, quiet


def leaves(workdir):
    """The players of the newest state, leaf by leaf."""
    with Checkpoints(workdir.checkpoints) as checkpoints:
        step = checkpoints.steps()[-1]
        names = [name for name in checkpoints.manifest(step)["leaves"] if name.startswith("players.")]
        return checkpoints.read(names, step)[2]


def files_of(folder):
    """The bytes of every file but the lock, which names its last holder."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def moving(monkeypatch, step, action):
    """Calls `action` once the shards of a save of this step are written, before its manifest."""
    real, done = checkpoint.hash_files, []

    def hashed(path):
        found = real(path)
        if path.name == str(step) and not done:
            done.append(None)
            action()
        return found

    monkeypatch.setattr(checkpoint, "hash_files", hashed)


def test_no_run_begins_or_goes_on_beside_what_is_no_checkpoint(tmp_path):
    """It would have to take the place of one of the run's rounds, after the time that these take."""
    theirs = tmp_path / "checkpoints" / "7" / "weights.bin"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    with pytest.raises(CheckpointError, match="checkpoints/7 is there and is no checkpoint: move it"):
        loop.train(experiment(), Workdir(tmp_path), config={}, log=quiet)
    theirs.parent.rename(tmp_path / "theirs")
    loop.train(experiment(), Workdir(tmp_path), config={}, log=quiet)
    (tmp_path / "theirs").rename(theirs.parent)
    with pytest.raises(CheckpointError, match="checkpoints/7 is there and is no checkpoint: move it"):
        loop.train(experiment(), Workdir(tmp_path), config={}, log=quiet)
    assert theirs.read_text() == "theirs"


def test_a_directory_that_is_moved_during_a_save_is_not_made_again(tmp_path, monkeypatch):
    """Files of a save are written by their paths, which makes these again; a state would be taken for a run."""
    was, now = tmp_path / "was", tmp_path / "now"
    whole = Workdir(tmp_path / "whole")
    loop.train(experiment(), whole, config={}, log=quiet)

    def moved():
        was.rename(now)
        shutil.copytree(now / "checkpoints" / "10", was / "checkpoints" / "10")

    moving(monkeypatch, 10, moved)
    saved = rf"was was moved to {now} while .* Round \d+ is saved there"
    with pytest.raises(WorkdirMovedError, match=saved):
        loop.train(experiment(), Workdir(was), config={}, log=quiet)
    assert not was.exists()
    loop.train(experiment(), Workdir(now), config={}, log=quiet)
    jax.tree.map(np.testing.assert_array_equal, leaves(Workdir(now)), leaves(whole))
    assert lines_of(Workdir(now)) == lines_of(whole)


def test_a_save_under_way_leaves_another_run_alone_that_is_put_in_its_place(tmp_path, monkeypatch):
    """It neither replaces a step of that run nor deletes those that it would keep no longer itself."""
    was, now, other = tmp_path / "was", tmp_path / "now", tmp_path / "other"
    loop.train(experiment(checkpoint_every=5, keep=9, seed=4), Workdir(other), config={"seed": 4}, log=quiet)
    before = files_of(other)

    def exchanged():
        was.rename(now)
        other.rename(was)

    moving(monkeypatch, 10, exchanged)
    with pytest.raises(WorkdirMovedError, match="is saved there"):
        loop.train(experiment(keep=1), Workdir(was), config={}, log=quiet)
    assert files_of(was) == before


@pytest.mark.parametrize("log_every", [3, 4])
def test_the_means_go_on_from_a_checkpoint_after_which_none_could_be_saved(tmp_path, monkeypatch, log_every):
    """That its picture is drawn is recorded beside the next save: with the sums of its own round."""
    fields = {"checkpoint_every": 5, "sample_every": 5, "log_every": log_every, "rounds_per_dispatch": 2}
    whole, cut = Workdir(tmp_path / "whole"), Workdir(tmp_path / "cut")
    loop.train(experiment(**fields), whole, config={}, log=quiet)
    real = Checkpoints.save

    def full(self, step, *arguments, **named):
        if step == 10:
            raise CheckpointError("the disk is full")
        return real(self, step, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", full)
        with pytest.raises(CheckpointError, match="full"):
            loop.train(experiment(**fields), cut, config={}, log=quiet)
    loop.train(experiment(**fields), cut, config={}, log=quiet)
    assert lines_of(cut) == lines_of(whole)


def test_checkpoints_without_a_record_of_their_run_are_not_gone_on_with(tmp_path):
    """Nothing says that they are of this configuration: another seed went on from them without a word."""
    workdir, said = Workdir(tmp_path / "run"), []
    loop.train(experiment(rounds=10), workdir, config={"seed": 3}, log=quiet)
    workdir.config.unlink()
    before = files_of(tmp_path)
    with pytest.raises(WorkdirError, match=r"checkpoints and no config\.json"):
        loop.train(experiment(), workdir, config={"seed": 4}, log=quiet)
    assert files_of(tmp_path) == before
    loop.train(experiment(), workdir, config={"seed": 4}, override=True, log=said.append)
    assert read_config(workdir).launches[-1].overridden
    assert any("Resuming" in line for line in said)
