"""all_finite against torch's isfinite, over every storage type."""

import numpy as np
import pytest
import torch

from kernels.all_finite import all_finite, rows_are_finite
from kernels.all_finite.reference import all_finite as reference
from kernels.all_finite.reference import rows_are_finite as rows_reference
from kernels.storage import storage_dtype

LABELS = ("bfloat16", "float16", "float32", "float64")


def stored(values: torch.Tensor, label: str) -> np.ndarray:
    tensor = values.to(getattr(torch, label))
    return (tensor.view(torch.uint16) if tensor.itemsize == 2 else tensor).numpy()


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("size", [0, 1, 63, 1000, 16385])
def test_finite_values_are_found_finite(label: str, size: int) -> None:
    raw = stored(torch.randn(size), label)
    assert raw.dtype == storage_dtype(label)
    assert all_finite(raw, label)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 17, 999])
def test_one_bad_value_anywhere_is_found(label: str, bad: float, place: int) -> None:
    values = torch.randn(1000)
    values[place] = bad
    raw = stored(values, label)
    assert not all_finite(raw, label)
    assert not reference(torch.from_numpy(raw), label)


@pytest.mark.parametrize("label", LABELS)
def test_the_largest_finite_value_is_finite(label: str) -> None:
    largest = torch.tensor([torch.finfo(getattr(torch, label)).max], dtype=torch.float64)
    assert all_finite(stored(largest, label), label)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found_in_any_row(bad):
    rows = np.ones((3, 5000), np.float32)
    assert rows_are_finite(rows)
    assert rows_are_finite(rows[:, :0].copy())
    rows[2, 4999] = bad
    assert not rows_are_finite(rows)
    assert not rows_reference(torch.from_numpy(rows))
