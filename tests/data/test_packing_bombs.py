"""Archives that unpack to far more than they are: refused before anything is unpacked."""

import zipfile

import numpy as np
import pytest

from gan_jax.data import array_files
from gan_jax.data.array_files import list_arrays
from gan_jax.data.arrays import load_npz
from gan_jax.data.errors import DataError
from gan_jax.metrics._files import read_arrays
from gan_jax.metrics.statistics import read_statistics


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """Zeros, a thousand times larger than their file; what is large is made small here."""
    monkeypatch.setattr(array_files, "_UNPACKED_FREELY", 1 << 16)
    monkeypatch.setattr(np, "load", lambda *arguments, **options: pytest.fail("it was unpacked"))
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((64, 64, 64), np.float32), mu=np.zeros(3))
    return tmp_path / "bomb.npz"


@pytest.mark.parametrize("read", [load_npz, list_arrays, read_statistics, read_arrays])
def test_a_bomb_is_not_unpacked(bomb, read):
    with pytest.raises(ValueError, match=r"x\.npy unpacks from \d+ to 1048704 bytes: .* numpy\.savez"):
        read(bomb)


def test_entries_that_share_bytes_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", bytes(5000))
    content = (tmp_path / "a.npz").read_bytes()
    start = content.index(b"PK\x01\x02")
    entry, end = content[start : content.index(b"PK\x05\x06")], content[content.index(b"PK\x05\x06") :]
    other = entry.replace(b"a.npy", b"b.npy")
    end = end[:8] + (2).to_bytes(2, "little") * 2 + (2 * len(entry)).to_bytes(4, "little") + end[16:]
    (tmp_path / "two.npz").write_bytes(content[:start] + entry + other + end)
    with pytest.raises(DataError, match="entries overlap"):
        list_arrays(tmp_path / "two.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_packed_as_usual_is_read(tmp_path, save):
    x = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    save(tmp_path / "x.npz", x=x)
    np.testing.assert_array_equal(load_npz(tmp_path / "x.npz")["x"], x)
    np.testing.assert_array_equal(list_arrays(tmp_path / "x.npz")["x"].read(), x)
