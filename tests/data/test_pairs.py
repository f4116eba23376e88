"""Pairs for image-to-image games: both layouts, the direction, files without a partner."""

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import DataError, load, pairs


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path):
    for k in range(4):
        save(tmp_path / "A" / "some" / f"{k}.png", np.full((8, 8), 10 + k))
        save(tmp_path / "B" / "some" / f"{k}.bmp", np.full((8, 8, 3), 20 + k))
    return tmp_path


def test_sub_folders_are_paired_by_name_whatever_the_format(folders):
    data = load(f"pairs:{folders}", size=4, value_range="standard")
    assert data["condition"].shape == (4, 4, 4, 1)
    assert data["x"].shape == (4, 4, 4, 3)
    np.testing.assert_array_equal(data["x"][:, 0, 0, 0], data["condition"][:, 0, 0, 0] + 10)
    other_way = pairs.load_pairs(folders, 4, direction="BtoA")
    np.testing.assert_array_equal(other_way["x"], data["condition"])
    np.testing.assert_array_equal(other_way["condition"], data["x"])


def test_files_without_a_partner_are_skipped_and_named(folders):
    (folders / "A" / "some" / "1.png").unlink()
    (folders / "B" / "some" / "2.bmp").write_text("no image")
    read = pairs.read_pairs(folders, 4)
    assert read.names == ("some/0", "some/3")
    assert read.arrays["x"][:, 0, 0, 0].tolist() == [20, 23]
    assert read.skipped == {
        "A/some/2.png": "has no partner",
        "B/some/1.bmp": "has no partner",
        "B/some/2.bmp": "not an image",
    }


def test_pairs_have_no_classes_so_some_may_lie_beside_folders(folders):
    for side, level in (("A", 50), ("B", 60)):
        save(folders / side / "9.png", np.full((8, 8), level))
    read = pairs.read_pairs(folders, 4)
    assert read.names == ("9", "some/0", "some/1", "some/2", "some/3")
    assert read.arrays["x"][:, 0, 0, 0].tolist() == [60, 20, 21, 22, 23]
    assert set(read.arrays) == {"x", "condition"}
    with pytest.raises(DataError, match="1 images beside its sub-folders"):
        load(str(folders / "A"), size=4)  # the cache keeps both readings apart


def test_files_of_one_name_and_several_formats_are_pairs_of_their_own(folders):
    """`A/0.png` belongs to `B/0.png`, not to the last of B's files that begin with 0; `1` could be either."""
    for side, level in (("A", 50), ("B", 60)):
        save(folders / side / "some" / "0.tiff", np.full((8, 8), level))
    save(folders / "A" / "some" / "1.tiff", np.full((8, 8), 70))
    read = pairs.read_pairs(folders, 4)
    assert read.names == ("some/0.png", "some/0.tiff", "some/2", "some/3")
    assert read.arrays["condition"][:, 0, 0, 0].tolist() == [10, 50, 12, 13]
    assert read.arrays["x"][:, 0, 0, 0].tolist() == [20, 60, 22, 23]
    assert read.skipped == {
        "A/some/1.png": "is one of 2 files named some/1",
        "A/some/1.tiff": "is one of 2 files named some/1",
        "B/some/1.bmp": "has no partner",
    }


def test_a_point_in_a_folders_name_is_not_that_of_a_suffix(tmp_path):
    """`scene.1/7` and `scene.2/9` were a pair named `scene`."""
    for name in ("A/scene.1/7", "A/scene.2/8.png", "B/scene.2/9", "B/scene.2/8"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name, "PNG")
    read = pairs.read_pairs(tmp_path, 4)
    assert read.names == ("scene.2/8",)
    assert read.skipped == {"A/scene.1/7": "has no partner", "B/scene.2/9": "has no partner"}


def test_no_pair_is_lost_whose_stem_is_the_name_of_another(tmp_path):
    for level, name in enumerate(["7.png", "7.tiff", "7.png.bmp"]):
        for side in ("A", "B"):
            save(tmp_path / side / name, np.full((8, 8), level))
    read = pairs.read_pairs(tmp_path, 4)
    assert read.names == ("7.png", "7.tiff", "7.png.bmp")
    assert read.arrays["x"][:, 0, 0, 0].tolist() == [0, 1, 2]


def test_two_images_side_by_side(tmp_path):
    left, right = np.full((6, 6), 1), np.full((6, 6), 2)
    save(tmp_path / "both.png", np.concatenate([left, right], axis=1))
    save(tmp_path / "both.bmp", np.concatenate([left, right], axis=1))
    save(tmp_path / "odd.png", np.zeros((6, 7)))
    read = pairs.read_pairs(tmp_path, 6)
    assert read.names == ("both.bmp", "both.png")
    assert set(read.arrays["condition"].ravel()) == {1}
    assert set(read.arrays["x"].ravel()) == {2}
    assert "width of 7" in read.skipped["odd.png"]


@pytest.mark.parametrize("kind", ["pairs", "edges", "masks", "stacked", "tfds"])
def test_a_kind_of_data_without_data_is_no_name_of_the_working_folder(tmp_path, monkeypatch, kind):
    """`pairs` was every image below the working folder, its left half paired with its right one."""
    monkeypatch.chdir(tmp_path)
    for k in range(4):
        save(tmp_path / kind / f"{k}.png", np.full((8, 8), 10 + k))
    with pytest.raises(DataError, match=f"'{kind}:NAME': a folder of that name is './{kind}'"):
        load(kind, size=4)
    assert load(f"./{kind}", size=4, value_range="standard")["x"].shape == (4, 4, 4, 1)


@pytest.mark.parametrize(
    ("sides", "fix"),
    [
        (("trainA", "trainB", "testA", "testB"), "rename them A and B"),
        (("train_a", "train_b"), "rename them A and B"),
        (("a", "b"), "rename them A and B"),
        (("train/A", "train/B"), "give 'pairs:.*train'"),
    ],
)
def test_sides_under_other_names_are_not_cut_in_the_middle(tmp_path, sides, fix):
    """CycleGAN's data sets are `trainA`, `trainB`, ...: halves of horses and zebras were trained on."""
    for side in sides:
        save(tmp_path / side / "0.png", np.full((8, 8, 3), 10))
    with pytest.raises(DataError, match=f"sub-folders .* would be cut in the middle each.*{fix}"):
        load(f"pairs:{tmp_path}", size=4)


def test_sides_of_any_names_with_images_of_the_same_names_are_not_cut_in_the_middle(tmp_path):
    for side in ("photos", "sketches"):
        save(tmp_path / side / "0.png", np.full((8, 8, 3), 10))
    with pytest.raises(
        DataError, match="photos and sketches with images of the same names, no wider than high"
    ):
        load(f"pairs:{tmp_path}", size=4)
    for part in ("train", "test"):
        save(tmp_path / "halves" / part / "0.png", np.full((8, 16, 3), 10))
    assert len(load(f"pairs:{tmp_path / 'halves'}", size=4, value_range="standard")["x"]) == 2


def test_halves_may_lie_in_sub_folders_of_parts_and_classes(tmp_path):
    for folder in ("train/a", "train/b", "train/c", "val/pizza"):
        save(tmp_path / folder / "0.png", np.full((8, 16, 3), 10))
    assert len(load(f"pairs:{tmp_path}", size=4, value_range="standard")["x"]) == 4


def test_mistakes_say_what_was_expected(folders):
    with pytest.raises(DataError, match="AtoB"):
        pairs.load_pairs(folders, 4, direction="A")
    for path in (folders / "B" / "some").iterdir():
        path.rename(path.with_name(f"other-{path.name}"))
    with pytest.raises(DataError, match="the same names"):
        pairs.load_pairs(folders, 4)
