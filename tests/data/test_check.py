"""`python -m gan_jax.data.check`: every count is one that the folder was made with."""

import re

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import check
from tests.data.test_images import color, save


def noise(seed, shape=(8, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Twelve dresses, one boot: two of the dresses are one image, one is plain, one broken, one wide, one small."""
    root = tmp_path / "shop"
    for k in range(9):
        save(root / "dress" / f"{k}.png", noise(k))
    save(root / "dress" / "again.png", noise(3))
    save(root / "dress" / "plain.png", color((7, 8, 9)))
    save(root / "dress" / "wide.png", noise(20, (8, 32, 3)))
    save(root / "dress" / "small.png", noise(21, (4, 4, 3)))
    save(root / "boot" / "a.png", noise(30))
    (root / "boot" / "broken.png").write_bytes(b"none")
    Image.fromarray(noise(40, (8, 8, 4))).save(root / "dress" / "glass.png")
    return root


def test_everything_that_a_folder_has_is_counted(folder):
    report = check.check(str(folder), size=8)
    text = "\n".join(report.lines)
    assert report.lines[0] == "15 images of 8 x 8 x 3, uint8 in [0, 255]"
    assert "stored 4 to 32 pixels wide and 4 to 8 high, most often (width x height) 8 x 8 (13)" in text
    assert "formats and modes: PNG RGB (14), PNG RGBA (1)" in text
    assert "2 classes: boot (1), dress (14)" in text
    assert "1 images are transparent and laid on white; channels=4 keeps transparency" in text
    assert report.warnings == (
        "1 file was not read: boot/broken.png: not an image",
        "1 images are smaller than the 8 x 8 that they are enlarged to",
        "1 images lose more than a third of their pixels where they are cropped to 8 x 8",
        "1 classes have less than 10% of the images of the largest: boot",
        "1 images are there again: dress/3.png = dress/again.png",
        "1 images have one colour everywhere",
    )


def test_one_image_under_two_labels_and_grey_in_three_channels(tmp_path):
    grey = noise(1, (8, 8, 1)).repeat(3, axis=2)
    for name in ("a/1.png", "b/2.png"):
        save(tmp_path / name, grey)
    warnings = check.check(str(tmp_path), size=8).warnings
    assert "1 images are there with different labels" in warnings
    assert "all images are grey, in three channels: channels=1 is three times smaller" in warnings


def test_a_folder_around_the_classes_folders_is_one_class_and_said(tmp_path):
    for name in ("set/a/1.png", "set/b/2.png"):
        save(tmp_path / name, noise(int(name[-5]), (8, 8, 3)))
    said = "all images are of one class, set; where folders are classes, leave out one"
    report = check.check(str(tmp_path), size=8)
    assert "1 class: set (2)" in report.lines
    assert any(warning.startswith(said) for warning in report.warnings)
    assert not any("one class" in warning for warning in check.check(str(tmp_path / "set"), size=8).warnings)


def test_folders_of_the_parts_of_a_data_set_are_no_classes_and_said(tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", "Test/a/3.png", "Test/b/4.png"):
        save(tmp_path / name, noise(int(name[-5]), (8, 8, 3)))
    report = check.check(str(tmp_path), size=8)
    said = "the classes are parts of a data set, Test, train: to read one of them, give its path"
    assert said in report.warnings
    assert not any("parts" in line for line in check.check(str(tmp_path / "train"), size=8).warnings)


def test_ranges_and_labels_of_arrays(tmp_path):
    x = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 1)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=[0, 1, 7, 7])
    report = check.check(str(tmp_path / "a.npz"))
    assert report.lines[0].startswith("4 images of 8 x 8 x 1, float32 in [-0.9")
    assert "float images in [0, 1] are brought to [-1, 1]" in report.warnings[0]
    assert "labels go up to 7 and only 3 of these numbers are in use" in report.warnings[1]
    assert check.check("digits").warnings == ()


def test_the_command_writes_the_sheet_and_says_what_it_found(folder, tmp_path, capsys, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert check.main([str(folder), "--size=8", "--sheet=out/sheet.png"]) == 1
    out = capsys.readouterr().out
    assert "warning: 1 images are there again" in out
    assert "boot/broken.png: not an image" in out
    assert not caplog.text, "what is skipped is said once"
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        # 8 pixels six times as large and 2 between; a row for each class.
        assert sheet.size == (500, 100)
        boot = np.asarray(sheet)[:48:6, :48:6]
        np.testing.assert_array_equal(boot, noise(30))
    assert check.main(["digits", "--sheet="]) == 0
    assert check.main(["nowhere"]) == 2
    assert re.match(r"python -m gan_jax.data.check: There is no data set", capsys.readouterr().err)
    assert check.main(["digits", "--size=a"]) == 2


def test_no_sheet_is_written_among_the_images_that_are_checked(tmp_path, capsys, monkeypatch):
    root = tmp_path / "images"
    for k in range(3):
        save(root / f"{k}.png", noise(k))
    monkeypatch.chdir(root)
    for spec, sheet in ((".", ()), (str(root), ()), ("edges:.", ("--sheet=new/sheet.png",))):
        check.main([spec, "--size=8", *sheet])
        assert "no sheet is written" in capsys.readouterr().out
        assert sorted(path.name for path in root.rglob("*")) == ["0.png", "1.png", "2.png"]
    check.main([".", "--size=8", "--sheet=../sheet.png"])
    assert (tmp_path / "sheet.png").exists()


def test_a_sheet_that_nobody_has_named_replaces_no_picture_of_somebody_else(tmp_path, capsys, monkeypatch):
    save(tmp_path / "images" / "0.png", noise(0))
    save(tmp_path / "contact_sheet.png", noise(1))
    mine = (tmp_path / "contact_sheet.png").read_bytes()
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        check.main(["images", "--size=8"])
        assert "a class a row: contact_sheet-2.png" in capsys.readouterr().out
    assert (tmp_path / "contact_sheet.png").read_bytes() == mine
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_the_sheet_shows_transparency_on_white():
    half = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8)
    np.testing.assert_array_equal(check._as_rgb(half), [[[255, 255, 255], [10, 20, 30]]])
    assert check._as_rgb(np.zeros((2, 2, 5), np.uint8)).shape == (2, 2, 3)


def test_pictures_of_runs_are_not_counted(tmp_path):
    save(tmp_path / "1.png", color((1, 2, 3)))
    save(tmp_path / "runs/a/samples/1.png", color((4, 5, 6), (40, 40)))
    (tmp_path / "runs/a/config.json").write_text("{}")
    (tmp_path / "runs/a/tensorboard").mkdir()
    (tmp_path / "runs/a/tensorboard/events").write_text("")
    lines = check.check(str(tmp_path), size=8).lines
    assert "formats and modes: PNG RGB (1)" in lines


def test_names_cannot_control_the_terminal(tmp_path, capsys):
    save(tmp_path / "a.png", noise(0))
    (tmp_path / "\x1b[2J.png").write_bytes(b"none")
    assert check.main([str(tmp_path), "--size=8", "--sheet="]) == 1
    assert "\x1b" not in capsys.readouterr().out
