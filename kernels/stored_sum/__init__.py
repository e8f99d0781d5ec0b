"""Σ w_t x_t straight from stored elements to stored elements: what three kernels do with float32 in between, in one.

An input is its raw array and the label of its dtype, as in `kernels.storage`. Bit for bit the same as widening,
`weighted_sum` and narrowing, but memory is read and written once. numpy arrays only: tensors on a device have
nothing to gain, as what they take and give crosses in stored form.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.storage import storage_dtype
from kernels.stored_elements import Stored, place_of
from kernels.stored_rows import StoredRows
from kernels.stored_sum import cpu


def stored_sum(inputs: Sequence[Stored], weights: Floats, label: str, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """narrow(weighted_sum(widen(inputs), weights)): at least one input, all of one length; `weights` is [models].

    `out` must not overlap the inputs.
    """
    _check(inputs, weights)
    out = output("out", out, storage_dtype(label), inputs[0][0].shape)
    cpu.stored_sum(StoredRows.of(inputs).table, weights, *place_of(out, label), out.size)
    return out


def stored_delta_sum(
    base: Stored,
    inputs: Sequence[Stored],
    weights: Floats,
    scale: float,
    label: str,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """add_scaled_narrow(base, weighted_sum(widen_difference(inputs, base), weights), scale)."""
    _check(inputs, weights)
    check_array("base", base[0], storage_dtype(base[1]), inputs[0][0].shape)
    out = output("out", out, storage_dtype(label), base[0].shape)
    table = StoredRows.of(inputs, base).table
    cpu.stored_delta_sum(table, weights, np.float32(scale), *place_of(out, label), out.size)
    return out


def _check(inputs: Sequence[Stored], weights: Floats) -> None:
    if len(inputs) == 0:
        raise ValueError("inputs: found 0 models, expected at least 1")
    size = inputs[0][0].size
    for position, (raw, label) in enumerate(inputs):
        check_array(f"inputs[{position}]", raw, storage_dtype(label), (size,))
    check_array("weights", weights, FLOAT32, (len(inputs),))
