"""A hostile work directory: nothing is written, read or deleted through a link in it."""

import errno
import os
import pathlib
import secrets
import warnings

import jax.numpy as jnp
import pytest
from etils import epath

from gan_jax.runs import loop
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.config import read_config
from gan_jax.runs.files import read_regular, write_atomically
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.workdir import Workdir, WorkdirError, refuse_links
from tests.runs.test_loop import experiment, quiet

STATE = {"w": jnp.arange(3.0)}


def saved(directory, *steps, keep=99):
    with Checkpoints(directory, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, STATE)
    return pathlib.Path(directory)


def content(folder):
    return {path: path.read_bytes() for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()}


def test_a_linked_step_is_neither_pruned_nor_read_nor_replaced(tmp_path):
    """`b/checkpoints/5` is `a/checkpoints/5`: whatever is done in b, a keeps its files."""
    theirs, ours = saved(tmp_path / "a", 5), saved(tmp_path / "b", 3)
    (ours / "5").symlink_to(theirs / "5", target_is_directory=True)
    before = content(theirs)
    with Checkpoints(ours, keep=1) as checkpoints:
        checkpoints.save(7, STATE)  # prunes 3
        checkpoints.save(8, STATE)
        checkpoints.wait()
        assert checkpoints.steps() == [5, 8]
        with pytest.raises(CheckpointError, match=r"Checkpoint 5 in .* is a link, and no link is followed"):
            checkpoints.restore(STATE, 5)
        with pytest.raises(CheckpointError, match=r"Checkpoint 5 in .* is a link"):
            checkpoints.save(5, STATE)
        with pytest.raises(CheckpointError, match=r"Checkpoint 5 in .* is a link"):
            checkpoints.discard_after(4)
        checkpoints._steps.remove(5)
    assert (ours / "5").is_symlink()
    assert content(theirs) == before


@pytest.mark.parametrize("part", ["manifest.json", "amendment.json", "state", "state/d"])
def test_a_step_is_not_read_through_a_link_in_it(tmp_path, part):
    theirs, ours = saved(tmp_path / "a", 5), saved(tmp_path / "b", 3, 5)
    there, here = theirs / "5" / part, ours / "5" / part
    if here.exists():
        here.rename(ours / "aside")
    here.symlink_to(there)
    before = content(theirs), content(ours)
    with warnings.catch_warnings(), Checkpoints(ours) as checkpoints:
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match=f"Checkpoint 5 in .* leads elsewhere by {part}"):
            checkpoints.restore(STATE)
    assert (content(theirs), content(ours)) == before


@pytest.mark.full
def test_a_run_with_a_linked_step_stops_before_anything_is_changed(tmp_path):
    loop.train(experiment(rounds=10), Workdir(tmp_path / "a"), config={}, log=quiet)
    loop.train(experiment(rounds=10), Workdir(tmp_path / "b"), config={}, log=quiet)
    (tmp_path / "b" / "checkpoints" / "15").symlink_to(tmp_path / "a" / "checkpoints" / "10")
    before = content(tmp_path)
    with pytest.raises(WorkdirError, match=r"checkpoints/15 is a link, to .*/a/checkpoints/10"):
        loop.train(experiment(rounds=20), Workdir(tmp_path / "b"), config={}, log=quiet)
    assert content(tmp_path) == before


def test_a_trace_is_not_written_through_a_link(tmp_path):
    (tmp_path / "run" / "profile").mkdir(parents=True)
    (tmp_path / "run" / "profile" / "plugins").symlink_to(tmp_path)
    with pytest.raises(WorkdirError, match="profile/plugins is a link"):
        refuse_links(Workdir(tmp_path / "run"))


def test_a_temporary_file_that_was_placed_beforehand_is_not_followed(tmp_path, monkeypatch):
    """Under the name that was used once, under any name, and as a file."""
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    path = epath.Path(tmp_path / "config.json")
    (tmp_path / f".config.json.{os.getpid()}.tmp").symlink_to(victim)
    write_atomically(path, b"ours")
    monkeypatch.setattr(secrets, "token_hex", lambda n: "guessed")
    for place in (lambda link: link.symlink_to(victim), lambda link: link.hardlink_to(victim)):
        link = tmp_path / ".config.json.guessed.tmp"
        place(link)
        with pytest.raises(FileExistsError):
            write_atomically(path, b"again")
        link.unlink()
    assert victim.read_text() == "theirs"
    assert path.read_bytes() == b"ours"


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_what_is_read_is_a_regular_file(tmp_path, name):
    """A link is refused; a pipe that nobody writes to does not make a reader wait."""
    read = {"config.json": read_config, "metrics.jsonl": read_metrics}[name]
    (tmp_path / "elsewhere").write_text("{}")
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkdirError, match=f"Cannot read .*{name}: it is a link"):
        read(Workdir(tmp_path))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(WorkdirError, match=f"Cannot read .*{name}: it is not a regular file"):
        read(Workdir(tmp_path))


@pytest.mark.parametrize("name", ["state/_METADATA", "state/manifest.ocdbt", "state/array_metadatas"])
def test_a_pipe_among_the_files_of_a_step_makes_no_reader_wait(tmp_path, name):
    """Also one that the manifest does not list: what reads the arrays looks for more."""
    ours = saved(tmp_path, 5)
    (ours / "5" / name).unlink(missing_ok=True)
    os.mkfifo(ours / "5" / name)
    with (
        Checkpoints(ours) as checkpoints,
        pytest.raises(
            CheckpointError, match=rf"Checkpoint 5 .* cannot be read \({name}: it is not a regular file\)"
        ),
    ):
        checkpoints.restore(STATE)


def failing(path, code=errno.EIO):
    raise OSError(code, os.strerror(code))


@pytest.mark.parametrize("name", ["manifest.json", "amendment.json"])
def test_a_step_that_cannot_be_read_now_is_neither_passed_over_nor_deleted(tmp_path, monkeypatch, name):
    ours = saved(tmp_path, 3, 5)
    before = content(ours)

    def read(path):
        return failing(path) if str(path).endswith(f"5/{name}") else read_regular(path)

    monkeypatch.setattr("gan_jax.runs.sealing.read_regular", read)
    with Checkpoints(ours, keep=1) as checkpoints:
        for action in (checkpoints.latest_valid, lambda: checkpoints.discard_after(3)):
            with pytest.raises(
                CheckpointError, match=f"Checkpoint 5 .* cannot be read \\({name}: Input/output"
            ):
                action()
        assert content(ours) == before
        checkpoints.save(9, STATE)
    assert {5, 9} == set(Checkpoints(ours).steps())


def test_a_file_of_a_step_that_cannot_be_read_now(tmp_path, monkeypatch):
    ours = saved(tmp_path, 3, 5)
    monkeypatch.setattr("gan_jax.runs.sealing.hash_file", failing)
    with pytest.raises(CheckpointError, match=r"Checkpoint 5 in .* cannot be read .*Nothing was changed"):
        Checkpoints(ours).restore(STATE)


def test_a_directory_that_cannot_be_read_is_not_an_empty_one(tmp_path, monkeypatch):
    """Or a run would begin again in it."""
    ours = saved(tmp_path, 5)
    monkeypatch.setattr(os, "lstat", failing)
    with pytest.raises(CheckpointError, match=r"Cannot read .*Input/output error"):
        Checkpoints(ours).steps()
