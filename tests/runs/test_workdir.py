import os
import pathlib

import pytest
from etils import epath

from gan_jax.runs.config import write_config
from gan_jax.runs.files import reason, write_atomically
from gan_jax.runs.lock import Lock
from gan_jax.runs.workdir import Workdir, WorkdirError, refuse_links


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "run")


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    blocked = Workdir(tmp_path / "file" / "run")
    with pytest.raises(WorkdirError, match="Cannot write"):
        write_config(blocked, {})
    with pytest.raises(WorkdirError, match="Cannot write"):
        Lock(blocked)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = epath.Path(tmp_path / "file")
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as raised:
        write_atomically(path, b"new and longer")
    assert reason(raised.value) == "the disk is full (No space left on device)"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_files_obey_the_umask(workdir):
    before = os.umask(0o027)
    try:
        write_config(workdir, {})
        Lock(workdir).release()
    finally:
        os.umask(before)
    assert os.stat(workdir.config).st_mode & 0o777 == 0o640
    assert os.stat(workdir.root / ".lock").st_mode & 0o777 == 0o640
    assert os.stat(workdir.root).st_mode & 0o777 == 0o750


@pytest.mark.parametrize(
    "part", ["samples", "checkpoints", "tensorboard", "profile", "metrics.jsonl", "config.json"]
)
def test_a_part_that_is_a_link_is_refused(workdir, tmp_path, part):
    """To elsewhere, to nothing, or to the same directory; the directory itself may be one."""
    workdir.root.mkdir(parents=True)
    (workdir.root / "here").mkdir()
    (tmp_path / "link").symlink_to(workdir.root, target_is_directory=True)
    refuse_links(workdir)
    refuse_links(Workdir(tmp_path / "link"))
    link = pathlib.Path(workdir.root / part)
    for elsewhere in ("here", tmp_path, "../run-2", "/nowhere"):
        link.symlink_to(elsewhere)
        for path in (workdir, Workdir(tmp_path / "link")):
            with pytest.raises(WorkdirError, match=f"{part} is a link, to {elsewhere}: nothing is followed"):
                refuse_links(path)
        link.unlink()
