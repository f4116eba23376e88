"""Image folders: what is read, what is skipped and said, and that the cache is never wrong."""

import logging
import os
import pathlib
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from gan_jax.data import DataError, cache, images, load
from gan_jax.data.image_sets import open_images
from gan_jax.files import locked


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)
    return path


def grey(value, shape=(8, 8)):
    return np.full(shape, value, np.uint8)


def color(rgb, shape=(8, 8)):
    return np.broadcast_to(np.array(rgb, np.uint8), (*shape, 3))


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "webp", "ppm", "jpg"])
def test_formats_of_pillow_are_read(tmp_path, suffix):
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
    save(tmp_path / f"a.{suffix}", color((250, 120, 10)), **options)
    x = images.load_images(tmp_path, 4)["x"]
    assert (x.shape, x.dtype) == ((1, 4, 4, 3), np.uint8)
    np.testing.assert_allclose(x[0, 2, 2].astype(int), (250, 120, 10), atol=3 if suffix == "jpg" else 0)


def test_what_is_done_to_images_is_counted(tmp_path):
    """Sizes are (height, width): 8 x 12 is cropped, 16 x 16 shrunk, 4 x 4 enlarged."""
    for name, array in (
        ("wide", color((1, 2, 3), (8, 12))),
        ("large", color((1, 2, 3), (16, 16))),
        ("small", color((1, 2, 3), (4, 4))),
        ("as_it_is", color((1, 2, 3))),
        ("grey", grey(7)),
        ("clear", np.zeros((8, 8, 4))),
    ):
        save(tmp_path / f"{name}.png", array)
    for _ in range(2):  # the second time from the cache
        read = images.read_folder(tmp_path, 8)
        assert read.changed == {
            "cropped": 1,
            "enlarged": 1,
            "shrunk": 1,
            "grey turned to RGB": 1,
            "transparent and laid on white": 1,
        }
    assert read.changes()[0].startswith(
        "Of 6 images 1 were cropped, 1 enlarged, 1 shrunk, 1 grey turned to RGB"
    )
    assert images.read_folder(tmp_path, 8, channels=1).changed["colours turned to grey"] == 5
    assert images.read_folder(tmp_path, 8, channels=4).changed["grey turned to RGB"] == 1
    assert not images.read_folder(save(tmp_path / "one" / "x.png", grey(3)).parent, 8).changes()


def test_labels_are_the_sub_folders_in_order(tmp_path):
    for name, value in (("b/one.png", 1), ("a/deep/two.png", 2), ("b/three.png", 3), ("c/four.png", 4)):
        save(tmp_path / name, grey(value))
    read = images.read_folder(tmp_path, 8)
    assert read.classes == ("a", "b", "c")
    assert dict(zip(read.arrays["x"][:, 0, 0, 0].tolist(), read.arrays["y"].tolist(), strict=True)) == {
        2: 0,
        1: 1,
        3: 1,
        4: 2,
    }
    assert read.arrays["x"].shape == (4, 8, 8, 1)
    save(tmp_path / "beside.png", grey(5))
    with pytest.raises(DataError, match="1 images beside its sub-folders"):
        images.read_folder(tmp_path, 8)


def test_a_flat_folder_has_no_labels_and_one_colour_image_makes_three_channels(tmp_path):
    save(tmp_path / "a.png", grey(7))
    assert set(load(str(tmp_path), size=8, value_range="standard")) == {"x"}
    save(tmp_path / "b.png", color((1, 2, 3)))
    x = load(str(tmp_path), size=8, value_range="standard")["x"]
    assert x.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(x[:, 0, 0], [[7, 7, 7], [1, 2, 3]])
    # ITU-R 601-2: 0.299 * 1 + 0.587 * 2 + 0.114 * 3 = 1.815.
    assert images.load_images(tmp_path, 8, channels=1)["x"][1, 0, 0, 0] == 2


def test_crop_is_central_and_box_resizing_is_the_mean(tmp_path):
    wide = np.concatenate([grey(9, (4, 2)), np.tile([[0, 200], [100, 60]], (2, 2)), grey(9, (4, 2))], axis=1)
    save(tmp_path / "wide.png", wide)
    read = images.read_folder(tmp_path, 2, method="box")
    np.testing.assert_array_equal(read.arrays["x"][0, ..., 0], [[90, 90], [90, 90]])
    assert (read.record["method"], read.record["crop"], read.record["size"]) == ("box", "center", 2)


def test_alpha_sixteen_bits_and_orientation(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    assert images.load_images(tmp_path, 2)["x"][0].tolist() == [
        [[10, 20, 30], [255, 255, 255]],
        [[255, 255, 255], [255, 255, 255]],
    ]
    sixteen = tmp_path / "sixteen"
    sixteen.mkdir()
    Image.fromarray(np.array([[0, 65535], [257 * 100, 257 * 7]], np.uint16)).save(sixteen / "a.png")
    assert images.load_images(sixteen, 2)["x"][0, ..., 0].tolist() == [[0, 255], [100, 7]]
    turned = tmp_path / "turned"
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    save(turned / "a.png", [[1, 2], [3, 4]], exif=exif)
    assert images.load_images(turned, 2)["x"][0, ..., 0].tolist() == [[4, 3], [2, 1]]


def test_a_tiff_of_32_bits_is_refused(tmp_path):
    """Its 255 may be white or nearly black; 16 bits, whose range is known, are read from PGM and TIFF."""
    Image.fromarray(np.array([[0, 255], [100, 7]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="32-bit values are not supported"):
        images.load_images(tmp_path, 2)
    deep = tmp_path / "deep"
    deep.mkdir()
    values = np.array([[0, 65535], [257 * 100, 257 * 7]], np.uint16)
    Image.fromarray(values).save(deep / "a.tif")
    (deep / "b.pgm").write_bytes(b"P5 2 2 65535\n" + values.astype(">u2").tobytes())
    assert images.load_images(deep, 2)["x"][..., 0].tolist() == [[[0, 255], [100, 7]]] * 2


SHORT, LONG = 3, 4


def tiff(pixels, *, bits, white_is_zero=False, signed=False):
    """A grey TIFF of 2 x 2 pixels, by the tables of TIFF 6.0 (1992), sections 2, 3 and 19."""
    entries = [
        (256, LONG, 2),  # width
        (257, LONG, 2),  # height
        (258, SHORT, bits),
        (259, SHORT, 1),  # not compressed
        (262, SHORT, 0 if white_is_zero else 1),
        (273, LONG, 8),  # where the pixels begin
        (277, SHORT, 1),  # a value a pixel
        (278, LONG, 2),  # rows in a strip
        (279, LONG, len(pixels)),
        (339, SHORT, 2 if signed else 1),
    ]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"".join(
        [
            struct.pack("<2sHI", b"II", 42, 8 + len(pixels)),
            pixels,
            struct.pack("<H", len(entries)),
            table,
            struct.pack("<I", 0),
        ]
    )


def test_a_tiff_has_the_black_and_white_that_it_says(tmp_path):
    """0, 4095 / 1365, 2730 in 12 bits, two values in three bytes; 16 and 8 bits of which 0 is white."""
    twelve = bytes([0x00, 0x0F, 0xFF, 0x55, 0x5A, 0xAA])
    sixteen = np.array([0, 65535, 257 * 100, 257 * 7], "<u2").tobytes()
    (tmp_path / "a.tif").write_bytes(tiff(twelve, bits=12))
    (tmp_path / "b.tif").write_bytes(tiff(twelve, bits=12, white_is_zero=True))  # which Pillow does not open
    (tmp_path / "c.tif").write_bytes(tiff(sixteen, bits=16))
    (tmp_path / "d.tif").write_bytes(tiff(sixteen, bits=16, white_is_zero=True))
    (tmp_path / "e.tif").write_bytes(tiff(bytes([0, 255, 100, 7]), bits=8, white_is_zero=True))
    (tmp_path / "f.tif").write_bytes(tiff(bytes([0, 255, 100, 7]), bits=8, signed=True))
    read = images.read_folder(tmp_path, 2)
    assert read.arrays["x"].reshape(4, 4).tolist() == [
        [0, 255, 85, 170],
        [0, 255, 100, 7],
        [255, 0, 155, 248],
        [255, 0, 155, 248],
    ]
    assert read.skipped.keys() == {"b.tif", "f.tif"}
    assert "sign" in read.skipped["f.tif"]


def test_the_transparent_level_of_sixteen_bits_is_laid_on_white(tmp_path):
    levels = np.array([[0, 65535], [257 * 100, 257 * 7]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png", transparency=257 * 100)
    assert images.load_images(tmp_path, 2)["x"][0, ..., 0].tolist() == [[0, 255], [255, 7]]
    x = images.load_images(tmp_path, 2, channels=2)["x"][0]
    assert x[..., 1].tolist() == [[255, 255], [0, 255]]


def test_runs_below_a_folder_are_none_of_its_images(tmp_path):
    """`--config.data=.` had the sample grids of the run before, as a class `runs`."""
    for name in ("cat/1.png", "dog/1.png", "runs/images-1/samples/1.png", "runs/sweep-1/sweep.png"):
        save(tmp_path / name, grey(1))
    (tmp_path / "runs/images-1/config.json").write_text("{}")
    save(tmp_path / "runs/images-1/checkpoints/2/manifest.png", grey(2))
    (tmp_path / "runs/sweep-1/sweep.json").write_text("{}")
    read = images.read_folder(tmp_path, 8)
    assert (read.names, read.classes) == (("cat/1.png", "dog/1.png"), ("cat", "dog"))
    assert read.skipped == dict.fromkeys(
        ("runs/images-1", "runs/sweep-1"), "the work directory of a run or a sweep"
    )
    compared = open_images(tmp_path, damaged="refuse")
    assert compared.number == 2
    assert "2 files were left out: runs/" in compared.note
    packed, run = tmp_path.parent / f"{tmp_path.name}.zip", tmp_path.parent / f"{tmp_path.name}-run.zip"
    for archive, where in ((packed, tmp_path), (run, tmp_path / "runs/images-1")):
        with zipfile.ZipFile(archive, "w") as written:
            for path in sorted(path for path in where.rglob("*") if path.is_file()):
                written.write(path, path.relative_to(where.parent))
    again = images.read_archive(packed, 8, labels=False)
    assert again.names == tuple(f"{tmp_path.name}/{name}" for name in read.names)
    assert again.skipped.keys() == {f"{tmp_path.name}/{name}" for name in read.skipped}
    assert open_images(packed, damaged="refuse").number == 2
    # One that is named itself is read: somebody may want its pictures.
    assert len(images.read_archive(run, 8).names) == 2
    assert images.read_folder(tmp_path / "runs/images-1", 8).names == (
        "checkpoints/2/manifest.png",
        "samples/1.png",
    )


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_of_several_pages_the_first_is_taken_and_that_is_said(tmp_path, suffix):
    first, second = Image.fromarray(grey(0)), Image.fromarray(grey(255))
    options = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **options)
    second.save(tmp_path / f"b.{suffix}", **options)
    read = images.read_folder(tmp_path, None, channels=1)
    assert read.arrays["x"][:, 0, 0, 0].tolist() == [0, 255]
    assert read.changed["of several pages or frames, of which the first is taken"] == 1


def png(width, bits, kind, row, chunks=()):
    """A PNG file of one row of pixels, by its specification (ISO/IEC 15948, sections 5 and 11)."""
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0),
        **dict(chunks),
        b"IDAT": zlib.compress(b"\0" + row),
        b"IEND": b"",
    }
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


@pytest.mark.parametrize(
    ("bits", "kind", "row", "clear", "opaque"),
    [
        (2, 0, bytes([0b00011011]), (1,), [[0], [255], [170], [255]]),  # of levels 0, 1, 2, 3
        (4, 0, bytes([0x05, 0xAF]), (5,), [[0], [255], [170], [255]]),  # of 0, 5, 10, 15
        (
            16,
            2,
            struct.pack(">6H", 2560, 5120, 7680, 3, 5120, 7680),
            (2560, 5120, 7680),
            [[255] * 3, [0, 20, 30]],
        ),
    ],
)
def test_the_transparent_colour_of_a_png_is_of_its_own_bits(tmp_path, bits, kind, row, clear, opaque):
    """Pillow brings the pixels to 8 bits and leaves the colour in the file's: pixels of it kept their colour."""
    file = png(len(opaque), bits, kind, row, {b"tRNS": struct.pack(f">{len(clear)}H", *clear)})
    (tmp_path / "a.png").write_bytes(file)
    assert images.read_folder(tmp_path, None).arrays["x"][0, 0].tolist() == opaque


def test_grey_with_transparency_is_grey(tmp_path):
    Image.fromarray(np.array([[[100, 255], [7, 0]]], np.uint8)).save(tmp_path / "a.png")
    row = struct.pack(">4H", 257 * 100, 65535, 257 * 7, 0)
    (tmp_path / "b.png").write_bytes(png(2, 16, 4, row))
    laid = images.read_folder(tmp_path, None)
    assert laid.arrays["x"].tolist() == [[[[100], [255]]]] * 2
    assert laid.changed == {"transparent and laid on white": 2}
    kept = images.read_folder(tmp_path, None, channels=2)
    assert kept.arrays["x"][..., 0, :].tolist() == [[[100, 255]]] * 2
    assert kept.arrays["x"][..., 1, 1].tolist() == [[0]] * 2
    assert not kept.changed
    assert images.read_folder(tmp_path, None, channels=3).changed["grey turned to RGB"] == 2


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("form", ['tiff:Orientation="3"', "<tiff:Orientation>3</tiff:Orientation>"])
def test_orientation_in_xmp_alone_turns_an_image(tmp_path, suffix, form):
    """Half a turn, as Lightroom writes it: the dark half comes to lie below."""
    attribute, element = (form, "") if '="' in form else ("", form)
    xmp = (
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {attribute}>{element}</rdf:Description>'
    )
    options = {"xmp": xmp.encode()}
    if suffix == "png":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    elif suffix == "tif":
        options = {"tiffinfo": {700: xmp.encode()}}
    pixels = np.concatenate([grey(0, (8, 16)), grey(255, (8, 16))])
    save(tmp_path / f"a.{suffix}", pixels, **options)
    halves = images.load_images(tmp_path, 16, channels=1)["x"][0, ..., 0].reshape(2, -1).mean(1)
    assert halves[0] > 200
    assert halves[1] < 55


def test_what_cannot_be_read_is_skipped_counted_and_named(tmp_path, caplog):
    folder = tmp_path / "folder"
    save(folder / "good.png", grey(1))
    whole = save(tmp_path / "whole.jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3)))
    (folder / "cut.jpg").write_bytes(whole.read_bytes()[:900])
    (folder / "notes.txt").write_text("no image")
    (folder / "empty.png").touch()
    (folder / "out.jpg").symlink_to(whole)
    (folder / "outside").symlink_to(tmp_path)
    (folder / "broken.png").symlink_to(folder / "gone.png")
    (folder / "again.png").symlink_to(folder / "good.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / ".hidden.png").write_text("left out")
    save(folder / "huge.png", grey(0, (128, 128)))
    with caplog.at_level(logging.WARNING):
        read = images.read_folder(folder, 8, max_pixels=5000)
        read.warn(folder)
    assert len(read.arrays["x"]) == 2
    assert read.skipped["out.jpg"] == read.skipped["outside"] == "a link that leads out of the folder"
    assert read.skipped["notes.txt"] == read.skipped["empty.png"] == "not an image"
    assert read.skipped["cut.jpg"].startswith("damaged")
    assert "128 x 128 pixels are more than 5000" in read.skipped["huge.png"]
    assert set(read.skipped) == {
        "broken.png",
        "circle.png",
        "cut.jpg",
        "empty.png",
        "huge.png",
        "notes.txt",
        "out.jpg",
        "outside",
    }
    assert f"Skipped 8 of 10 files in {folder}: broken.png (a link" in caplog.text


@pytest.mark.full
def test_a_decompression_bomb_is_skipped_by_its_header(tmp_path):
    """A PNG of a few hundred kilobytes with more pixels than Pillow itself would accept without an error."""
    save(tmp_path / "good.png", grey(1))
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    read = images.read_folder(tmp_path, 8)
    assert list(read.skipped) == ["bomb.png"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: images.load_images(p / "missing", 8), "There is no folder"),
        (lambda p: images.load_images(p, 8), "No image in .* it holds no files"),
        (lambda p: images.load_images(p, 0), "size >= 1"),
        (lambda p: images.load_images(p, 8, method="sinc"), "lanczos"),
        (lambda p: load(""), "There is no data set '': expected 'digits'"),
        (lambda p: load("edges:"), "There is no data set 'edges:'"),
        (lambda p: load("pairs:"), "There is no data set 'pairs:'"),
        (lambda p: load("no-such-thing"), "There is no data set 'no-such-thing': expected 'digits'"),
    ],
)
def test_mistakes_say_what_was_expected(tmp_path, make, said):
    with pytest.raises(DataError, match=said):
        make(tmp_path)


@pytest.fixture
def folder(tmp_path):
    for k in range(3):
        save(tmp_path / "images" / "class" / f"{k}.png", grey(k))
    return tmp_path / "images"


def entries():
    return [path for path in cache.cache_root().iterdir() if not path.name.startswith(".")]


def test_the_second_read_decodes_nothing(folder, monkeypatch):
    first = images.read_folder(folder, 8)

    def forbidden(self, file):
        raise AssertionError("decoded again")

    monkeypatch.setattr(images.Conversion, "__call__", forbidden)
    for memory_map in (False, True):
        second = images.read_folder(folder, 8, memory_map=memory_map)
        np.testing.assert_array_equal(first.arrays["x"], second.arrays["x"])
        np.testing.assert_array_equal(first.arrays["y"], second.arrays["y"])
        assert (second.classes, second.record) == (first.classes, first.record)
    assert isinstance(second.arrays["x"], np.memmap)


def test_a_changed_file_or_option_is_read_anew(folder):
    assert images.load_images(folder, 8)["x"].max() == 2
    save(folder / "class" / "2.png", grey(200))
    os.utime(folder / "class" / "2.png", ns=(1, 1))
    assert images.load_images(folder, 8)["x"].max() == 200
    assert images.load_images(folder, 4)["x"].shape == (3, 4, 4, 1)
    assert len(entries()) == 3


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_of_the_same_size_and_time_is_read_anew(folder, replace):
    """Bitmaps of one size; as `cp -p` leaves them, written over or put in the place of the old one."""
    path = save(folder / "class" / "2.bmp", grey(5))
    before = path.stat()
    assert images.load_images(folder, 8)["x"].max() == 5
    if replace:
        save(folder / "new.bmp", grey(9)).replace(path)
    else:
        save(path, grey(9))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert images.load_images(folder, 8)["x"].max() == 9


def test_names_that_control_a_terminal_are_written_out(tmp_path, caplog):
    save(tmp_path / "good.png", grey(1))
    (tmp_path / "\x1b[2J\x07red\u202egnp.png").write_bytes(b"none")
    with caplog.at_level(logging.WARNING):
        images.load_images(tmp_path, 8)
    assert r"\x1b[2J\x07red\u202egnp.png (not an image)" in caplog.text


def test_names_that_are_not_utf_8_are_read_and_named(tmp_path, caplog):
    folder = os.fsencode(tmp_path)
    for name, content in ((b"caf\xe9.png", grey(7)), (b"plain.png", grey(3))):
        Image.fromarray(content).save(pathlib.Path(os.fsdecode(os.path.join(folder, name))))
    with open(os.path.join(folder, b"br\xf6ken.png"), "wb") as broken:
        broken.write(b"none")
    for _ in range(2):  # the second time from the cache
        with caplog.at_level(logging.WARNING):
            arrays = images.load_images(tmp_path, 8)
        assert sorted(arrays["x"].max((1, 2, 3)).tolist()) == [3, 7]
        assert "br\\xf6ken.png (not an image)" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("damage", ["flip", "cut", "record", "gone"])
def test_a_damaged_entry_is_made_again(folder, damage, caplog):
    images.load_images(folder, 8)
    (entry,) = entries()
    data, record = entry / "x.bin", entry / "record.json"
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    {
        "flip": lambda: data.write_bytes(content),
        "cut": lambda: data.write_bytes(content[:-1]),
        "record": lambda: record.write_text("{"),
        "gone": data.unlink,
    }[damage]()
    with caplog.at_level(logging.WARNING):
        again = images.load_images(folder, 8)
    np.testing.assert_array_equal(again["x"][:, 0, 0, 0], [0, 1, 2])
    assert "is damaged" in caplog.text
    caplog.clear()
    images.load_images(folder, 8)
    assert caplog.text == ""


def test_without_a_writable_cache_the_data_are_read_with_a_warning(folder, tmp_path, monkeypatch, caplog):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv("GAN_JAX_CACHE", str(in_the_way))
    with caplog.at_level(logging.WARNING):
        assert len(images.load_images(folder, 8)["x"]) == 3
    assert "Set GAN_JAX_CACHE to a folder with space" in caplog.text


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError):
        images.load_images(tmp_path, 8)
    assert list(cache.cache_root().iterdir()) == []


def test_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv("GAN_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.cache_root() == pathlib.Path("/somewhere/gan_jax")


def test_what_a_killed_conversion_left_is_cleared_and_no_other():
    """Entries are told from what is being built by another process by its lock, and by an hour."""
    left, young, building = (cache.cache_root() / f".building-{name}" for name in "abc")
    for folder in (left, young, building):
        folder.mkdir(parents=True)
        (folder / "x.bin").write_bytes(b"0")
        if folder != young:
            os.utime(folder, (0, 0))

    def build(write):
        write("x", np.zeros((2, 3), np.uint8))
        return {}

    with locked(building, wait=False) as held:
        assert held
        made = cache.make_entry({"n": 1}, build)
    assert made.arrays["x"].shape == (2, 3)
    assert {path.name for path in cache.cache_root().glob(".*")} == {".building-b", ".building-c"}
    cache.make_entry({"n": 2}, build)
    assert {path.name for path in cache.cache_root().glob(".*")} == {".building-b"}
