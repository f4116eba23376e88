"""Pictures of a name that nobody has chosen."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gan_jax.own_pictures import is_own, write_own


def picture(level):
    return np.full((3, 5, 3), level, np.uint8)


def png(pixels, text=()):
    packed, about = io.BytesIO(), PngInfo()
    for name, value in dict(text).items():
        about.add_text(name, value)
    Image.fromarray(pixels).save(packed, "PNG", pnginfo=about)
    return packed.getvalue()


def edited(path):
    """The file with another pixel and the texts that it had, as an editor saves it."""
    with Image.open(path) as image:
        pixels, text = np.array(image), image.text
    pixels[0, 0, 0] += 1
    return png(pixels, text)


def test_a_picture_takes_the_place_of_an_earlier_one_of_ours(tmp_path):
    path = tmp_path / "sheet.png"
    assert write_own(path, picture(1)) == path
    assert write_own(path, picture(2)) == path
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]
    with Image.open(path) as image:
        image.load()
        assert (np.asarray(image) == 2).all()


@pytest.mark.parametrize("there", ["theirs", "edited", "cut", "text", "folder", "link", "nowhere"])
def test_a_file_that_is_not_as_it_was_written_stays(tmp_path, there):
    path, elsewhere = tmp_path / "sheet.png", tmp_path / "own.png"
    write_own(elsewhere, picture(1))
    if there == "folder":
        path.mkdir()
    elif there in ("link", "nowhere"):
        path.symlink_to(elsewhere if there == "link" else tmp_path / "nothing")
    else:
        own = elsewhere.read_bytes()
        path.write_bytes(
            {"theirs": png(picture(3)), "edited": edited(elsewhere), "cut": own[:40], "text": b"words"}[there]
        )
    before = path.read_bytes() if path.is_file() else None
    for level in (4, 5):
        assert write_own(path, picture(level)) == tmp_path / "sheet-2.png"
    assert (path.read_bytes() if path.is_file() else None) == before
    assert path.is_symlink() == (there in ("link", "nowhere"))
    assert is_own(tmp_path / "sheet-2.png")
    assert not is_own(path)
    assert len(list(tmp_path.iterdir())) == 3
