"""Image sets in parquet files, written here as Hugging Face's `datasets` writes them."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import DataError, load, load_dataset

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def png(value, shape=(8, 8)):
    packed = io.BytesIO()
    Image.fromarray(np.full(shape, value, np.uint8)).save(packed, "PNG")
    return packed.getvalue()


def write(path, values, labels=None, *, names=None, described=True, image=None):
    """A table of an image column and, with labels, a class column; `names` are the classes'."""
    rows = image or [{"bytes": png(value), "path": f"{value}.png"} for value in values]
    columns = {"image": pa.array(rows)}
    features = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
        features["label"] = {"_type": "ClassLabel", "names": names}
    table = pa.table(columns)
    if described:
        info = json.dumps({"info": {"features": features}}).encode()
        table = table.replace_schema_metadata({b"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return str(path)


def test_images_labels_and_classes_of_a_file(tmp_path):
    path = write(tmp_path / "a.parquet", [90, 70, 80], [1, 0, 1], names=["boot", "dress"])
    found = load_dataset(path, size=4)
    assert found.arrays["x"].shape == (3, 4, 4, 1)
    assert found.arrays["x"][:, 0, 0, 0].tolist() == [90, 70, 80]
    assert found.arrays["y"].tolist() == [1, 0, 1]
    assert found.classes == ("boot", "dress")


@pytest.mark.parametrize(
    "layout", ["data/{split}-0000{k}-of-00002.parquet", "default/{split}/000{k}.parquet"]
)
def test_the_files_of_a_split_are_one_set(tmp_path, layout):
    for split, first in (("train", 60), ("test", 160)):
        for k in range(2):
            write(tmp_path / layout.format(split=split, k=k), [first + 2 * k, first + 2 * k + 1], [k, k])
    for spec, expected in ((str(tmp_path), 60), (f"{tmp_path}@train", 60), (f"{tmp_path}@test", 160)):
        found = load(spec, size=4)
        assert found["x"][:, 0, 0, 0].tolist() == [expected + i for i in range(4)]
        assert found["y"].tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match=r"has the splits test, train: choose one.* got 'validation'"):
        load(f"{tmp_path}@validation")


def test_columns_are_found_without_a_description(tmp_path):
    assert load(write(tmp_path / "a.parquet", [90], [3], described=False), size=4)["y"].tolist() == [3]
    bare = write(tmp_path / "b.parquet", [], image=[png(90), png(91)], described=False)
    assert load(bare, size=4)["x"][:, 0, 0, 0].tolist() == [90, 91]


def test_hidden_labels_are_none_and_broken_rows_are_skipped(tmp_path):
    hidden = write(tmp_path / "hidden.parquet", [90, 91], [-1, -1], names=["a", "b"])
    assert set(load(hidden, size=4)) == {"x"}
    rows = [{"bytes": png(90), "path": None}, {"bytes": b"none", "path": None}, {"bytes": None, "path": "x"}]
    found = load_dataset(write(tmp_path / "rows.parquet", [], image=rows), size=4)
    assert found.arrays["x"].shape == (1, 4, 4, 1)
    assert found.skipped == {
        "rows.parquet:1": "not an image",
        "rows.parquet:2": "damaged: the row holds no bytes of an image",
    }


def test_mistakes_say_what_was_expected(tmp_path, monkeypatch):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(DataError, match="the columns text, none of which holds images"):
        load(str(tmp_path / "text.parquet"))
    (tmp_path / "none.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        load(str(tmp_path / "none.parquet"))
    whole = write(tmp_path / "whole.parquet", [90, 91], [0, 1])
    with pytest.raises(DataError, match="is for files with names"):
        load(whole, label_file="labels.csv")
    content = bytearray((tmp_path / "whole.parquet").read_bytes())
    content[8:40] = b"\xff" * 32
    (tmp_path / "damaged.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged|cannot be read"):
        load(str(tmp_path / "damaged.parquet"), size=4)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"gan_jax with the extra \[parquet\]"):
        load(whole)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([2**40, 1], None, r"has the label 1099511627776: class numbers are below 2\^31"),
        (
            [0, 5],
            ["boot", "dress"],
            r"names 2 classes, and its labels go up to 5: name them all, 0 to 5, or none",
        ),
    ],
)
def test_labels_that_are_no_class_numbers_are_named(tmp_path, labels, names, message):
    with pytest.raises(DataError, match=message):
        load_dataset(write(tmp_path / "a.parquet", [1, 2], labels, names=names), size=8)


def with_column(path, label, name="label"):
    """A table of three images and a column beside them."""
    table = pa.table({"image": pa.array([png(90), png(70), png(80)]), name: label})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return str(path)


@pytest.mark.parametrize(
    ("column", "labels", "classes"),
    [
        (pa.array(["cow", "ape", "cow"]), [1, 0, 1], ("ape", "cow")),
        (pa.array(["cow", "ape", "cow"], pa.large_string()), [1, 0, 1], ("ape", "cow")),
        (pa.array(["cow", "ape", "cow"]).dictionary_encode(), [1, 0, 1], ("ape", "cow")),
        (pa.array([5, 0, 5], pa.int16()).dictionary_encode(), [5, 0, 5], ()),
        (pa.array([True, False, True]), [1, 0, 1], ()),
    ],
)
def test_texts_and_booleans_are_labels(tmp_path, column, labels, classes):
    found = load_dataset(with_column(tmp_path / "a.parquet", column), size=4)
    assert found.arrays["x"][:, 0, 0, 0].tolist() == [90, 70, 80]
    assert found.arrays["y"].tolist() == labels
    assert found.classes == classes


def test_an_image_without_a_text_is_skipped(tmp_path):
    found = load_dataset(with_column(tmp_path / "a.parquet", pa.array(["cow", None, ""])), size=4)
    assert found.arrays["x"][:, 0, 0, 0].tolist() == [90]
    assert list(found.skipped) == ["a.parquet:1", "a.parquet:2"]


def test_a_column_that_is_not_read_as_labels_is_named(tmp_path, caplog):
    path = with_column(tmp_path / "a.parquet", pa.array([0.5, 1.0, 2.0]), "category")
    assert set(load(path, size=4)) == {"x"}
    assert "The column 'category' of" in caplog.text
    assert "it holds double" in caplog.text
    caplog.clear()
    load(with_column(tmp_path / "b.parquet", pa.array([0.5, 1.0, 2.0]), "width"), size=4)
    assert not caplog.text


def test_files_of_different_sets_are_refused(tmp_path):
    write(tmp_path / "train-00000-of-00002.parquet", [90], [0], names=["boot", "dress"])
    write(tmp_path / "train-00001-of-00002.parquet", [91], [0], names=["dress", "boot"])
    with pytest.raises(
        DataError, match=r"classes boot, dress, and .* classes dress, boot\. Keep them in folders"
    ):
        load(str(tmp_path), size=4)
    with_column(tmp_path / "train-00001-of-00002.parquet", pa.array(["a", "b", "a"]))
    with pytest.raises(DataError, match=r"has images in 'image' and labels in 'label' \(texts\)"):
        load(str(tmp_path), size=4)
