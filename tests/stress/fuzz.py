"""Feeds every reader of files with damaged and made-up content: it reads, or raises what its docstring says.

python -m tests.stress.fuzz --examples=10000
"""

import argparse
import contextlib
import gzip
import io
import json
import pathlib
import tempfile
import time
import warnings
import zipfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
from PIL import Image

from gan_jax.data import images
from gan_jax.data.arrays import load_npz, map_npy
from gan_jax.data.errors import DataError
from gan_jax.data.image_sets import open_images
from gan_jax.data.prepare import read_idx
from gan_jax.data.stream import from_iterator
from gan_jax.metrics import classifier
from gan_jax.metrics._files import read_arrays
from gan_jax.metrics.statistics import read_statistics
from gan_jax.runs import sealing
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.config import read_config, write_config
from gan_jax.runs.metrics_log import read_metrics, truncate_metrics
from gan_jax.runs.workdir import Workdir, WorkdirError
from tests.stress.record import record

_FOLDER = tempfile.TemporaryDirectory()
FOLDER = pathlib.Path(_FOLDER.name)


def in_file(name):
    """A file of this name in a folder of its own."""
    path = FOLDER / name.replace(".", "-") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def from_file(name, read):
    path = in_file(name)

    def reader(content):
        path.write_bytes(content)
        return read(path)

    return reader


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def saved(save, *args, **arrays):
    out = io.BytesIO()
    save(out, *args, **arrays)
    return out.getvalue()


PICTURE = Image.fromarray(np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3))
PIXELS = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)


SQUARES = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)


def of_set(path):
    """All images of a set that streams."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = open_images(path, damaged="skip")
        blocks = list(found.blocks(0, found.number))
    assert all(block.dtype == np.uint8 and block.shape[1:] == found.shape for block in blocks)


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("a.png", "b.png"):
            archive.writestr(name, encoded(PICTURE, "PNG"))
        archive.writestr("dataset.json", '{"labels": null}')
    return out.getvalue()


def of_folder(path):
    """An image among good ones: read, or skipped and counted."""
    good = path.parent / "good.png"
    if not good.exists():
        PICTURE.save(good)
    read = images.read_folder(path.parent, 4, use_cache=False)
    assert len(read.arrays["x"]) + len(read.skipped) == 2
    assert read.arrays["x"].dtype == np.uint8


def of_run(read):
    def reader(content):
        workdir = Workdir(FOLDER / "run")
        workdir.root.mkdir(parents=True, exist_ok=True)
        return read(workdir, content)

    return reader


def config(workdir, content):
    workdir.config.write_bytes(content)
    assert isinstance(read_config(workdir).config, dict)


def log(workdir, content):
    workdir.metrics.write_bytes(content)
    records = read_metrics(workdir)
    assert all(isinstance(record["step"], int) for record in records)
    truncate_metrics(workdir, 5)
    assert all(record["step"] <= 5 for record in read_metrics(workdir))


def manifest(content):
    path = FOLDER / "checkpoints" / "3"
    path.mkdir(parents=True, exist_ok=True)
    (path / "manifest.json").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Checkpoints(path.parent).latest_valid() in (None, 3)
    Checkpoints(path.parent).manifest(3)


class Counter:
    """An iterator with a state, as grain's."""

    def __next__(self):
        return {"x": np.zeros((2, 1))}

    def get_state(self):
        return {"next": 3}

    def set_state(self, state):
        pass


def stream_state(content):
    source = from_iterator(Counter(), 2)
    source.restore(content)
    source.host_batches(3, 1)


def a_config():
    workdir = Workdir(FOLDER / "made")
    write_config(workdir, {"lr": 1e-3, "rounds": 10}, experiment="x.py")
    return workdir.config.read_bytes()


def a_state():
    source = from_iterator(Counter(), 2)
    source.host_batches(0, 2)
    return source.state()


MANIFEST = sealing.seal(
    {
        "format": 1,
        "step": 3,
        "metadata": {},
        "metrics": {},
        "leaves": {"a": {"shape": [2], "dtype": "float32", "at": 0}},
        "files": {"x": {"bytes": 1, "sha256": "0"}},
    }
)
LINES = b"".join(json.dumps({"step": i, "time": 1.0, "loss": i / 3}).encode() + b"\n" for i in range(8))
IDX = b"\0\0\x08\x03" + np.array([3, 4, 4], ">u4").tobytes() + PIXELS.tobytes()

STATE_DICTS = pathlib.Path(__file__).resolve().parents[1] / "metrics" / "reference" / "state_dicts"

READERS = {
    # name: (reader of bytes, good contents, what it may raise)
    "npz": (
        from_file("a.npz", load_npz),
        [saved(np.savez, x=PIXELS), saved(np.savez_compressed, x=PIXELS, y=np.arange(3))],
        DataError,
    ),
    "npy": (from_file("a.npy", load_npz), [saved(np.save, PIXELS)], DataError),
    "mapped npy": (from_file("b.npy", map_npy), [saved(np.save, PIXELS)], DataError),
    "image set npz": (
        from_file("s.npz", of_set),
        [saved(np.savez, arr_0=SQUARES), saved(np.savez_compressed, x=SQUARES / np.float32(255))],
        DataError,
    ),
    "image set npy": (from_file("s.npy", of_set), [saved(np.save, SQUARES)], DataError),
    "image set zip": (from_file("s.zip", of_set), [zipped()], DataError),
    "statistics": (
        from_file("m.npz", read_statistics),
        [saved(np.savez, mu=np.zeros(2), sigma=np.eye(2), gan_jax=np.array(['{"ddof": 1}']))],
        DataError,
    ),
    "weights npz": (from_file("w.npz", read_arrays), [saved(np.savez, w=PIXELS)], ValueError),
    "weights safetensors": (
        from_file("w.safetensors", read_arrays),
        [
            (len(header := b'{"w":{"dtype":"U8","shape":[48],"data_offsets":[0,48]}}')).to_bytes(8, "little")
            + header
            + PIXELS.tobytes()
        ],
        ValueError,
    ),
    "weights pth": (
        from_file("w.pth", read_arrays),
        [STATE_DICTS.joinpath(name).read_bytes() for name in ("zipped.pth", "streamed.pth")],
        ValueError,
    ),
    "classifier": (
        from_file("c.npz", classifier.load_classifier),
        [pathlib.Path(classifier.__file__).parent.joinpath("weights/digits.npz").read_bytes()],
        ValueError,
    ),
    "image": (
        from_file("a.img.png", of_folder),
        [
            encoded(PICTURE, "PNG"),
            encoded(PICTURE, "GIF"),
            encoded(PICTURE, "JPEG"),
            encoded(PICTURE, "TIFF"),
            encoded(PICTURE, "BMP"),
            encoded(PICTURE, "WEBP"),
            encoded(PICTURE, "PPM"),
        ],
        (),
    ),
    "idx": (from_file("a.idx", read_idx), [IDX, gzip.compress(IDX)], DataError),
    "config.json": (of_run(config), [a_config()], WorkdirError),
    "metrics.jsonl": (of_run(log), [LINES], ()),
    "manifest.json": (manifest, [MANIFEST], CheckpointError),
    "stream state": (stream_state, [a_state()], DataError),
}


def damaged(good):
    """Good content with some bytes overwritten, left out, put in or cut off; or any bytes at all."""
    change = st.tuples(
        st.sampled_from(["set", "drop", "add", "cut", "double"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    )

    def apply(content, changes):
        for kind, where, data in changes:
            at = int(where * len(content))
            before, after = content[:at], content[at:]
            content = {
                "set": before + data + after[len(data) :],
                "drop": before + after[len(data) :],
                "add": before + data + after,
                "cut": before,
                "double": before + after + after,
            }[kind]
        return content

    changed = st.builds(apply, st.sampled_from(good), st.lists(change, min_size=1, max_size=4))
    return st.one_of(changed, changed, changed, st.binary(max_size=300))


def fuzz(name, examples):
    """Feeds one reader; anything but what it may raise is an error."""
    read, good, may_raise = READERS[name]
    for content in good:
        read(content)  # what is not damaged is read

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(damaged(good))
    def any_content(content):
        with contextlib.suppress(may_raise), warnings.catch_warnings():
            # Python's own reader of a weights file's program warns of escapes in damaged names.
            warnings.filterwarnings("ignore", "invalid escape sequence", DeprecationWarning)
            read(content)

    any_content()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000, help="for each reader")
    parser.add_argument("--reader", default="all", choices=["all", *READERS])
    given = parser.parse_args()
    for name in READERS if given.reader == "all" else [given.reader]:
        began = time.monotonic()
        fuzz(name, given.examples)
        seconds = round(time.monotonic() - began)
        found = {"inputs": given.examples, "seconds": seconds, "other errors than documented": 0}
        record("fuzz", name, found, "python -m tests.stress.fuzz")
        print(f"{name}: {given.examples} inputs in {seconds} s", flush=True)


if __name__ == "__main__":
    main()
