"""Files of torch.save, read without PyTorch: every dtype and layout, and what is refused by name.

The committed files were made by reference/make_state_dicts.py with PyTorch 2.13; others are written here.
"""

import hashlib
import os
import pathlib
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from gan_jax import metrics
from gan_jax.metrics._files import read_arrays
from gan_jax.metrics._state_dict import _OPERATIONS

FILES = pathlib.Path(__file__).resolve().parent / "reference" / "state_dicts"

EXPECTED = {
    "weight": np.ones(2, np.float32),
    "bias": np.zeros(2, np.float32),
    "running_mean": np.array([1, 2], np.float32),
    "running_var": np.ones(2, np.float32),
    "num_batches_tracked": np.array(0),
    "base": np.arange(24, dtype=np.float32).reshape(4, 6),
    "transposed": np.arange(24, dtype=np.float32).reshape(4, 6).T,
    "tail": np.array([20, 21, 22, 23], np.float32),
    "parameter": np.array([0.5, -0.5], np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "half": np.array([1.5, -2], np.float16),
    "bfloat16": np.array([1.5, -3], ml_dtypes.bfloat16),
    "double": np.array([1 / 3]),
    **{name: np.array([0, 1, 1], name) for name in ("int8", "int16", "int32", "int64", "uint8", "bool")},
}


def check(found):
    assert found.keys() == EXPECTED.keys()
    for name, array in EXPECTED.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", ["zipped.pth", "streamed.pth", "tensors.safetensors"])
def test_every_layout_and_dtype_is_read(name):
    check(read_arrays(FILES / name))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_files_of_the_present_pytorch_are_read(zipped, protocol, tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 5), torch.nn.BatchNorm2d(3))
    options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": protocol}
    torch.save(layer.state_dict(), tmp_path / "w.pth", **options)
    found = read_arrays(tmp_path / "w.pth")
    assert found.keys() == layer.state_dict().keys()
    for name, tensor in layer.state_dict().items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("script.pt", "TorchScript archive, which holds code. Take the file of tensors"),
        ("module.pth", "it asks for torch.nn.modules.linear.Linear"),
        ("nested.pth", "its entry 'state_dict' is a dict, not a tensor"),
    ],
)
def test_other_files_of_pytorch_are_refused_by_name(name, reason):
    with pytest.raises(ValueError, match=reason):
        read_arrays(FILES / name)


class Command:
    """What a stranger would put into a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive_of(program, path, extra=()):
    """The program in the layout since PyTorch 1.6."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for name, data in extra:
            archive.writestr(f"archive/{name}", data)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (pickle.dumps({"w": Command(os.system, "touch ran")}, 2), r"it asks for (posix|nt)\.system"),
        (pickle.dumps({"w": Command(os.system, "touch ran")}, 4), r"it asks for (posix|nt)\.system"),
        (pickle.dumps({"w": Command(eval, "1")}, 2), r"it asks for (__builtin__|builtins)\.eval"),
        # OrderedDict is allowed, its class method is another name.
        (b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.", "OrderedDict.fromkeys"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "not a complete file"),
        (b"\x80\x02}(K\x01K\x02u.", "its entry 1 is a int"),
        (b"\x80\x02]q\x00h\x00a.", "it holds a list"),
        (b"\x80\x02}X\x01\x00\x00\x00aX\x01\x00\x00\x00bs.", "its entry 'a' is a str"),
        (b"(i__main__\nX\n.", "it uses the instruction INST"),
        (b"\x80\x02}" + b"(" * 3 + b"t" * 3 + b"Ns.", "a key of a dictionary is a tuple"),
        (b"\x80\x02K\x01Q.", "refers to something outside"),
        (b"\x80\x02", "not a complete file"),
        (b"", "not a complete file"),
    ],
)
def test_programs_that_are_no_tensors_are_refused_and_never_run(program, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive_of(program, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=reason):
        read_arrays(tmp_path / "w.pth")
    assert not pathlib.Path("ran").exists()


def test_another_program_of_python_is_no_file_of_torch(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"w": 1}, 2))
    with pytest.raises(ValueError, match=r"no file of torch\.save but another program"):
        read_arrays(tmp_path / "w.pth")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"w": 1}, 2))
    with pytest.raises(ValueError, match="can run code when they are read"):
        read_arrays(tmp_path / "w.pkl")


def number(value):
    return b"J" + struct.pack("<i", value) if isinstance(value, int) else b"G" + struct.pack(">d", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def rebuilt(shape, strides, offset=0):
    """The program of a dictionary of one float tensor on a storage of six, as torch.save writes it."""
    storage = text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(6)
    sizes = number(offset) + numbers(shape) + numbers(strides)
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + sizes + b"\x89NtR"
    return b"\x80\x02}" + text("w") + tensor + b"s."


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "reason"),
    [
        ((2, 3), (3, 1), 0, None),
        ((3, 2), (1, 3), 0, None),
        ((2, 2), (1, 1), 1, None),
        ((2, 3), (3, 1), 1, "reaches beyond its storage of 6"),
        ((2, 3), (4, 1), 0, "reaches beyond its storage of 6"),
        ((10**9,), (0,), 0, "repeats or exceeds what is stored"),
        ((6,), (-1,), 5, "repeats or exceeds what is stored"),
        ((6,), (1,), -1, "repeats or exceeds what is stored"),
        ((2, 3), (3,), 0, "other numbers of sizes and of strides"),
        ((2.0,), (1,), 0, "rebuilt from something else"),
    ],
)
def test_views_stay_within_their_storage(shape, strides, offset, reason, tmp_path):
    data = np.arange(6, dtype="<f4")
    archive_of(rebuilt(shape, strides, offset), tmp_path / "w.pth", [("data/0", data.tobytes())])
    if reason is None:
        found = read_arrays(tmp_path / "w.pth")["w"]
        places = np.indices(shape).reshape(len(shape), -1).T @ strides + offset
        np.testing.assert_array_equal(found.ravel(), data[places])
        assert not found.flags.writeable
    else:
        with pytest.raises(ValueError, match=reason):
            read_arrays(tmp_path / "w.pth")


def test_storages_have_the_size_that_is_said(tmp_path):
    program = rebuilt((2, 3), (3, 1))
    archive_of(program, tmp_path / "w.pth", [("data/0", b"\0" * 23)])
    with pytest.raises(ValueError, match="storage '0' has 23 bytes, not 6 of float32"):
        read_arrays(tmp_path / "w.pth")
    archive_of(program, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="storage '0' is missing"):
        read_arrays(tmp_path / "w.pth")
    archive_of(program, tmp_path / "w.pth", [("data/0", b"\0" * 24), ("byteorder", b"big")])
    with pytest.raises(ValueError, match="big-endian"):
        read_arrays(tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(ValueError, match="its entries are compressed"):
        read_arrays(tmp_path / "w.pth")


def test_flipped_bits_and_cut_ends_are_noticed(tmp_path):
    content = bytearray((FILES / "zipped.pth").read_bytes())
    content[content.index(np.arange(24, dtype="<f4").tobytes()) + 5] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match="not a complete file"):
        read_arrays(tmp_path / "w.pth")
    for name in ("zipped.pth", "streamed.pth"):
        (tmp_path / "w.pth").write_bytes((FILES / name).read_bytes()[:-1])
        with pytest.raises(ValueError, match="not a complete file"):
            read_arrays(tmp_path / "w.pth")


def test_a_name_that_ends_in_a_hash_is_checked(tmp_path):
    content = (FILES / "zipped.pth").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    right, wrong = tmp_path / f"weights-{digest}.pth", tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    for path in (right, wrong):
        path.write_bytes(content)
    check(read_arrays(right))
    with pytest.raises(ValueError, match=f"begins with {digest}, but its name says 6726825d: fetch it again"):
        metrics.inception_extractor(wrong)


def test_the_machine_has_no_instruction_that_imports_or_makes_objects():
    assert not {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"} & set(_OPERATIONS)
