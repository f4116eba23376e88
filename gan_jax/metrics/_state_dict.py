"""PyTorch's files of named tensors, read without PyTorch and without running anything that is in them.

`torch.save` writes a program for a stack machine, which calls functions by name; a file of a stranger can name any
function. The machine here knows the instructions that build plain containers, and three functions: `OrderedDict`,
the rebuilding of a tensor, and that of a parameter. They make arrays and never call what a file names. Everything
else is refused by name.

Both layouts are read: the ZIP archive that PyTorch writes since 1.6, and the single stream of older versions.
"""

from __future__ import annotations

import io
import math
import pathlib
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gan_jax.data.errors import DAMAGED

_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_PROTOCOL = 1001
_DTYPES: dict[str, np.dtype[Any]] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class _Refused(ValueError):
    """The file asks for something that a file of tensors has no need of."""


class _Storage(NamedTuple):
    """A storage that tensors refer to; its numbers may only be known at the end of the file."""

    key: str
    dtype: np.dtype[Any]
    number: int


class _Tensor(NamedTuple):
    """A view of a storage, in numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a `.pth` or `.pt` file, by name; arrays are read-only views of what was read.

    Raises:
      ValueError: if the file is damaged, is of another kind (a TorchScript archive, a whole module), or holds
        anything but named tensors.
    """
    content = path.read_bytes()
    try:
        if content[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return _read_archive(archive, len(content))
        if content[:1] == b"\x80":
            return _read_stream(content)
    except _Refused as error:
        raise ValueError(f"{str(path)!r} is not read: {error}.") from None
    except DAMAGED as error:
        raise ValueError(f"{str(path)!r} is not a complete file of torch.save: {error}.") from error
    raise ValueError(
        f"{str(path)!r} is no file of torch.save: it begins with {content[:8]!r}, neither as a ZIP archive nor as "
        "the stream of older versions."
    )


def _read_archive(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    """The layout since PyTorch 1.6: `NAME/data.pkl` and a file `NAME/data/KEY` for each storage."""
    names = archive.namelist()
    programs = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise _Refused("it is a ZIP archive without the one data.pkl that torch.save writes")
    root = programs[0].removesuffix("data.pkl")
    if any(name == f"{root}constants.pkl" or name.startswith(f"{root}code/") for name in names):
        raise _Refused(
            "it is a TorchScript archive, which holds code. Take the file of tensors that it was made from, or "
            "save its state_dict() once with PyTorch"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise _Refused("its entries are compressed, which torch.save never does")
    if sum(entry.file_size for entry in archive.infolist()) > size:
        raise _Refused("its entries overlap")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise _Refused("its numbers are big-endian")
    tensors = _tensors(_run(io.BytesIO(archive.read(programs[0]))))
    storages: dict[str, np.ndarray] = {}
    for tensor in tensors.values():
        storage = tensor.storage
        if storage.key not in storages:
            entry = f"{root}data/{storage.key}"
            if entry not in names:
                raise ValueError(f"storage {storage.key!r} is missing")
            storages[storage.key] = _as_array(storage, archive.read(entry))
    return _views(tensors, storages)


def _read_stream(content: bytes) -> dict[str, np.ndarray]:
    """The layout before PyTorch 1.6: five programs, then the storages, each after its number of entries."""
    stream = io.BytesIO(content)
    if _run(stream) != _MAGIC:
        raise _Refused(
            "it is no file of torch.save but another program of Python's, which can run code when it is read. Save "
            "the arrays that it holds as .npz or .safetensors, where you trust it"
        )
    if (protocol := _run(stream)) != _OLD_PROTOCOL:
        raise _Refused(f"its protocol is {protocol!r}, not {_OLD_PROTOCOL}")
    system = _run(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _Refused("its numbers are big-endian")
    tensors = _tensors(_run(stream))
    expected = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    keys = _run(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("the list of its storages is damaged")
    storages: dict[str, np.ndarray] = {}
    for key in keys:
        if key not in expected:
            raise ValueError(f"storage {key!r} belongs to no tensor")
        (number,) = struct.unpack("<q", stream.read(8))
        if number != expected[key].number:
            raise ValueError(f"storage {key!r} has {number} entries, not {expected[key].number}")
        data = stream.read(number * expected[key].dtype.itemsize)
        storages[key] = _as_array(expected[key], data)
    if missing := expected.keys() - storages.keys():
        raise ValueError(f"storage {min(missing)!r} is missing")
    return _views(tensors, storages)


def _as_array(storage: _Storage, data: bytes) -> np.ndarray:
    if len(data) != storage.number * storage.dtype.itemsize:
        raise ValueError(
            f"storage {storage.key!r} has {len(data)} bytes, not {storage.number} of {storage.dtype.name}"
        )
    return np.frombuffer(data, storage.dtype)


def _tensors(made: Any) -> dict[str, _Tensor]:
    """The result of a file's program, if it is a dictionary of named tensors."""
    if not isinstance(made, dict):
        raise _Refused(f"it holds {_named(made)}, not a dictionary of named tensors")
    for name, value in made.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise _Refused(
                f"its entry {name!r} is {_named(value)}, not a tensor. Save a state_dict() and nothing beside it"
            )
    return made


def _named(value: Any) -> str:
    return f"a {type(value).__name__.removeprefix('_').lower()}"


def _views(tensors: Mapping[str, _Tensor], storages: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: _view(name, tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _view(name: str, tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    """The tensor's numbers, checked to lie in its storage."""
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    entries = math.prod(tensor.shape)
    last = tensor.offset + sum(
        (n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True) if n
    )
    if min(numbers) < 0 or len(tensor.shape) > 32 or entries > len(storage):
        raise _Refused(f"tensor {name!r} of shape {tensor.shape} repeats or exceeds what is stored of it")
    if entries and last >= len(storage):
        raise ValueError(f"tensor {name!r} reaches beyond its storage of {len(storage)} entries")
    if not entries:
        return np.zeros(tensor.shape, storage.dtype)
    size = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[tensor.offset :], tensor.shape, tuple(step * size for step in tensor.strides), writeable=False
    )


# ---------------------------------------------------------------------------------------------------------
# The stack machine


class _Name(NamedTuple):
    """A function or class that a file refers to, which is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def _ordered_dict(pairs: Any = ()) -> dict[str | int, Any]:
    return {_key(name): value for name, value in pairs}


def _key(name: Any) -> str | int:
    """A key of a dictionary; the hash of nested tuples would recurse as deep as a file likes."""
    if not isinstance(name, str | int):
        raise _Refused(f"a key of a dictionary is {_named(name)}")
    return name


def _rebuilt_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    sizes = [offset, *shape, *strides]
    if not isinstance(storage, _Storage) or not all(type(size) is int for size in sizes):
        raise ValueError("a tensor is rebuilt from something else than a storage and sizes")
    if len(shape) != len(strides):
        raise ValueError("a tensor has other numbers of sizes and of strides")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuilt_parameter(data: Any, *_: Any) -> _Tensor:
    if not isinstance(data, _Tensor):
        raise ValueError("a parameter is rebuilt from something else than a tensor")
    return data


_CALLS: dict[_Name, Callable[..., Any]] = {
    _Name("collections", "OrderedDict"): _ordered_dict,
    _Name("torch._utils", "_rebuild_tensor"): _rebuilt_tensor,
    _Name("torch._utils", "_rebuild_tensor_v2"): _rebuilt_tensor,
    _Name("torch._utils", "_rebuild_parameter"): _rebuilt_parameter,
}
_STORAGES = {_Name("torch", name): dtype for name, dtype in _DTYPES.items()}
_MARK = object()


def _allowed(name: _Name) -> _Name:
    if name not in _CALLS and name not in _STORAGES:
        raise _Refused(
            f"it asks for {name}, which no file of named tensors needs. Where you trust it, load it with PyTorch "
            "and save its state_dict()"
        )
    return name


def _stored(identity: Any) -> _Storage:
    """What a persistent identity names: `("storage", its type, its key, its device, its number of entries)`."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise _Refused("it refers to something outside of it that is no storage")
    kind, key, number = identity[1], identity[2], identity[4]
    if not isinstance(kind, _Name) or not isinstance(key, str) or type(number) is not int or number < 0:
        raise ValueError("a reference to a storage is damaged")
    if kind not in _STORAGES:
        raise _Refused(f"it asks for {kind} as a type of storage")
    if len(identity) == 6 and identity[5] is not None:
        raise _Refused("its storages are views of others, as in files before PyTorch 0.4")
    return _Storage(key, _STORAGES[kind], number)


class _Machine:
    """The stack and the memo of one program."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        place = next((i for i in reversed(range(len(self.stack))) if self.stack[i] is _MARK), None)
        if place is None:
            raise ValueError("there is no mark on the stack")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"a {kind.__name__} was expected on the stack")
        return self.stack[-1]

    def pop(self, number: int) -> tuple[Any, ...]:
        if len(self.stack) < number:
            raise ValueError("the stack is empty")
        items = tuple(self.stack[len(self.stack) - number :])
        del self.stack[len(self.stack) - number :]
        return items

    def set_items(self, items: list[Any]) -> None:
        into = self.top(dict)
        into.update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def call(self) -> None:
        function, arguments = self.pop(2)
        if not isinstance(function, _Name) or function not in _CALLS or not isinstance(arguments, tuple):
            raise _Refused(f"it calls {function if isinstance(function, _Name) else _named(function)}")
        self.stack.append(_CALLS[function](*arguments))

    def build(self) -> None:
        """State of an ordered dictionary (`state_dict()`'s `_metadata`), which is left out."""
        into, state = self.pop(2)
        if not isinstance(into, dict) or not isinstance(state, dict):
            raise _Refused(f"it sets the state of {_named(into)}")
        self.stack.append(into)


_Operation = Callable[[_Machine, Any], None]


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _pushing(make: Callable[[], Any]) -> _Operation:
    return lambda machine, _: machine.stack.append(make())


def _tupling(number: int) -> _Operation:
    return lambda machine, _: machine.stack.append(machine.pop(number))


def _put(machine: _Machine, place: Any) -> None:
    machine.memo[place] = machine.stack[-1]


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _get(machine: _Machine, place: Any) -> None:
    machine.stack.append(machine.memo[place])


def _global(machine: _Machine, name: Any) -> None:
    machine.stack.append(_allowed(_Name(*name.split(" ", 1))))


def _stack_global(machine: _Machine, _: Any) -> None:
    module, name = machine.pop(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("the name of a function is no text")
    machine.stack.append(_allowed(_Name(module, name)))


def _append(machine: _Machine, _: Any) -> None:
    (item,) = machine.pop(1)
    machine.top(list).append(item)


def _appends(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.top(list).extend(items)


def _nothing(machine: _Machine, _: Any) -> None:
    pass


_OPERATIONS: dict[str, _Operation] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _push),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"), _push),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _get),
    "NONE": _pushing(lambda: None),
    "NEWTRUE": _pushing(lambda: True),
    "NEWFALSE": _pushing(lambda: False),
    "EMPTY_DICT": _pushing(dict),
    "EMPTY_LIST": _pushing(list),
    "EMPTY_TUPLE": _pushing(tuple),
    "MARK": _pushing(lambda: _MARK),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": _tupling(1),
    "TUPLE2": _tupling(2),
    "TUPLE3": _tupling(3),
    "MEMOIZE": _memoize,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": lambda machine, _: machine.set_items(list(machine.pop(2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.stack.append(_stored(*machine.pop(1))),
}


def _run(stream: io.BytesIO) -> Any:
    """Runs one program of the stream, up to and with its end.

    Raises:
      ValueError, LookupError, TypeError: if the program is damaged; a `_Refused` if it needs anything but tensors.
    """
    machine = _Machine()
    for name, argument in _instructions(stream):
        if name == "STOP":
            (result,) = machine.pop(1)
            return result
        if name not in _OPERATIONS:
            raise _Refused(f"it uses the instruction {name}, which no file of named tensors needs")
        _OPERATIONS[name](machine, argument)
    raise ValueError("a program has no end")


def _instructions(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    for operation, argument, _ in pickletools.genops(stream):
        yield operation.name, argument
