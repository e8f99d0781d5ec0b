"""What every operation asks of its arguments; a few hundred nanoseconds, before any memory is touched."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
FLOAT64 = np.dtype(np.float64)


def check_array(name: str, array: Any, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> None:
    """Refuse an array that is not C-contiguous, of `dtype` and of `shape` (None: any length)."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: found {type(array).__name__}, expected a numpy array like the other arguments")
    if array.dtype != dtype or not array.flags.c_contiguous or not _fits(array.shape, shape):
        raise ValueError(f"{name}: found {_describe(array)}, expected C-contiguous {dtype} {_lengths(shape)}")


def output(name: str, out: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """`out` once checked, or a new array where it is None."""
    if out is None:
        return np.empty(shape, dtype)
    check_array(name, out, dtype, shape)
    if not out.flags.writeable:
        raise ValueError(f"{name}: found a read-only array, expected one that can be written")
    return out  # type: ignore[no-any-return]


def check_choice(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"{name}: found {value!r}, expected one of {', '.join(map(repr, choices))}")


def _fits(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    if found == expected or expected == (None,):
        return len(found) == len(expected)
    if len(found) != len(expected):
        return False
    return all(want is None or have == want for have, want in zip(found, expected, strict=True))


def _describe(array: NDArray[Any]) -> str:
    kind = "" if array.flags.c_contiguous else "non-contiguous "
    return f"{kind}{array.dtype} {list(array.shape)}"


def _lengths(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if length is None else str(length) for length in shape) + "]"
