import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.keep_band import keep_band, reference
from kernels.kth_magnitude import UNCUT, kth_magnitude
from tests.kernels.arrays import SIZES, dirty, normal, same_bits


def thresholds(rows, k):
    found = [kth_magnitude(row, k) for row in rows]
    return np.array([one.magnitude for one in found], np.float32), np.array([one.cut for one in found], np.int64)


def tensors(pair):
    return tuple(torch.from_numpy(array) for array in pair)


def coarse(rows, size, seed=0):
    return np.random.default_rng(seed).integers(-3, 4, (rows, size)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_keep_band_is_its_definition_bit_for_bit(size):
    lower = np.float32([0.5, 0, 1, np.inf]), np.array([3, UNCUT, -1, -1])
    upper = np.float32([1.5, 2, 1, np.inf]), np.array([UNCUT, 900, 60, -1])
    for rows in (normal(4, size), coarse(4, size)):
        for start in (0, 50):
            expected = reference.keep_band(torch.from_numpy(rows), tensors(lower), tensors(upper), start).numpy()
            assert same_bits(keep_band(rows, lower, upper, start, dirty(rows.shape)), expected)


@given(st.integers(0, 600), st.integers(0, 700), st.integers(0, 700), st.booleans())
def test_a_band_holds_exactly_the_ranks_between_its_thresholds(size, first, second, is_tied):
    rows = coarse(2, size) if is_tied else normal(2, size)
    after, until = min(first, second), max(first, second)
    found = keep_band(rows, thresholds(rows, until), thresholds(rows, after), 0)
    for row, kept in zip(rows, found, strict=True):
        order = np.argsort(-np.abs(row), kind="stable")[after:until]
        expected = np.zeros_like(row)
        expected[order] = row[order]
        assert (kept == expected).all()


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_any_cut_into_chunks_gives_the_same_bits(first, second):
    rows = coarse(2, first + second)
    size = first + second
    lower, upper = thresholds(rows, size // 2), thresholds(rows, size // 10)
    parts = [(rows[:, :first], 0), (rows[:, first:], first)]
    cut = [keep_band(np.ascontiguousarray(part), lower, upper, at) for part, at in parts]
    assert same_bits(np.concatenate(cut, axis=1), keep_band(rows, lower, upper, 0))


def test_the_rows_themselves_may_be_the_output():
    rows = coarse(2, 3000)
    lower, upper = thresholds(rows, 1500), thresholds(rows, 300)
    expected = keep_band(rows, lower, upper, 0)
    assert keep_band(rows, lower, upper, 0, rows) is rows
    assert same_bits(rows, expected)


def test_wrong_arrays_are_refused():
    lower = np.zeros(2, np.float32), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="magnitudes: found"):
        keep_band(normal(3, 4), lower, lower, 0)
    with pytest.raises(ValueError, match="cuts: found"):
        keep_band(normal(2, 4), lower, (lower[0], lower[0]), 0)
