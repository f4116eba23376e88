"""Folders that cannot be listed (no permission, a server that has gone): what lies in them is not passed over."""

import errno
import os

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import DataError, images, load_dataset
from gan_jax.data.cache import cache_root
from gan_jax.data.image_sets import open_images
from gan_jax.data.parquet import in_parquet


@pytest.fixture
def hidden(monkeypatch):
    """A set of folders; each that is put into it cannot be listed, for root neither."""
    folders, scandir = set(), os.scandir

    def refusing(path="."):
        if not isinstance(path, int) and os.fspath(path) in folders:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return folders


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes."""
    for place in range(3):
        save(tmp_path / "set" / "a" / f"{place}.png", 50 * place)
        save(tmp_path / "set" / "b" / f"{place}.png", 50 * place + 25)
    return tmp_path / "set"


def test_a_class_that_cannot_be_listed_is_named_and_read_once_it_can(folder, hidden, caplog):
    """It was left out without a word: a training had one class less."""
    hidden.add(str(folder / "b"))
    found = load_dataset(str(folder), size=8)
    assert found.classes == ("a",)
    (why,) = (found.skipped[name] for name in ["b"])
    assert why.startswith("cannot be listed: ")
    found.warn(folder)
    assert "b (cannot be listed: " in caplog.text
    hidden.clear()
    found = load_dataset(str(folder), size=8)
    assert (found.classes, len(found.arrays["x"]), found.skipped) == (("a", "b"), 6, {})


def test_a_folder_that_cannot_be_listed_itself_says_so(folder, hidden):
    hidden.add(str(folder))
    with pytest.raises(DataError, match="cannot be listed"):
        images.read_folder(folder, 8)


def test_a_comparison_with_a_part_of_a_folder_is_refused(folder, hidden):
    hidden.add(str(folder / "b"))
    with pytest.raises(
        DataError, match=r"a folder that cannot be listed: .*, b: its images would be missing"
    ):
        open_images(folder)
    found = open_images(folder, damaged="skip")
    assert (found.number, "b (cannot be listed: " in found.note) == (3, True)


def test_parquet_files_in_a_folder_that_cannot_be_listed_are_not_passed_over(tmp_path, hidden):
    pytest.importorskip("pyarrow")
    for name in ("0", "1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.parquet").write_bytes(b"")
    hidden.add(str(tmp_path / "1"))
    with pytest.raises(DataError, match=r"a folder that cannot be listed: .*, 1: its files would be missing"):
        in_parquet(tmp_path)


def test_what_a_file_system_keeps_at_its_top_is_no_data(folder, hidden):
    (folder / "lost+found").mkdir()
    hidden.add(str(folder / "lost+found"))
    assert open_images(folder).number == 6
    assert load_dataset(str(folder), size=8).skipped == {}


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "Stale file handle"), MemoryError()])
def test_a_file_that_could_not_be_read_once_is_read_the_next_time(folder, monkeypatch, error):
    """The set without it was served from the cache until somebody deleted that."""
    opened = Image.open

    def refusing(file, *args, **kwargs):
        if str(file).endswith("b/1.png"):
            raise error
        return opened(file, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", refusing)
        for mapped in (False, True):
            found = images.read_folder(folder, 8, channels=1, memory_map=mapped)
            assert (len(found.arrays["x"]), list(found.skipped)) == (5, ["b/1.png"])
            assert isinstance(found.arrays["x"], np.memmap) == mapped
            assert list(cache_root().iterdir()) == []
    found = images.read_folder(folder, 8, channels=1)
    assert (len(found.arrays["x"]), found.skipped) == (6, {})
    # What is damaged is known from the cache.
    (folder / "b" / "1.png").write_bytes((folder / "b" / "1.png").read_bytes()[:40])
    assert list(images.read_folder(folder, 8, channels=1).skipped) == ["b/1.png"]
    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", refusing)
        again = images.read_folder(folder, 8, channels=1)
    assert again.skipped == {"b/1.png": "not an image"}
