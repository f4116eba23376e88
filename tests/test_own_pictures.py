"""Pictures of a name that nobody has chosen."""

import io

import numpy as np
import pytest
from PIL import Image

from gan_jax.own_pictures import is_own, write_own


def png(level):
    packed = io.BytesIO()
    Image.fromarray(np.full((3, 5, 3), level, np.uint8)).save(packed, "PNG")
    return packed.getvalue()


def test_a_picture_takes_the_place_of_an_earlier_one_of_ours(tmp_path):
    """Whatever reads PNG reads it, with the same pixels; PIL checks the sums of chunks."""
    path = tmp_path / "sheet.png"
    assert write_own(path, png(1)) == path
    assert write_own(path, png(2)) == path
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]
    with Image.open(path) as image:
        image.load()
        assert (np.asarray(image) == 2).all()
        assert len(image.text["gan_jax"]) == len("sha256=") + 64


@pytest.mark.parametrize("there", ["theirs", "edited", "cut", "text", "folder", "link", "nowhere"])
def test_a_file_that_is_not_as_it_was_written_stays(tmp_path, there):
    path, elsewhere = tmp_path / "sheet.png", tmp_path / "own.png"
    write_own(elsewhere, png(1))
    if there == "folder":
        path.mkdir()
    elif there in ("link", "nowhere"):
        path.symlink_to(elsewhere if there == "link" else tmp_path / "nothing")
    else:
        own = elsewhere.read_bytes()
        path.write_bytes(
            {"theirs": png(3), "edited": own[:-1] + b"?", "cut": own[:40], "text": b"words"}[there]
        )
    before = path.read_bytes() if path.is_file() else None
    for level in (4, 5):
        assert write_own(path, png(level)) == tmp_path / "sheet-2.png"
    assert (path.read_bytes() if path.is_file() else None) == before
    assert path.is_symlink() == (there in ("link", "nowhere"))
    assert is_own(tmp_path / "sheet-2.png")
    assert not is_own(path)
    assert len(list(tmp_path.iterdir())) == 3
