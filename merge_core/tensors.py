"""What a tensor is before it has bytes: a name, a dtype and a shape."""

from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Literal

Kind = Literal["float", "integer", "bool"]


class DType(Enum):
    """The element types of safetensors, by their name in its header; `label` is torch's name for it."""

    F64 = ("F64", "float64", 8, "float")
    F32 = ("F32", "float32", 4, "float")
    F16 = ("F16", "float16", 2, "float")
    BF16 = ("BF16", "bfloat16", 2, "float")
    F8_E4M3 = ("F8_E4M3", "float8_e4m3fn", 1, "float")
    F8_E5M2 = ("F8_E5M2", "float8_e5m2", 1, "float")
    I64 = ("I64", "int64", 8, "integer")
    I32 = ("I32", "int32", 4, "integer")
    I16 = ("I16", "int16", 2, "integer")
    I8 = ("I8", "int8", 1, "integer")
    U64 = ("U64", "uint64", 8, "integer")
    U32 = ("U32", "uint32", 4, "integer")
    U16 = ("U16", "uint16", 2, "integer")
    U8 = ("U8", "uint8", 1, "integer")
    BOOL = ("BOOL", "bool", 1, "bool")

    def __init__(self, code: str, label: str, itemsize: int, kind: Kind) -> None:
        self.code = code
        self.label = label
        self.itemsize = itemsize
        self.kind = kind

    @property
    def mergeable(self) -> bool:
        """True for the types the kernels widen to float32; float8 carries scales elsewhere and is refused."""
        return self in (DType.F64, DType.F32, DType.F16, DType.BF16)


BY_CODE = {dtype.code: dtype for dtype in DType}
BY_LABEL = {dtype.label: dtype for dtype in DType}


def row_size(shape: tuple[int, ...]) -> int:
    """Elements for each index of the first dimension (an output of the layer); a 1-D or 0-d tensor is one row."""
    return prod(shape[1:]) if len(shape) > 1 else prod(shape)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, dtype and shape."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements; 1 for a 0-d tensor."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.name} {self.dtype.label}{list(self.shape)}"
