"""Prepares TFDS data sets as array_record without TensorFlow.

    python -m gan_jax.data.prepare fashion_mnist --from=/usr/share/datasets/fashion-mnist
    python -m gan_jax.data.prepare cifar10

The first reads raw files that are there already (Debian's package `dataset-fashion-mnist` installs these); the
second downloads them through TFDS, which checks their sums. The result is what TFDS itself would have written: any
program may read it with `tfds.data_source`. `mnist`, `fashion_mnist`, `kmnist`, `cifar10` and `cifar100` need no
TensorFlow; others are prepared by TFDS's own code, most of which does.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import pathlib
import socket
import sys
import tarfile
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from gan_jax.data import tfds_builders
from gan_jax.data.encoded import printable
from gan_jax.data.errors import DataError

Example = dict[str, Any]
Read = Callable[[Mapping[str, pathlib.Path], str], Iterator[Example]]
"""`(raw files by name, split) -> examples`."""

_SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Raw:
    """How a data set's raw files are read: their names, and what is in them."""

    files: tuple[str, ...]
    read: Read
    labels: Callable[[Mapping[str, pathlib.Path]], dict[str, list[str]]] = lambda files: {}


def read_idx(path: pathlib.Path) -> np.ndarray:
    """A file in the idx format of MNIST, gzipped or not, as a uint8 array.

    Raises:
      DataError: if the file is missing, damaged or of another type.
    """
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}: expected an idx file of MNIST's kind.")
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        rank = content[3]
        shape = np.frombuffer(content, ">u4", rank, offset=4)
        data = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
        if content[:3] != b"\0\0\x08" or data.size != np.prod(shape, dtype=np.int64):
            raise ValueError("its header is not that of an idx file of bytes, or it was cut")
        return data.reshape(shape)
    except (ValueError, IndexError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{str(path)!r} is not a whole idx file: {error}.") from error


_IDX = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def _mnist_examples(files: Mapping[str, pathlib.Path], split: str) -> Iterator[Example]:
    images, labels = (read_idx(files[name]) for name in _IDX[split])
    if len(images) != len(labels):
        raise DataError(
            f"{_IDX[split]} hold {len(images)} images and {len(labels)} labels: they do not belong together."
        )
    for image, label in zip(images, labels, strict=True):
        yield {"image": image, "label": int(label)}


def _cifar_members(path: pathlib.Path) -> dict[str, bytes]:
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}: expected CIFAR's binary version.")
    try:
        with tarfile.open(path) as archive:
            members = {
                member.name.rsplit("/")[-1]: archive.extractfile(member)
                for member in archive
                if member.isfile()
            }
            return {name: member.read() for name, member in members.items() if member is not None}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{str(path)!r} is not a whole tar archive: {error}.") from error


def _cifar(archive: str, splits: Mapping[str, tuple[str, ...]], label_names: Mapping[str, str]) -> Raw:
    """CIFAR's binary version: records of one byte per label and 3 x 32 x 32 bytes, red before green before blue."""

    def read(files: Mapping[str, pathlib.Path], split: str) -> Iterator[Example]:
        members = _cifar_members(files[archive])
        content = b"".join(members[name] for name in splits[split])
        records = np.frombuffer(content, np.uint8).reshape(-1, len(label_names) + 3072)
        images = records[:, len(label_names) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for number, (record, image) in enumerate(zip(records, images, strict=True)):
            labels = {key: int(value) for key, value in zip(label_names, record, strict=False)}
            yield {"id": f"{split}_{number:05d}", "image": image, **labels}

    def labels(files: Mapping[str, pathlib.Path]) -> dict[str, list[str]]:
        members = _cifar_members(files[archive])
        return {key: members[name].decode().split() for key, name in label_names.items()}

    return Raw((archive,), read, labels)


_MNIST = Raw(tuple(name for names in _IDX.values() for name in names), _mnist_examples)
RAW: dict[str, Raw] = {
    "mnist": _MNIST,
    "fashion_mnist": _MNIST,
    "kmnist": _MNIST,
    "cifar10": _cifar(
        "cifar-10-binary.tar.gz",
        {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)},
        {"label": "batches.meta.txt"},
    ),
    "cifar100": _cifar(
        "cifar-100-binary.tar.gz",
        {"train": ("train.bin",), "test": ("test.bin",)},
        {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
    ),
}
"""The data sets whose raw files are read here, by TFDS's name."""


def prepare(
    name: str, *, source: str | pathlib.Path | None = None, data_dir: str | pathlib.Path | None = None
) -> pathlib.Path:
    """Writes the TFDS data set `name` as array_record, unless it is there; returns its folder.

    Args:
      name: as TFDS names it.
      source: a folder with the raw files; they are downloaded if `None`.
      data_dir: where TFDS keeps its data; its own default (`$TFDS_DATA_DIR` or `~/tensorflow_datasets`) if `None`.

    Raises:
      DataError: if a raw file is missing or damaged, there is no network, or the data set cannot be prepared here.
    """
    import tensorflow_datasets as tfds

    if source is not None and name not in RAW:
        raise DataError(f"Raw files can be read for {sorted(RAW)}, not for {name!r}: leave out --from.")
    builder = tfds_builders.builder(name, data_dir)
    folder = pathlib.Path(builder.data_dir)
    if tfds_builders.is_prepared(builder):
        return folder
    if name in RAW:
        folder_of_files = None if source is None else pathlib.Path(source).expanduser()
        builder = _reading_builder(type(builder), RAW[name], folder_of_files)(
            data_dir=data_dir, file_format="array_record"
        )
    if source is None:
        _check_network(name, builder)
    try:
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    except DataError:
        raise
    except ModuleNotFoundError as error:
        raise DataError(
            f"TFDS prepares {name!r} with code that needs {error.name}: `pip install {error.name}` for this once, "
            "on any machine, and copy the prepared folder; reading it needs no TensorFlow."
        ) from error
    except Exception as error:  # TFDS passes on whatever the network, the disk or its own code raises.
        if tfds_builders.is_prepared(tfds_builders.builder(name, data_dir)):
            return folder  # another process has prepared it meanwhile
        raise DataError(
            f"The TFDS data set {name!r} could not be prepared in {folder} "
            f"({type(error).__name__}: {_line(error)}). Check the network and the disk{_offline_hint(name)}."
        ) from error
    if not tfds_builders.is_prepared(tfds_builders.builder(name, data_dir)):  # TFDS takes any folder for it
        raise DataError(
            f"{folder} is there and is no prepared data set: move it, or name another --data-dir."
        )
    return folder


def _line(error: Exception, most: int = 300) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= most else f"{text[:most]} ..."


def _check_network(name: str, builder: Any) -> None:
    """An error at once where no address resolves: TFDS would retry for minutes."""
    hosts = sorted({urllib.parse.urlsplit(url).hostname or "" for url in builder.url_infos})
    if not hosts or urllib.request.getproxies():
        return
    try:
        socket.getaddrinfo(hosts[0], None)
    except OSError as error:
        raise DataError(
            f"The TFDS data set {name!r} cannot be downloaded: {hosts[0]} was not found ({error}). "
            f"Check the network{_offline_hint(name)}."
        ) from error


def _offline_hint(name: str) -> str:
    if name not in RAW:
        return ", or copy the prepared folder from another machine"
    files = ", ".join(RAW[name].files)
    return f", or give a folder that holds {files}: python -m gan_jax.data.prepare {name} --from=FOLDER"


def _reading_builder(base: Any, raw: Raw, source: pathlib.Path | None) -> Any:
    """TFDS's builder class `base` with its raw files read here: its own reading needs TensorFlow."""
    from PIL import Image
    from tensorflow_datasets.core import registered

    def files(builder: Any, manager: Any) -> dict[str, pathlib.Path]:
        if source is not None:
            return {name: source / name for name in raw.files}
        urls = {url.rsplit("/", 1)[-1]: url for url in builder.url_infos}
        urls = {name: urls[name] for name in raw.files}
        return {name: pathlib.Path(path) for name, path in manager.download(urls).items()}

    def examples(
        builder: Any, found: Mapping[str, pathlib.Path], split: str
    ) -> Iterator[tuple[int, Example]]:
        for number, example in enumerate(raw.read(found, split)):
            # As a Pillow image: arrays are encoded by TensorFlow, these by Pillow.
            yield number, {**example, "image": Image.fromarray(example["image"])}

    def split_generators(builder: Any, manager: Any) -> dict[str, Any]:
        found = files(builder, manager)
        for key, names in raw.labels(found).items():
            builder.info.features[key].names = names
        return {split: examples(builder, found, split) for split in _SPLITS}

    with registered.skip_registration():
        return type(
            base.__name__, (base,), {"__module__": base.__module__, "_split_generators": split_generators}
        )


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m gan_jax.data.prepare",
        description="Prepare a TFDS data set as array_record, without TensorFlow where its raw files are known: "
        f"{', '.join(sorted(RAW))}.",
    )
    parser.add_argument("name", help="the data set, as TFDS names it")
    parser.add_argument("--from", dest="source", metavar="FOLDER", help="a folder with the raw files")
    parser.add_argument(
        "--data-dir", metavar="FOLDER", help="where TFDS keeps its data (default: TFDS's own)"
    )
    given = parser.parse_args(arguments)
    try:
        before = tfds_builders.is_prepared(tfds_builders.builder(given.name, given.data_dir))
        folder = prepare(given.name, source=given.source, data_dir=given.data_dir)
    except DataError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    if before and given.source is not None:
        note = f"{given.name} was prepared before: {given.source} was not read. Remove {folder} to read it."
        print(printable(note), file=sys.stderr)
    print(f"{given.name} is prepared in {folder}; use it as tfds:{given.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
