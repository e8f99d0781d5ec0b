"""What torch.save writes, read without torch and without running anything: the zip layout, and the one before it.

The zip layout is an archive of stored members: NAME/data.pkl, and NAME/data/KEY for each storage. The older one
is five pickles (magic, protocol, system, value, keys) and then, for each key, a count of elements and the bytes.
Tensors are views of the mapped file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.pickle_objects import PickledTensor, Storage, StorageType
from merge_core.formats.restricted_pickle import MOST_BYTES, interpret
from merge_core.formats.safetensors_header import MOST_NAME_LENGTH
from merge_core.formats.zip_members import Member, is_zip, read_members
from merge_core.mapped_file import map_file
from merge_core.stored import StoredTensor
from merge_core.tensors import TensorSpec

Bytes = NDArray[np.uint8]

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MOST_STORAGES = 200_000
MOST_SHARING = 4
"""How often the bytes of a file may be used: tied weights share theirs, a bomb shares them a thousand times."""
MOST_COPIED = 1 << 30
"""Bytes of transposed tensors of one file, which are copied into order."""


@dataclass(frozen=True, slots=True)
class TorchFile:
    """A pickled value whose tensors are `PickledTensor`s, and what is needed to look at them."""

    content: Any
    storages: Mapping[str, Bytes]
    nbytes: int
    file: str

    def tensors(self, content: Mapping[Any, Any] | None = None) -> dict[str, StoredTensor]:
        """Every tensor of a dict of tensors by name, the file's own where none is given; FileError for what is none."""
        found = self.content if content is None else content
        if not isinstance(found, dict):
            raise _other(self.file, f"a {type(found).__name__}", "a dict of tensors")
        tensors = {self._name(name): self.tensor(name, value) for name, value in found.items()}
        self._check_sharing(tensors)
        return tensors

    def tensor(self, name: str, value: object) -> StoredTensor:
        """A value of the pickle as a tensor of this name; FileError for one that does not lie within its storage."""
        where = f"{self.file}: tensor {name[:200]!r}"
        if not isinstance(value, PickledTensor):
            raise FileError("not a tensor", where=where, found=type(value).__name__, expected="a tensor")
        data, dtype = self.storages[value.storage.key], value.storage.dtype
        if dtype is None:
            raise UnsupportedError("a storage without a type is not read", where=where, expected="a typed storage")
        spec = TensorSpec(name, dtype, value.shape)
        return StoredTensor(spec, _view(data, value, spec, where), self.file)

    def _name(self, name: object) -> str:
        if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME_LENGTH or not name.isprintable():
            raise _other(self.file, f"a {type(name).__name__} as a name", "printable names of tensors")
        return name

    def _check_sharing(self, tensors: Mapping[str, StoredTensor]) -> None:
        total = sum(tensor.spec.nbytes for tensor in tensors.values())
        if total > MOST_SHARING * self.nbytes:
            message = "the tensors share their bytes too often"
            expected = f"at most {MOST_SHARING * self.nbytes} bytes"
            raise FileError(message, where=self.file, found=f"{total} bytes", expected=expected)


def open_torch_file(path: Path, file: str | None = None) -> TorchFile:
    """What the file at `path` holds; `file` is the name that errors use.

    Raises FileError for a broken file, UnsupportedError for one that names anything but data.
    """
    name = file or path.name
    size = path.stat().st_size
    if size < 8:
        raise FileError("too short to be torch's", where=name, found=f"{size} bytes", expected="at least 8")
    raw = map_file(path)
    content, storages = _read_zip(raw, name) if is_zip(raw) else _read_legacy(raw, name)
    return TorchFile(content, storages, raw.size, name)


def open_pickled(path: Path, file: str | None = None) -> Mapping[str, StoredTensor]:
    """Every tensor of a pickled state dict by name, as views of the mapped file."""
    return open_torch_file(path, file).tensors()


def _read_zip(raw: Bytes, file: str) -> tuple[Any, Mapping[str, Bytes]]:
    members = read_members(raw, file)
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise _other(file, f"{len(pickles)} pickles", "an archive with one data.pkl, as torch.save writes")
    folder = pickles[0].removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order is not None and _bytes(raw, order) != b"little":
        raise UnsupportedError("big-endian files are not read", where=file, expected="little-endian")
    storages: dict[str, Bytes] = {}

    def look_up(storage: Storage, _: str) -> None:
        member = members.get(f"{folder}data/{storage.key}")
        if member is None:
            raise FileError("a storage is missing", where=file, found=repr(storage.key[:200]), expected="its member")
        _check_length(storage, member.end - member.begin, file)
        storages[storage.key] = raw[member.begin : member.end]

    if members[pickles[0]].end - members[pickles[0]].begin > MOST_BYTES:
        raise FileError("the pickle is too large", where=file, expected=f"at most {MOST_BYTES} bytes")
    content, _ = interpret(_bytes(raw, members[pickles[0]]), file, _storage_reader(file, look_up))
    return content, storages


def _bytes(raw: Bytes, member: Member) -> bytes:
    return raw[member.begin : member.end].tobytes()


def _read_legacy(raw: Bytes, file: str) -> tuple[Any, Mapping[str, Bytes]]:
    claimed: dict[str, Storage] = {}

    def note(storage: Storage, _: str) -> None:
        if claimed.setdefault(storage.key, storage) != storage:
            raise FileError("a storage is of two kinds", where=file, found=repr(storage.key[:200]), expected="one")

    head = raw[:MOST_BYTES].tobytes()
    values, end = [], 0
    for position in range(5):
        value, end = interpret(head, file, _storage_reader(file, note), end)
        if (position, value) in ((0, MAGIC), (1, PROTOCOL)) or position >= 2:
            values.append(value)
        else:
            raise _other(file, "another beginning", "a file of torch.save")
    return values[3], _legacy_storages(raw, end, values[4], claimed, file)


def _legacy_storages(
    raw: Bytes, at: int, keys: object, claimed: Mapping[str, Storage], file: str
) -> Mapping[str, Bytes]:
    if not isinstance(keys, list) or set(map(str, keys)) != set(claimed) or len(keys) != len(claimed):
        raise FileError("the storages do not match the tensors", where=file, expected="one key for each storage")
    storages: dict[str, Bytes] = {}
    for key in map(str, keys):
        storage = claimed[key]
        if storage.dtype is None or at + 8 > raw.size:
            raise FileError("the file is cut off", where=file, found=f"{raw.size} bytes", expected="all storages")
        elements = int.from_bytes(raw[at : at + 8].tobytes(), "little")
        end = at + 8 + elements * storage.dtype.itemsize
        if elements != storage.elements or end > raw.size:
            found = f"{elements} elements in {raw.size - at - 8} bytes"
            raise FileError("a storage is cut off", where=file, found=found, expected=f"{storage.elements} elements")
        storages[key], at = raw[at + 8 : end], end
    return storages


def _storage_reader(file: str, note: Callable[[Storage, str], None]) -> Callable[[object], Storage]:
    seen: dict[str, Storage] = {}

    def read(identity: object) -> Storage:
        storage = _storage(identity, file)
        if storage.key not in seen:
            note(storage, file)
        if seen.setdefault(storage.key, storage) != storage or len(seen) > MOST_STORAGES:
            raise FileError("a storage is of two kinds", where=file, found=repr(storage.key[:200]), expected="one")
        return storage

    return read


def _storage(identity: object, file: str) -> Storage:
    """The storage of ('storage', type, key, device, elements), which the older layout ends with a view's data."""
    if isinstance(identity, tuple) and len(identity) in (5, 6):
        word, kind, key, _, elements, *view = identity
        is_sound = type(elements) is int and 0 <= elements < 2**60 and (not view or view[0] is None)
        if word == "storage" and isinstance(kind, StorageType) and isinstance(key, str) and is_sound:
            return Storage(key, kind.dtype, elements)
    raise FileError("a storage is malformed", where=file, expected="what torch.save writes")


def _check_length(storage: Storage, nbytes: int, file: str) -> None:
    expected = storage.elements * (storage.dtype.itemsize if storage.dtype is not None else 1)
    if nbytes != expected:
        where = f"{file}: storage {storage.key[:200]!r}"
        raise FileError("a storage has another size", where=where, found=f"{nbytes} bytes", expected=f"{expected}")


def _view(data: Bytes, tensor: PickledTensor, spec: TensorSpec, where: str) -> Bytes:
    """The tensor's bytes in row-major order: a view, or a copy of what lies in another order."""
    item = spec.dtype.itemsize
    if spec.size == 0:
        return data[:0]
    last = tensor.offset + sum((length - 1) * stride for length, stride in zip(spec.shape, tensor.strides, strict=True))
    if (last + 1) * item > data.size:
        found, expected = f"element {last}", f"below {data.size // item}"
        raise FileError("the tensor lies outside of its storage", where=where, found=found, expected=expected)
    if _is_row_major(spec.shape, tensor.strides):
        return data[tensor.offset * item : (last + 1) * item]
    return _in_order(data, tensor, spec, where)


def _is_row_major(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    inner = [prod(shape[place + 1 :]) for place in range(len(shape))]
    return all(length == 1 or stride == one for length, stride, one in zip(shape, strides, inner, strict=True))


def _in_order(data: Bytes, tensor: PickledTensor, spec: TensorSpec, where: str) -> Bytes:
    if _overlaps(spec.shape, tensor.strides):
        raise FileError("elements of the tensor overlap", where=where, found=tensor.strides, expected="a plain tensor")
    if spec.nbytes > MOST_COPIED:
        expected = f"at most {MOST_COPIED} bytes, or a contiguous tensor"
        raise UnsupportedError("the tensor lies out of order", where=where, found=f"{spec.nbytes}", expected=expected)
    item = spec.dtype.itemsize
    strides = [0 if length == 1 else stride * item for length, stride in zip(spec.shape, tensor.strides, strict=True)]
    view = np.lib.stride_tricks.as_strided(data[tensor.offset * item :], (*spec.shape, item), (*strides, 1))
    return np.ascontiguousarray(view).reshape(-1)


def _overlaps(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    reach = 0
    for stride, length in sorted((stride, length) for length, stride in zip(shape, strides, strict=True) if length > 1):
        if stride <= reach:
            return True
        reach += (length - 1) * stride
    return False


def _other(file: str, found: str, expected: str) -> FileError:
    return FileError("the pickle holds something else", where=file, found=found, expected=expected)
