"""Refusing NaN and infinity in what a survey reads, by tensor and ingredient."""

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from kernels.all_finite import all_finite
from merge_core.errors import FileError
from merge_core.methods.contract import Rows


def refuse_not_finite(histogram: NDArray[np.int64], tensor: str) -> None:
    """Raise FileError when a magnitude histogram (round 0, [models, bins]) counts NaN or infinity."""
    first_bin = 0x7F800000 >> 15
    _refuse_any(histogram[:, first_bin:].any(axis=1), tensor)


def refuse_infinite_counts(counts: NDArray[np.int64], tensor: str) -> None:
    """Raise FileError when some of the NaN and infinities counted in each model are not 0."""
    _refuse_any(counts > 0, tensor)


def refuse_infinite_rows(rows: Rows, tensor: str) -> None:
    """Raise FileError when a row [models, elements] has NaN or infinity."""
    if not all_finite(rows.reshape(-1), "float32"):
        _refuse_any(~np.isfinite(rows).all(axis=1), tensor)


def refused_rows(rows: Rows, tensor: str) -> NoReturn:
    """Raise FileError for rows of which a kernel has said that they are not all finite."""
    refuse_infinite_rows(rows, tensor)
    raise AssertionError("a kernel finds what is not finite")


def refuse_infinite_sums(sums: NDArray[np.float64], tensor: str) -> None:
    """Raise FileError when sums of squares [parts, models] show that a model has NaN or infinity."""
    _refuse_any(~np.isfinite(sums).all(axis=0), tensor)


def _refuse_any(is_bad: Any, tensor: str) -> None:
    for position in np.flatnonzero(is_bad):
        found = f"NaN or infinity in ingredient {position}, in the base or in their difference"
        raise FileError("a value is not finite", where=f"tensor '{tensor}'", found=found, expected="finite weights")
