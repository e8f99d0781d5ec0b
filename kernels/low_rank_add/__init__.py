"""Adding a low-rank delta to any run of elements, without building it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.dispatch import operation
from kernels.low_rank_add import cpu
from kernels.storage import narrow, storage_dtype, widen
from kernels.stored_elements import Stored


@operation
def low_rank_add(out: Floats, columns: int, start: int, up: Floats, down: Floats, scale: float) -> Floats:
    """out[i, j] += Σ_k (scale·up[i, k])·down[k, j], in place, on flat elements [start, start + len(out)).

    `out` is float32 [elements], a run of a [rows, columns] tensor that may begin and end within a row; `up`
    is float32 [rows, rank], `down` [rank, columns]. k in order from 0.0, every product and sum rounded to
    float32: no BLAS, whose result depends on the shape it is given. Rank 0 adds nothing.
    """
    output("out", out, FLOAT32, out.shape[:1])
    _check(out.size, columns, start, up, down)
    if out.size:
        cpu.low_rank_add(out, columns, start, up, down, np.float32(scale))
    return out


def stored_low_rank_add(
    base: Stored,
    columns: int,
    start: int,
    up: Floats,
    down: Floats,
    scale: float,
    label: str,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """narrow(low_rank_add(widen(base), …), label), and from bfloat16 to bfloat16 in one go. numpy arrays only."""
    raw, kind = base
    check_array("base", raw, storage_dtype(kind), (None,))
    out = output("out", out, storage_dtype(label), raw.shape)
    _check(raw.size, columns, start, up, down)
    if not kind == label == "bfloat16":
        return narrow(low_rank_add(widen(raw, kind), columns, start, up, down, scale), label, out)
    if raw.size:
        addresses = raw.ctypes.data, out.ctypes.data
        cpu.bfloat16_low_rank_add(*addresses, raw.size, columns, start, up, down, np.float32(scale))
    return out


def _check(size: int, columns: int, start: int, up: Floats, down: Floats) -> None:
    rank = up.shape[-1]
    check_array("up", up, FLOAT32, (None, rank))
    check_array("down", down, FLOAT32, (rank, columns))
    if start < 0 or start + size > len(up) * columns:
        raise ValueError(f"start: found elements {start} to {start + size}, expected within 0 to {len(up) * columns}")
