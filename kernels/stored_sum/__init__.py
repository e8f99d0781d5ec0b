"""Σ w_t x_t straight from stored elements to stored elements: what three kernels do with float32 in between, in one.

Bit for bit the same as widening, `weighted_sum` and narrowing, but memory is read and written once. Rows in stored form
only: tensors on a device have nothing to gain, as what they take and give crosses in that form.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.storage import storage_dtype
from kernels.stored_elements import place_of
from kernels.stored_rows import NO_BASE, StoredRows
from kernels.stored_sum import cpu


def stored_sum(rows: StoredRows, weights: Floats, label: str, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """narrow(weighted_sum(widen(rows), weights)) of rows without a base; `weights` is [models].

    `out` must not overlap the rows.
    """
    return _sum(rows, weights, None, label, out)


def stored_delta_sum(
    rows: StoredRows, weights: Floats, scale: float, label: str, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """add_scaled_narrow(base, weighted_sum(widen_difference(rows, base), weights), scale) of rows less their base."""
    return _sum(rows, weights, scale, label, out)


def _sum(rows: StoredRows, weights: Floats, scale: float | None, label: str, out: NDArray[Any] | None) -> NDArray[Any]:
    models, size = rows.shape
    check_array("weights", weights, FLOAT32, (models,))
    if (scale is None) != (rows.table[0, 1] == NO_BASE):
        found, expected = ("a base", "none") if scale is None else ("no base", "one")
        raise ValueError(f"rows: found {found}, expected {expected}")
    out = output("out", out, storage_dtype(label), (size,))
    if scale is None:
        cpu.stored_sum(rows.table, weights, *place_of(out, label), size)
    else:
        cpu.stored_delta_sum(rows.table, weights, np.float32(scale), *place_of(out, label), size)
    return out
