"""ZIP archives, files of labels, sizes of two sides, transparency, channels by choice."""

import json
import logging
import zipfile

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import DataError, encoded, images, load, load_dataset, open_source
from gan_jax.data.image_sets import open_images
from tests.data.test_images import color, grey, save


def archive(path, files):
    """A ZIP archive of `{name: pixels, or bytes}`."""
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            if not isinstance(content, bytes):
                saved = save(path.parent / "part.png", content)
                content = saved.read_bytes()
                saved.unlink()
            packed.writestr(name, content)
    return path


def test_an_archive_is_read_as_the_folder_that_was_packed(tmp_path, caplog):
    files = {"b/one.png": grey(1), "a/two.png": grey(2), "b/three.png": color((3, 4, 5))}
    for name, pixels in files.items():
        save(tmp_path / "folder" / name, pixels)
    packed = archive(
        tmp_path / "a.zip", {**files, "b/notes.txt": b"none", "__MACOSX/b/one.png": b"", "b/.x": b""}
    )
    with caplog.at_level(logging.WARNING):
        found, folder = (
            load_dataset(str(where), size=8, value_range="standard")
            for where in (packed, tmp_path / "folder")
        )
    assert found.classes == folder.classes == ("a", "b")
    assert found.names == folder.names == ("a/two.png", "b/one.png", "b/three.png")
    assert found.skipped == {"b/notes.txt": "not an image"}
    assert "Skipped 1 of 4 files in" in caplog.text
    for name in ("x", "y"):
        np.testing.assert_array_equal(found.arrays[name], folder.arrays[name])
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "a.zip"}, "nothing is unpacked"


def test_the_labels_of_a_stylegan_data_set_are_those_of_its_json(tmp_path):
    """Its sub-folders are no classes; images without a label are skipped."""
    files = {f"0000{k}/img0000000{k}.png": grey(k) for k in range(3)}
    labels = [["00000/img00000000.png", 6], ["00001/img00000001.png", [0, 0, 1]]]
    packed = archive(tmp_path / "a.zip", {**files, "dataset.json": json.dumps({"labels": labels}).encode()})
    found = load_dataset(str(packed), size=8, value_range="standard")
    assert found.arrays["y"].tolist() == [6, 2]
    assert found.arrays["x"][:, 0, 0, 0].tolist() == [0, 1]
    assert found.skipped == {"00002/img00000002.png": "has no label in dataset.json"}
    packed = archive(tmp_path / "b.zip", {**files, "dataset.json": b'{"labels": null}'})
    assert set(load(str(packed), size=8, value_range="standard")) == {"x"}


def test_another_archive_under_the_same_name_is_read(tmp_path):
    for value in (3, 5):
        archive(tmp_path / "a.zip", {"one.png": grey(value)})
        assert load(str(tmp_path / "a.zip"), size=4, value_range="standard")["x"].max() == value


def test_labels_of_a_csv_file(tmp_path):
    """Names are numbered in alphabetical order; a file that is given comes first, then one in the folder."""
    for k in range(3):
        save(tmp_path / "images" / "part" / f"{k}.png", grey(k))
    read = {"size": 4, "value_range": "standard"}
    assert load_dataset(str(tmp_path / "images"), **read).classes == ("part",)
    beside = tmp_path / "images" / "labels.csv"
    beside.write_text("file,label\npart/2.png,dress\npart/0.png,boot\npart/1.png,dress\n")
    found = load_dataset(str(tmp_path / "images"), **read)
    assert (found.classes, found.arrays["y"].tolist(), found.skipped) == (("boot", "dress"), [0, 1, 1], {})
    accents = "file,label\npart/caf\N{LATIN SMALL LETTER E WITH ACUTE}.png,7\n"
    save(
        tmp_path / "decomposed" / "part" / "cafe\N{COMBINING ACUTE ACCENT}.png", grey(1)
    )  # as macOS names it
    (tmp_path / "decomposed" / "labels.csv").write_text(accents, "utf-8")
    assert load_dataset(str(tmp_path / "decomposed"), **read).arrays["y"].tolist() == [7]
    other = tmp_path / "mine.csv"
    other.write_text('"Filename","age","sex"\npart/0.png,31,f\npart/1.png,7,m\npart/2.png,8,f\n')
    found = load_dataset(str(tmp_path / "images"), label_file=f"{other}:age", **read)
    assert (found.classes, found.arrays["y"].tolist()) == ((), [31, 7, 8])
    found = load_dataset(str(tmp_path / "images"), label_file=f"{other}:sex", **read)
    assert (found.classes, found.arrays["y"].tolist()) == (("f", "m"), [0, 1, 0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\n", "has no labels"),
        ("file,sex\na.png,f\n", "has the columns file, sex, none of which is label"),
        ("picture,label\na.png,f\n", "none of which is file, filename"),
        ("file,label\na.png\n", "1 values in row 2, 2 in its header"),
        ("file,label\na.png,\n", "no label in row 2, for 'a.png'"),
        ("file,label\na.png,1\na.png,2\n", "two labels for 'a.png', '1' and '2'"),
        ('file,label\n"a.png,1\n', "cannot be read as CSV"),
        ("file,label,Label\na.png,1,2\n", "two columns of one name"),
        ('"file";"label"\na.png;1\n', r"separates its columns by semicolons: .*sep="),
        ("file,label\na.png,10.0\nb.png,2.0\n", "class numbers such as '10.0' in the column 'label'"),
        ("file,label\na.png,10\nb.png,2.\n", "10 comes before 2: write whole numbers"),
        ("file,label\na.png,10\nb.png,-1\n", "class numbers such as '-1'"),
        ("file,label\na.png,2147483648\nb.png,2\n", "such as '2147483648' .* from 0 to 2,147,483,647"),
    ],
)
def test_a_file_of_labels_that_cannot_be_used(tmp_path, text, said):
    save(tmp_path / "a.png", grey(1))
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        load(str(tmp_path), size=4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "is expected to hold"),
        ({"labels": [["a.png", "dress"]]}, "'dress' is no class number"),
        ({"labels": [["a.png", [0.2, 0.8]]]}, "one whole number an image"),
        ({"labels": 3}, "is expected to hold"),
        ([], "is expected to hold"),
    ],
)
def test_a_dataset_json_that_cannot_be_used(tmp_path, content, said):
    packed = archive(tmp_path / "a.zip", {"a.png": grey(1), "dataset.json": json.dumps(content).encode()})
    with pytest.raises(DataError, match=said):
        load(str(packed), size=4)


@pytest.mark.parametrize("written", ["./{}/{}.png", "/{}/{}.png", "{}\\{}.png"])
def test_entries_are_named_as_paths_however_they_are_written(tmp_path, written):
    """By bsdtar's `./`, absolute, or with the backslashes of old programs on Windows."""
    files = {written.format(owner, owner): grey(place) for place, owner in enumerate("ab")}
    read = images.read_archive(archive(tmp_path / "a.zip", files), 4)
    assert read.names == ("a/a.png", "b/b.png")
    assert read.classes == ("a", "b")
    assert read.arrays["y"].tolist() == [0, 1]


@pytest.mark.filterwarnings("ignore:Duplicate name")  # as zipfile says when it writes one
def test_two_entries_of_one_name_are_refused(tmp_path):
    packed = archive(tmp_path / "a.zip", {"a.png": grey(1), "b.png": grey(2)})
    with zipfile.ZipFile(packed, "a") as more:
        more.writestr("b.png", b"another")
    with pytest.raises(DataError, match=r"has 2 entries named 'b\.png'"):
        load_dataset(str(packed), size=8)
    with pytest.raises(DataError, match=r"has 2 entries named 'b\.png'"):
        open_images(packed)


def test_damaged_archives_and_large_entries_are_said(tmp_path, monkeypatch):
    whole = archive(tmp_path / "whole.zip", {"a.png": grey(1), "b.png": grey(2)})
    content = bytearray(whole.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 255
    (tmp_path / "flipped.zip").write_bytes(content)
    found = images.read_archive(tmp_path / "flipped.zip", 4)
    assert list(found.skipped) == ["a.png"]
    assert "damaged: Bad CRC-32" in found.skipped["a.png"]
    (tmp_path / "none.zip").write_text("no archive")
    with pytest.raises(DataError, match="cannot be read as a ZIP archive"):
        load(str(tmp_path / "none.zip"))
    with pytest.raises(DataError, match="There is no file"):
        load(str(tmp_path / "gone.zip"))
    monkeypatch.setattr(encoded, "MAX_BYTES", 4)
    with pytest.raises(DataError, match=r"unpacks to \d+ bytes, more than 4"):
        load(str(whole))


def test_a_large_archive_streams_the_same_examples(tmp_path):
    files = {f"{'ab'[k % 2]}/{k}.png": grey(k) for k in range(6)}
    packed = str(archive(tmp_path / "a.zip", files))
    source = open_source(packed, 6, size=4, resident_limit=10, value_range="standard")
    assert source.device_data == ()
    batch = source.get_batch((), {n: a[0] for n, a in source.host_batches(0, 1).items()})
    shown = sorted(((np.asarray(batch["x"])[:, 0, 0, 0] + 1) * 127.5).round().astype(int).tolist())
    assert shown == [0, 1, 2, 3, 4, 5]
    source.close()


# ---------------------------------------------------------------------------------------------------------
# Sizes and channels


def test_a_rectangle_is_the_middle_of_the_image_in_its_proportions(tmp_path):
    """Of 4 x 8 pixels, 2 x 2 keeps the middle half and 2 x 4 everything; 4 x 2 has a quarter of the width."""
    pixels = np.repeat(np.array([[0, 10, 20, 30, 40, 50, 60, 70]], np.uint8), 4, axis=0)
    save(tmp_path / "a.png", pixels)

    def row(size):
        return images.load_images(tmp_path, size, method="box")["x"][0, :, :, 0][0].tolist()

    assert row((2, 4)) == [5, 25, 45, 65]
    assert row((2, 2)) == row(2) == [25, 45]
    assert row((4, 2)) == [30, 40]
    assert images.load_images(tmp_path, (3, 5))["x"].shape == (1, 3, 5, 1)
    assert load(str(tmp_path), size=(2, 4))["x"].shape == (1, 2, 4, 1)
    for size in ((0, 4), (2, 3, 4), 0):
        with pytest.raises(DataError, match="size >= 1, or \\(height, width\\)"):
            images.load_images(tmp_path, size)


def test_arrays_have_the_rectangle_that_is_asked_for(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 4, 6, 1), np.uint8))
    assert load(str(tmp_path / "a.npz"), size=(4, 6))["x"].shape == (3, 4, 6, 1)
    with pytest.raises(DataError, match="4 x 6 x 1 where 6 x 4 is asked for"):
        load(str(tmp_path / "a.npz"), size=(6, 4))


def test_transparency_is_kept_where_it_is_asked_for(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0], pixels[1, 1] = (10, 20, 30, 255), (40, 50, 60, 128)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = load(str(tmp_path), size=2, channels=4)["x"][0]
    np.testing.assert_array_equal(found[[0, 1], [0, 1]], [(10, 20, 30, 255), (40, 50, 60, 128)])
    assert load(str(tmp_path), size=2)["x"].shape == (1, 2, 2, 3)
    # ITU-R 601-2 of (10, 20, 30): 2.99 + 11.74 + 3.42 = 18.15.
    assert load(str(tmp_path), size=2, channels=2)["x"][0, 0, 0].tolist() == [18, 255]
    save(tmp_path / "b.png", color((1, 2, 3), (2, 2)))
    assert load(str(tmp_path), size=2, channels=4)["x"][1, 0, 0].tolist() == [1, 2, 3, 255]


def test_arrays_of_more_channels_are_read_by_choice(tmp_path):
    path = str(tmp_path / "a.npz")
    np.savez(path, x=np.full((3, 4, 4, 5), 200, np.uint8))
    with pytest.raises(DataError, match="or ask for channels=5"):
        load(path)
    with pytest.raises(DataError, match="4 channels are asked for: the last axis has 5"):
        load(path, channels=4)
    assert load(path, channels=5)["x"].shape == (3, 4, 4, 5)
    assert open_source(path, 2, channels=5).size == 3


def test_classes_of_a_file_of_arrays(tmp_path):
    path = str(tmp_path / "a.npz")
    np.savez(path, x=np.full((2, 4, 4, 1), 200, np.uint8), y=[1, 0], classes=["boot", "dress"])
    found = load_dataset(path)
    assert found.classes == ("boot", "dress")
    assert set(found.arrays) == {"x", "y"}
