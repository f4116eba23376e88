"""TFDS without TensorFlow: preparing from raw files, reading, and the errors on the way."""

import gzip
import io
import logging
import pathlib
import socket
import struct
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import DataError, load, prepare, tfds_images
from gan_jax.data.image_sets import open_images

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


def idx(array):
    """The format of yann.lecun.com: two zeros, 8 for bytes, the rank, big-endian sizes, the bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def write_raw(folder, train=30, test=10):
    draw = np.random.default_rng(0)
    raw = {}
    for split, start, n in (("train", "train", train), ("test", "t10k", test)):
        raw[split] = (draw.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n) % 10)
        (folder / f"{start}-images-idx3-ubyte.gz").write_bytes(idx(raw[split][0]))
        (folder / f"{start}-labels-idx1-ubyte.gz").write_bytes(idx(raw[split][1]))
    return raw


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Fashion-MNIST's builder on 30 + 10 random images: `(data_dir, raw arrays)`."""
    folder = tmp_path_factory.mktemp("tfds")
    raw = write_raw(folder)
    assert prepare.main(["fashion_mnist", f"--from={folder}", f"--data-dir={folder}"]) == 0
    return folder, raw


def by_content(images, labels):
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


@pytest.mark.parametrize("split", ["train", "test"])
def test_reading_gives_the_raw_images_and_labels(prepared, split):
    """TFDS shuffles when it writes, so the examples are compared as a set."""
    data_dir, raw = prepared
    read = tfds_images.read_tfds("fashion_mnist", split, data_dir=data_dir)
    assert read.arrays["x"].shape == (len(raw[split][0]), 28, 28, 1)
    assert by_content(read.arrays["x"], read.arrays["y"]) == by_content(*raw[split])
    assert read.classes[9] == "Ankle boot"
    assert "tensorflow" not in sys.modules


def test_a_split_of_0_and_1_is_compared_as_it_is_trained_on(tmp_path, monkeypatch):
    """As that of `binarized_mnist`."""
    masks = np.random.default_rng(0).integers(2, size=(20, 28, 28), dtype=np.uint8)
    for start in ("train", "t10k"):
        (tmp_path / f"{start}-images-idx3-ubyte.gz").write_bytes(idx(masks))
        (tmp_path / f"{start}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(20) % 10))
    assert prepare.main(["fashion_mnist", f"--from={tmp_path}", f"--data-dir={tmp_path}"]) == 0
    builder = tfds_images.prepared_builder("fashion_mnist", tmp_path)
    monkeypatch.setattr(tfds_images, "prepared_builder", lambda *_: builder)
    with pytest.warns(UserWarning, match="integer images of 0 and 1"):
        found = open_images("tfds:fashion_mnist@train")
    images = np.concatenate(list(found.batches(8)))
    assert sorted(map(bytes, images)) == sorted(map(bytes, 255 * masks))


def test_any_program_reads_it_with_tfds_itself(prepared):
    data_dir, raw = prepared
    source = tfds.data_source("fashion_mnist", split="train", data_dir=data_dir, download=False)
    examples = [source[k] for k in range(len(source))]
    assert by_content([e["image"] for e in examples], [e["label"] for e in examples]) == by_content(
        *raw["train"]
    )


def test_second_read_comes_from_the_cache(prepared, monkeypatch):
    data_dir, _ = prepared
    first = tfds_images.read_tfds("fashion_mnist", data_dir=data_dir)
    monkeypatch.setattr(tfds_images.Records, "read", lambda *args: pytest.fail("decoded again"))
    second = tfds_images.read_tfds("fashion_mnist", data_dir=data_dir, memory_map=True)
    np.testing.assert_array_equal(first.arrays["x"], second.arrays["x"])
    np.testing.assert_array_equal(first.arrays["y"], second.arrays["y"])


def test_size_channels_and_parts_of_a_split(prepared):
    data_dir, _ = prepared
    x = tfds_images.load_tfds(
        "fashion_mnist", "train[:50%]", size=14, channels=3, method="box", data_dir=data_dir
    )["x"]
    whole = tfds_images.load_tfds("fashion_mnist", data_dir=data_dir)["x"]
    assert x.shape == (15, 14, 14, 3)
    means = whole[:15, ..., 0].reshape(15, 14, 2, 14, 2).mean((2, 4))
    # Pillow rounds after the rows and after the columns.
    np.testing.assert_allclose(x[..., 0], means, atol=1.01)


def test_reader_gives_the_same_examples_by_number(prepared):
    data_dir, _ = prepared
    whole = tfds_images.load_tfds("fashion_mnist", data_dir=data_dir)
    read, size = tfds_images.record_reader("fashion_mnist", data_dir=data_dir)
    assert size == 30
    some = read(np.array([7, 0, 29, 7]))
    np.testing.assert_array_equal(some["x"], whole["x"][[7, 0, 29, 7]])
    np.testing.assert_array_equal(some["y"], whole["y"][[7, 0, 29, 7]])


def test_spec_names_data_set_and_split(prepared, monkeypatch):
    data_dir, raw = prepared
    monkeypatch.setattr(
        tfds_images, "builder", lambda name, _, original=tfds_images.builder: original(name, data_dir)
    )
    loaded = load("tfds:fashion_mnist@test")
    assert by_content(loaded["x"], loaded["y"]) == by_content(*raw["test"])


def test_a_split_streams_as_a_set_of_images(prepared, monkeypatch):
    data_dir, raw = prepared
    monkeypatch.setattr(
        tfds_images, "builder", lambda name, _, original=tfds_images.builder: original(name, data_dir)
    )
    monkeypatch.setattr("gan_jax.data.image_sets._BLOCK_BYTES", 4 * 28 * 28)
    found = open_images("tfds:fashion_mnist@test")
    blocks = list(found.blocks(0, found.number))
    assert [len(block) for block in blocks] == [4, 4, 2]
    assert sorted(image.tobytes() for image in np.concatenate(blocks)) == sorted(
        image.tobytes() for image in raw["test"][0]
    )
    assert found.content() != open_images("tfds:fashion_mnist@train").content()
    assert open_images("tfds:fashion_mnist@test", size=14, channels=3).shape == (14, 14, 3)


def test_a_folder_of_something_else_is_not_taken_for_a_prepared_data_set(tmp_path, capsys):
    """TFDS reuses whatever folder is there, and the command said that it was prepared."""
    write_raw(tmp_path)
    there = tmp_path / "mnist" / "3.0.1"
    there.mkdir(parents=True)
    (there / "notes.txt").write_text("mine")
    assert prepare.main(["mnist", f"--from={tmp_path}", f"--data-dir={tmp_path}"]) == 1
    assert f"{there} is there and is no prepared data set: move it" in capsys.readouterr().err
    assert [path.name for path in there.iterdir()] == ["notes.txt"]


def test_not_prepared_names_the_folder_and_the_command(tmp_path, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(DataError) as caught:
        tfds_images.load_tfds("mnist", data_dir=tmp_path)
    assert f"looked in {tmp_path}/mnist/3.0.1" in str(caught.value)
    assert f"python -m gan_jax.data.prepare mnist --data-dir={tmp_path}" in str(caught.value)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "split", "said"),
    [
        ("fashion_mnist", "validation", r"its splits are \['test', 'train'\]"),
        ("fashion_mnits", "train", "did you mean fashion_mnist"),
        ("fashion_mnist:9.9.9", "train", "9.9.9"),
    ],
)
def test_unknown_names_say_what_there_is(prepared, name, split, said):
    with pytest.raises(DataError, match=said):
        tfds_images.load_tfds(name, split, data_dir=prepared[0])


def test_a_damaged_file_is_an_error_that_says_so(prepared, tmp_path):
    data_dir, _ = prepared
    copy = tmp_path / "fashion_mnist" / "3.0.1"
    copy.mkdir(parents=True)
    for path in (data_dir / "fashion_mnist" / "3.0.1").iterdir():
        content = path.read_bytes()
        (copy / path.name).write_bytes(content[: len(content) // 2] if "-train." in path.name else content)
    with pytest.raises(DataError, match="fashion_mnist"):
        tfds_images.load_tfds("fashion_mnist", data_dir=tmp_path)


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(prepare.socket, "getaddrinfo", lambda host, port: [])


def test_without_a_network_preparing_fails_at_once_with_the_way_out(tmp_path, monkeypatch):
    def unknown(host, port):
        raise socket.gaierror("Name or service not known")

    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(prepare.socket, "getaddrinfo", unknown)
    with pytest.raises(DataError, match=r"googleapis.* was not found .*prepare mnist --from=FOLDER"):
        tfds_images.load_tfds("mnist", data_dir=tmp_path, prepare=True)


def test_a_failing_download_is_an_error_with_the_way_out(tmp_path, monkeypatch, online):
    def refuse(self, urls):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", refuse)
    with pytest.raises(DataError, match=r"no route to host.*prepare mnist --from=FOLDER"):
        tfds_images.load_tfds("mnist", data_dir=tmp_path, prepare=True)


def test_downloaded_files_are_read_as_given_ones(tmp_path, monkeypatch, online):
    raw = write_raw(tmp_path)
    monkeypatch.setattr(
        tfds.download.DownloadManager,
        "download",
        lambda self, urls: {name: tmp_path / pathlib.PurePosixPath(url).name for name, url in urls.items()},
    )
    loaded = tfds_images.load_tfds("kmnist", "test", data_dir=tmp_path, prepare=True)
    assert by_content(loaded["x"], loaded["y"]) == by_content(*raw["test"])


def test_cifars_planes_become_pixels(tmp_path):
    """A record is one label byte, then 1,024 red, 1,024 green, 1,024 blue bytes, row by row."""
    pixels = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), np.uint8)
    records = b"".join(bytes([k]) + p.transpose(2, 0, 1).tobytes() for k, p in enumerate(pixels))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    members = {f"data_batch_{k}.bin": records if k == 1 else b"" for k in range(1, 6)}
    members |= {
        "test_batch.bin": records[: 2 * 3073],
        "batches.meta.txt": ("\n".join(names) + "\n\n").encode(),
    }
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    prepare.prepare("cifar10", source=tmp_path, data_dir=tmp_path)
    read = tfds_images.read_tfds("cifar10", data_dir=tmp_path)
    assert by_content(read.arrays["x"], read.arrays["y"]) == by_content(pixels, range(6))
    assert list(read.classes) == names


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda p: (p / "train-images-idx3-ubyte.gz").unlink(), "There is no file"),
        (lambda p: (p / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bxx"), "not a whole idx file"),
        (
            lambda p: (p / "train-images-idx3-ubyte.gz").write_bytes(idx(np.zeros((2, 28, 28)))[:-9]),
            "not a whole",
        ),
        (
            lambda p: (p / "train-images-idx3-ubyte.gz").write_bytes(idx(np.zeros((2, 28, 28)))),
            "2 images and 30",
        ),
    ],
)
def test_raw_files_that_cannot_be_used(tmp_path, damage, said, capsys):
    write_raw(tmp_path)
    damage(tmp_path)
    assert prepare.main(["mnist", f"--from={tmp_path}", f"--data-dir={tmp_path}"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert not (tmp_path / "mnist" / "3.0.1").exists()


def test_raw_files_that_are_not_read_are_named(prepared, tmp_path, capsys):
    data_dir, raw = prepared
    write_raw(tmp_path, train=3)
    assert prepare.main(["fashion_mnist", f"--from={tmp_path}", f"--data-dir={data_dir}"]) == 0
    assert f"was prepared before: {tmp_path} was not read" in capsys.readouterr().err
    assert len(tfds_images.load_tfds("fashion_mnist", data_dir=data_dir)["x"]) == len(raw["train"][0])


def test_of_two_that_prepare_at_once_both_have_the_data(tmp_path, monkeypatch, capsys):
    """The second finds the folder of the first where it would put its own."""
    write_raw(tmp_path)
    arguments = ["mnist", f"--from={tmp_path}", f"--data-dir={tmp_path}"]
    read = prepare._mnist_examples
    first = [True]

    def overtaken(files, split):
        if first and first.pop():
            assert prepare.main(arguments) == 0
        yield from read(files, split)

    monkeypatch.setitem(prepare.RAW, "mnist", prepare.Raw(prepare._MNIST.files, overtaken))
    assert prepare.main(arguments) == 0
    assert capsys.readouterr().out.count("mnist is prepared in") == 2


def test_idx_labels_and_uncompressed_files(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(gzip.decompress(idx(np.array([3, 1, 2]))))
    np.testing.assert_array_equal(prepare.read_idx(path), [3, 1, 2])


def test_raw_files_of_an_unknown_set(tmp_path):
    with pytest.raises(DataError, match="leave out --from"):
        prepare.prepare("imagenette", source=tmp_path, data_dir=tmp_path)


def test_images_of_differing_sizes_need_a_size(tmp_path):
    class Shapes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"picture": tfds.features.Image(), "text": tfds.features.Text()}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for k, side in enumerate((8, 16)):
                picture = Image.new("RGB", (side, 8), (k, 2, 3))
                yield k, {"picture": picture, "text": str(k)}

    Shapes(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(DataError, match="differ in size: give size"):
        tfds_images.load_tfds("shapes", data_dir=tmp_path)
    loaded = tfds_images.load_tfds("shapes", data_dir=tmp_path, size=4)
    assert set(loaded) == {"x"}
    assert sorted(loaded["x"][:, 0, 0].tolist()) == [[0, 2, 3], [1, 2, 3]]
