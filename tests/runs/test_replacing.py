"""An export or a page in place of an earlier one: whole at every moment, whatever cuts it."""

import errno
import os

import pytest
from etils import epath

from gan_jax.runs import replacing
from gan_jax.runs.replacing import replace_files

BEFORE = {"a": b"1", "b": b"1", "old": b"1", "last": b"1"}
AFTER = {"last": b"2", "a": b"2", "new": b"2", "b": b"2"}


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    replace_files(epath.Path(tmp_path / "out"), BEFORE, last="last")
    (tmp_path / "out" / "mine").write_bytes(b"mine")
    return tmp_path / "out"


def replace(folder):
    replace_files(epath.Path(folder), AFTER, last="last", stale=["old", "never"])


def test_files_are_replaced_and_others_stay(folder):
    assert files(folder) == {**BEFORE, "mine": b"mine"}
    replace(folder)
    assert files(folder) == {**AFTER, "mine": b"mine"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("function", "at"), [*(("write_atomically", at) for at in range(4)), *(("rename", at) for at in range(8))]
)
def test_what_was_there_stays_where_the_new_cannot_be_written(folder, monkeypatch, error, function, at):
    """Four files are written; then four are moved out, and four in."""
    owner = replacing if function == "write_atomically" else os
    real, calls = getattr(owner, function), iter(range(99))

    def failing(*arguments):
        if next(calls) == at:
            raise error
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, function, failing)
        with pytest.raises(type(error)):
            replace(folder)
    assert files(folder) == {**BEFORE, "mine": b"mine"}


@pytest.mark.parametrize("at", range(8))
def test_a_kill_between_the_renames_loses_no_file_and_leaves_no_description(folder, monkeypatch, at):
    """What a kill leaves: nothing is moved back, and nothing is cleared away."""
    real, calls = os.rename, iter(range(99))

    def dying(*arguments):
        if next(calls) >= at:
            raise SystemExit
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dying)
        patch.setattr(replacing.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            replace(folder)
    found = [path for path in folder.rglob("*") if path.is_file()]
    everything = sorted((path.name, path.read_bytes()) for path in found)
    assert everything == sorted([*BEFORE.items(), *AFTER.items(), ("mine", b"mine")])
    assert (folder / "last").exists() == (at == 0)


def test_what_kills_have_left_goes_when_all_is_written(folder):
    for name in (
        ".new-0123456789abcdef",
        ".earlier-fedcba9876543210",
        ".new-mine",
        ".earlier-0123456789ABCDEF",
    ):
        (folder / name).mkdir()
        (folder / name / "training.u8").write_bytes(b"old")
    (folder / "elsewhere").mkdir()
    (folder / ".new-00000000000000ff").symlink_to(folder / "elsewhere")
    replace(folder)
    hidden = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
    assert hidden == [".earlier-0123456789ABCDEF", ".new-00000000000000ff", ".new-mine"]


def test_the_order_in_which_files_come(folder, monkeypatch):
    """A reader that finds the last file finds all of them, and none of the earlier."""
    moved, real = [], os.rename
    monkeypatch.setattr(os, "rename", lambda a, b: (moved.append(os.path.basename(a)), real(a, b)))
    replace(folder)
    assert moved[0] == "last"
    assert moved[-1] == "last"


def test_a_link_is_replaced_and_not_followed_and_a_folder_is_refused(folder, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"victim")
    (folder / "new").symlink_to(victim)
    (folder / "never").symlink_to(victim)
    replace(folder)
    assert victim.read_bytes() == b"victim"
    assert files(folder) == {**AFTER, "mine": b"mine"}
    (folder / "old").mkdir()
    with pytest.raises(IsADirectoryError):
        replace(folder)
    assert (folder / "old").is_dir()
