"""What follows once each task vector has been thinned out: add them up, or elect signs and merge what agrees."""

from typing import Literal

import numpy as np

from kernels.kth_magnitude import UNCUT
from kernels.stored_rows import StoredRows
from kernels.trim_elect import Elect, How, trim_elect
from kernels.weighted_sum import weighted_sum
from merge_core.methods.contract import Rows, Weights, normalized

Aggregate = Literal["mean", "sum", "max"]
Convention = Literal["stockpot", "mergekit"]

ZERO_VOTE_SIGN: dict[str, Literal[0, 1]] = {"stockpot": 0, "mergekit": 1}
"""The sign that votes which cancel take, by convention: none, or +."""


def add_up(rows: Rows, weights: Weights, normalize: bool) -> Rows:
    """Σ w_t τ̃_t, divided by Σ w_t where `normalize` says so."""
    return weighted_sum(rows, normalized(weights) if normalize else weights)


def elect(
    rows: Rows | StoredRows, weights: Weights, how: How, votes: Elect = "weighted", zero_vote_sign: Literal[0, 1] = 0
) -> Rows:
    """TIES' second and third step: the entries that agree with the sign that `votes` elect, merged as `how` says."""
    nothing_trimmed = np.zeros(rows.shape[0], dtype=np.float32), np.full(rows.shape[0], UNCUT, dtype=np.int64)
    return trim_elect(rows, weights, *nothing_trimmed, 0, how, votes, zero_vote_sign)
