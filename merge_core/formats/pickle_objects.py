"""What a pickle of tensors may name, and what is made of it: plain records, and no code of anybody's.

Every global that is not listed here is refused by name. None of them is imported: each stands for a function
of ours that checks what it is given.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.safetensors_header import MOST_DIMENSIONS, MOST_ELEMENTS
from merge_core.tensors import BY_LABEL, DType

MOST_ENCODED = 1 << 16
"""Bytes that `_codecs.encode` may make: it serves numpy scalars, which have a few."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of elements in the file, by its key; bytes where the pickle says nothing of a type."""

    key: str
    dtype: DType | None
    elements: int


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A view of a storage as the pickle claims it; nothing of it is believed before `torch_file` has checked it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(slots=True)
class ScalarType:
    """numpy's dtype, little-endian, as far as scalars need it."""

    code: str
    is_little: bool = field(default=True)


@dataclass(frozen=True, slots=True)
class StorageType:
    """torch's class of a storage, by the type of its elements; None for bytes without a type."""

    dtype: DType | None


@dataclass(frozen=True, slots=True)
class ElementType:
    """torch.float32 and the like, as a value."""

    dtype: DType


Function = Callable[[tuple[Any, ...], str], Any]
"""Makes a value of the arguments that the pickle gives; the text says in which file, for errors."""

SCALARS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def misused(name: str, file: str, found: str = "other arguments") -> FileError:
    return FileError(
        "the pickle misuses a function", where=f"{file}: {name}", found=found, expected="what torch writes"
    )


def _size(arguments: tuple[Any, ...], file: str) -> tuple[int, ...]:
    if len(arguments) != 1:
        raise misused("torch.Size", file)
    return counts(arguments[0], "torch.Size", file)


def counts(value: object, name: str, file: str) -> tuple[int, ...]:
    """A short tuple or list of integers from 0 up to 2^60."""
    if not isinstance(value, (tuple, list)) or len(value) > MOST_DIMENSIONS:
        raise misused(name, file, "no short tuple of integers")
    if not all(type(one) is int and 0 <= one < MOST_ELEMENTS for one in value):
        raise misused(name, file, "a length that is no integer from 0 below 2^60")
    return tuple(value)


def _tensor(arguments: tuple[Any, ...], file: str) -> PickledTensor:
    name = "torch._utils._rebuild_tensor"
    if len(arguments) < 4 or not isinstance(arguments[0], Storage):
        raise misused(name, file)
    (offset,) = counts(arguments[1:2], name, file)
    shape, strides = counts(arguments[2], name, file), counts(arguments[3], name, file)
    if len(shape) != len(strides):
        raise misused(name, file, f"{len(shape)} lengths and {len(strides)} strides")
    return PickledTensor(arguments[0], offset, shape, strides)


def _parameter(arguments: tuple[Any, ...], file: str) -> PickledTensor:
    if not arguments or not isinstance(arguments[0], PickledTensor):
        raise misused("torch._utils._rebuild_parameter", file)
    return arguments[0]


def _encoded(arguments: tuple[Any, ...], file: str) -> bytes:
    is_latin = len(arguments) == 2 and arguments[1] == "latin1" and isinstance(arguments[0], str)
    if not is_latin or len(arguments[0]) > MOST_ENCODED:
        raise misused("_codecs.encode", file)
    try:
        return bytes(arguments[0].encode("latin-1"))
    except UnicodeEncodeError as error:
        raise misused("_codecs.encode", file, "characters outside latin-1") from error


def _scalar_type(arguments: tuple[Any, ...], file: str) -> ScalarType:
    if not arguments or not isinstance(arguments[0], str):
        raise misused("numpy.dtype", file)
    code = arguments[0].lstrip("<|=")
    if code not in SCALARS:
        where, expected = f"{file}: numpy.dtype", "one of " + ", ".join(SCALARS)
        raise UnsupportedError("this type is not read", where=where, found=repr(code[:20]), expected=expected)
    return ScalarType(code)


def _scalar(arguments: tuple[Any, ...], file: str) -> int | float | bool:
    name = "numpy scalar"
    if len(arguments) != 2 or not isinstance(arguments[0], ScalarType) or not isinstance(arguments[1], bytes):
        raise misused(name, file)
    kind = np.dtype("<" + arguments[0].code)
    if len(arguments[1]) != kind.itemsize or not arguments[0].is_little:
        raise misused(name, file, f"{len(arguments[1])} bytes for {arguments[0].code}")
    value: int | float | bool = np.frombuffer(arguments[1], dtype=kind)[0].item()
    return value


def _ordered_dict(arguments: tuple[Any, ...], file: str) -> dict[Any, Any]:
    if arguments:
        raise misused("collections.OrderedDict", file)
    return {}


STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}

FUNCTIONS: dict[str, Function] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "_codecs.encode": _encoded,
    "numpy.dtype": _scalar_type,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}

VALUES: dict[str, StorageType | ElementType] = (
    {f"torch.{name}": StorageType(BY_LABEL[label]) for name, label in STORAGES.items()}
    | {"torch.storage.UntypedStorage": StorageType(None), "torch.UntypedStorage": StorageType(None)}
    | {f"torch.{dtype.label}": ElementType(dtype) for dtype in DType}
)


def find(module: str, name: str, file: str) -> Any:
    """What `module.name` stands for. Raises UnsupportedError, which names it, for anything that is not listed."""
    full = f"{module}.{name}"
    found = FUNCTIONS.get(full) or VALUES.get(full)
    if found is None:
        message = "the pickle names something that is not loaded, since it could run code"
        raise UnsupportedError(message, where=file, found=full[:200], expected="tensors in dicts, lists and tuples")
    return found


def settle(target: object, state: object, file: str) -> None:
    """What BUILD does to an object: a dtype's byte order; the attributes of a dict say nothing of weights."""
    if isinstance(target, ScalarType):
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise misused("numpy.dtype", file, "another byte order")
    elif not isinstance(target, dict):
        raise misused("BUILD", file, f"the state of a {type(target).__name__}")
