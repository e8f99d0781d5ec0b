"""Finiteness in plain torch: the definition."""

from torch import Tensor

from kernels.storage.reference import DTYPES


def all_finite(raw: Tensor, label: str) -> bool:
    return bool(raw.view(DTYPES[label]).isfinite().all())


def rows_are_finite(rows: Tensor) -> bool:
    return bool(rows.isfinite().all())
