"""Adding a low-rank delta to any run of elements, without building it."""

import numpy as np

from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.dispatch import operation
from kernels.low_rank_add import cpu


@operation
def low_rank_add(out: Floats, columns: int, start: int, up: Floats, down: Floats, scale: float) -> Floats:
    """out[i, j] += Σ_k (scale·up[i, k])·down[k, j], in place, on flat elements [start, start + len(out)).

    `out` is float32 [elements], a run of a [rows, columns] tensor that may begin and end within a row; `up`
    is float32 [rows, rank], `down` [rank, columns]. k in order from 0.0, every product and sum rounded to
    float32: no BLAS, whose result depends on the shape it is given. Rank 0 adds nothing.
    """
    rank = up.shape[-1]
    check_array("up", up, FLOAT32, (None, rank))
    check_array("down", down, FLOAT32, (rank, columns))
    output("out", out, FLOAT32, out.shape[:1])
    if start < 0 or start + out.size > len(up) * columns:
        raise ValueError(
            f"start: found elements {start} to {start + out.size}, expected within 0 to {len(up) * columns}"
        )
    if out.size:
        cpu.low_rank_add(out, columns, start, up, down, np.float32(scale))
    return out
