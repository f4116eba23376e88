"""Sets of images: what is read of each kind, in which order, and what is said of bad ones."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import load, load_dataset
from gan_jax.data.array_files import list_arrays
from gan_jax.data.errors import DataError
from gan_jax.data.image_sets import from_array, open_images


def drawn(number=6, size=5, channels=3):
    return np.random.default_rng(number).integers(256, size=(number, size, size, channels), dtype=np.uint8)


def png(image):
    packed = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(packed, "png")
    return packed.getvalue()


def all_of(images, batch=4):
    return np.concatenate(list(images.batches(batch)))


def write_folder(root, images, suffix="png"):
    for place, image in enumerate(images):
        path = root / f"class{place % 2}" / f"{place}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
    return root


def in_order_of_names(images):
    return np.concatenate([images[::2], images[1::2]])


def test_a_folder_is_read_with_its_sub_folders_by_name(tmp_path):
    images = drawn()
    write_folder(tmp_path, images)
    (tmp_path / "notes.txt").write_text("hello")
    found = open_images(tmp_path)
    np.testing.assert_array_equal(all_of(found), in_order_of_names(images))
    assert (found.number, found.shape) == (6, (5, 5, 3))
    assert found.note == "1 files that are no images were left out"
    assert [len(batch) for batch in found.batches(4)] == [4, 2]


def test_the_picture_of_all_samples_is_no_sample(tmp_path):
    """`--mode=sample --out=DIR` writes it beside them; without the arrays a file of its name is an image."""
    write_folder(tmp_path, drawn())
    (tmp_path / "grid.png").write_bytes(png(drawn(1, size=15)[0]))
    (tmp_path / "samples.npz").write_bytes(b"")
    np.testing.assert_array_equal(all_of(open_images(tmp_path)), in_order_of_names(drawn()))
    (tmp_path / "samples.npz").unlink()
    assert open_images(tmp_path).number == 7


@pytest.mark.parametrize("name", ["grid.png", "walks.png", "projected.png", "samples.png"])
def test_a_picture_of_several_samples_is_none_in_a_sub_folder_or_an_archive(tmp_path, name):
    """A folder of samples for each class, a zipped folder: with a size, each grid counted as a sample."""
    beside = {"grid.png": "samples.npz", "walks.png": "walks.npz", "projected.png": "projection.npz"}
    images = drawn()
    folder = tmp_path / "folder"
    write_folder(folder, images)
    for where in ("class0", "class1"):
        (folder / where / name).write_bytes(png(drawn(1, size=15)[0]))
        (folder / where / beside.get(name, "model.json")).write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    for spec in (folder, tmp_path / "packed.zip"):
        found = open_images(spec, size=5)
        np.testing.assert_array_equal(all_of(found), in_order_of_names(images))
        assert "shows several samples at a time" in found.note
        assert len(load_dataset(str(spec), size=5).arrays["x"]) == len(images)
    (folder / "class0" / beside.get(name, "model.json")).unlink()  # then it is an image as others
    assert open_images(folder, size=5).number == len(images) + 1


def test_images_of_0_and_1_are_black_and_white_in_files_as_in_arrays_and_in_training(tmp_path):
    """Masks in files were compared as nearly black, and as black and white with what was trained on them."""
    masks = np.random.default_rng(0).integers(2, size=(150, 8, 8, 1), dtype=np.uint8)
    write_folder(tmp_path / "masks", masks)
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        for place, image in enumerate(masks):
            archive.writestr(f"class{place % 2}/{place}.png", png(image))
    np.savez(tmp_path / "masks.npz", x=masks)
    for name in ("masks", "masks.zip", "masks.npz"):
        with pytest.warns(UserWarning, match="integer images of 0 and 1 are taken as black and white"):
            found = open_images(tmp_path / name)
        expected = sorted(map(bytes, 255 * masks))
        assert sorted(map(bytes, all_of(found))) == expected
        assert found.value_range == "uint8 of 0 and 1"
        with pytest.warns(UserWarning, match="integer images of 0 and 1"):
            trained_on = load(str(tmp_path / name), size=8)["x"]
        assert sorted(map(bytes, trained_on)) == expected


def test_masks_of_something_rare_are_black_and_white_too(tmp_path):
    """Nearly all of them are black, which says nothing of what the others are of."""
    masks = np.zeros((150, 8, 8, 1), np.uint8)
    masks[2, 2:4] = 1  # the evenly spread ones by which sets are recognised miss it
    with pytest.warns(UserWarning, match="integer images of 0 and 1"):
        found = open_images(write_folder(tmp_path / "masks", masks))
    with pytest.warns(UserWarning, match="integer images of 0 and 1"):
        trained_on = load(str(tmp_path / "masks"), size=8)["x"]
    assert (
        sorted(map(bytes, all_of(found))) == sorted(map(bytes, trained_on)) == sorted(map(bytes, 255 * masks))
    )


def test_a_folder_with_images_of_0_and_1_and_others_is_refused_or_read_as_it_is(tmp_path):
    masks = np.random.default_rng(0).integers(2, size=(150, 8, 8, 1), dtype=np.uint8)
    grey = masks.copy()
    grey[1] = 200
    with pytest.warns(UserWarning, match="integer images of 0 and 1"):
        found = open_images(write_folder(tmp_path / "one", masks))
    Image.fromarray(grey[1, ..., 0]).save(tmp_path / "one" / "class0" / "10.png")
    with pytest.raises(DataError, match="others with values up to 200: save all in"):
        all_of(found)
    few = open_images(write_folder(tmp_path / "few", grey[:9]))
    assert sorted(map(bytes, all_of(few))) == sorted(map(bytes, grey[:9]))
    assert few.value_range == "uint8 [0, 255]"


def test_any_format_of_pillow_and_grey_folders(tmp_path):
    images = drawn(channels=1)
    write_folder(tmp_path, images, "bmp")
    assert open_images(tmp_path).shape == (5, 5, 1)
    np.testing.assert_array_equal(all_of(open_images(tmp_path)), in_order_of_names(images))
    repeated = all_of(open_images(tmp_path, channels=3))
    np.testing.assert_array_equal(repeated, np.repeat(in_order_of_names(images), 3, axis=3))


def test_a_zip_of_the_stylegan_tools_is_the_folder(tmp_path):
    images = drawn()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for place, image in enumerate(images):
            archive.writestr(f"00000/img{place:08d}.png", png(image))
        archive.writestr(
            "dataset.json", json.dumps({"labels": [[f"00000/img{i:08d}.png", 0] for i in range(6)]})
        )
        archive.writestr("__MACOSX/._img.png", b"no image")
        archive.writestr("notes.txt", b"no image")
    found = open_images(tmp_path / "set.zip")
    np.testing.assert_array_equal(all_of(found), images)
    assert found.note == "1 files that are no images were left out"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("key", ["arr_0", "x", "anything"])
def test_arrays_of_a_file_are_read_by_blocks(tmp_path, save, key, monkeypatch):
    monkeypatch.setattr("gan_jax.data.image_sets._BLOCK_BYTES", 2 * 75)
    images = drawn()
    save(tmp_path / "set.npz", **{key: images})
    found = open_images(tmp_path / "set.npz")
    assert [len(block) for block in found.blocks(0, found.number)] == [2, 2, 2]
    np.testing.assert_array_equal(all_of(found), images)
    np.save(tmp_path / "set.npy", images)
    np.testing.assert_array_equal(all_of(open_images(tmp_path / "set.npy")), images)


def test_what_an_npz_means_is_said_where_it_is_not_clear(tmp_path):
    np.savez(tmp_path / "two.npz", a=drawn(), b=drawn())
    with pytest.raises(DataError, match="has the arrays a, b: name the images one of arr_0"):
        open_images(tmp_path / "two.npz")


def test_floats_are_rounded_to_256_levels():
    images = drawn()
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    found = from_array(images / np.float32(127.5) - 1, "floats")
    np.testing.assert_array_equal(all_of(found), images)
    assert found.value_range == "float [-1, 1] rounded to 256 levels"
    with pytest.warns(UserWarning, match="brought to"):
        recognised = from_array(images / np.float32(255), "unit")
    np.testing.assert_array_equal(all_of(recognised), images)
    # Normalised and back, 0 may be -3e-8: in [-1, 1] that would be half grey, without a word.
    beyond = np.clip(images / np.float32(255), -3e-8, 1) * np.float32(1 + 1e-6) - np.float32(3e-8)
    with pytest.warns(UserWarning, match="brought to"):
        recognised = from_array(beyond, "unit")
    assert beyond.min() < 0 < 1 < beyond.max()
    np.testing.assert_array_equal(all_of(recognised), images)
    near_grey = (images / np.float32(127.5) - 1) / 2000
    assert from_array(near_grey, "untrained").value_range == "float [-1, 1] rounded to 256 levels"
    with pytest.warns(UserWarning, match="0 and 1"):
        binary = from_array((images > 127).astype(np.uint8), "bits")
    np.testing.assert_array_equal(all_of(binary), (images > 127) * 255)


def test_named_data_sets_are_read():
    assert open_images("digits").shape == (8, 8, 1)
    assert len(all_of(open_images("digits"), 1000)) == 1797


def test_content_names_equal_files_and_no_others(tmp_path):
    first = open_images(write_folder(tmp_path / "a", drawn()))
    copy = open_images(write_folder(tmp_path / "b", drawn()))
    other = open_images(write_folder(tmp_path / "c", drawn(7)[:6]))
    assert first.content() == copy.content() != other.content()
    assert first.content() != open_images(tmp_path / "a", size=4).content()
    assert from_array(drawn(), "x").content() == from_array(drawn(), "y").content()
    assert from_array(drawn(), "x").content() != from_array(drawn()[::-1], "x").content()


def test_a_truncated_file_in_the_middle_is_named_or_skipped_and_counted(tmp_path):
    images = drawn(8)
    write_folder(tmp_path, images)
    broken = tmp_path / "class0" / "4.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=r"class0/4\.png \(damaged: .*--damaged=skip"):
        all_of(open_images(tmp_path))
    found = open_images(tmp_path, damaged="skip")
    kept = all_of(found)
    np.testing.assert_array_equal(kept, in_order_of_names(images)[[0, 1, 3, 4, 5, 6, 7]])
    assert list(found.skipped) == ["class0/4.png"]


def test_the_first_image_may_be_the_damaged_one(tmp_path):
    write_folder(tmp_path, drawn())
    (tmp_path / "class0" / "0.png").write_bytes(b"\x89PNG")
    assert len(all_of(open_images(tmp_path, damaged="skip"))) == 5
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="has 6 images, and none of them can be read"):
        open_images(tmp_path, damaged="skip")


def test_mixed_sizes_name_both_files_and_size_brings_them_to_one(tmp_path):
    write_folder(tmp_path, drawn())
    Image.fromarray(drawn(1, 9)[0]).save(tmp_path / "class1" / "1.png")
    with pytest.raises(DataError, match=r"class0/0\.png is 5 x 5, class1/1\.png is 9 x 9\. Give size="):
        all_of(open_images(tmp_path))
    assert all_of(open_images(tmp_path, size=4)).shape == (6, 4, 4, 3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 5, 5, 3), np.uint8), "N > 0"),
        (np.zeros((4, 5, 5), np.uint8), r"may be grey images: take x\[\.\.\., None\]"),
        (np.zeros((5, 5, 3), np.uint8), r"may be one image \[H, W, C\]"),
        (np.zeros((4, 3, 5, 5), np.uint8), r"\[N, C, H, W\]: take np\.moveaxis"),
        (np.full((4, 5, 5, 3), np.nan), "Image 0 of 'bad' holds NaN or infinity, and so do 3 of the next 3"),
        (
            np.stack([np.zeros((5, 5, 3)), np.full((5, 5, 3), np.inf)]),
            "Image 1 of 'bad' holds NaN or infinity: leave such images out",
        ),
        (np.zeros((4, 5, 5, 4), np.uint8), r"^'bad' has shape \[4, 5, 5, 4\], which .* a background\.$"),
        (np.full((4, 5, 5, 3), 200.0), r"holds floats in \[200, 200\]"),
        (np.full((4, 5, 5, 3), 300), r"holds integers in \[300, 300\]"),
        (np.full((4, 5, 5, 3), "a"), "has dtype"),
    ],
)
def test_bad_arrays_are_named(images, message):
    with pytest.raises(DataError, match=message):
        from_array(images, "bad")


def test_sizes_that_no_array_has_are_named(tmp_path):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': (2, {2**70}, 4, 1)}}\n".encode()
    magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    (tmp_path / "a.npy").write_bytes(magic + header + bytes(64))
    with pytest.raises(DataError, match="cannot be read"):
        open_images(tmp_path / "a.npy")


def test_bad_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"has no images: name one with files that end in \.png"):
        open_images(tmp_path)
    with pytest.raises(DataError, match=r"There are no images '.*nowhere'"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="There is no file"):
        open_images(tmp_path / "none.npz")
    np.save(tmp_path / "cut.npy", drawn())
    content = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"cut\.npy.*the file ends in row 4.*copy or write it again"):
        open_images(tmp_path / "cut.npy")
    np.savez(tmp_path / "cut.npz", drawn())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cut\.npz' cannot be read.*cut short: copy or write it again"):
        open_images(tmp_path / "cut.npz")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png' is a single image: name a set of them, such as its folder"):
        open_images(tmp_path / "a.png")
    np.save(tmp_path / "objects.npy", np.array([{}] * 3, object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        list_arrays(tmp_path / "objects.npy")
    np.save(tmp_path / "columns.npy", np.asfortranarray(drawn()))
    with pytest.raises(DataError, match="stored by columns"):
        open_images(tmp_path / "columns.npy")
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="cannot be read as a ZIP"):
        open_images(tmp_path / "no.zip")
    with pytest.raises(DataError, match="refuse or skip"):
        open_images(tmp_path, damaged="ignore")
