import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.kth_magnitude import UNCUT
from kernels.stitch import reference, stitch
from tests.kernels.arrays import SIZES, dirty, normal, same_bits

WEIGHTS, MAGNITUDES = np.float32([1, 0.5, -1, 0.25]), np.float32([0.5, 1, 0, np.inf])
CUTS = np.array([UNCUT, 20, 700, -1])


def coarse(size):
    return np.random.default_rng(size).integers(-3, 4, (4, size)).astype(np.float32) / 2


@pytest.mark.parametrize("start", [0, 15])
@pytest.mark.parametrize("size", SIZES)
def test_stitching_is_its_definition_bit_for_bit(size, start):
    for rows in (normal(4, size), coarse(size)):
        arrays = map(torch.from_numpy, (rows, WEIGHTS, MAGNITUDES, CUTS))
        expected = reference.stitch(*arrays, start).numpy()
        assert same_bits(stitch(rows, WEIGHTS, MAGNITUDES, CUTS, start, dirty(size)), expected)


def test_owned_entries_are_averaged_over_their_owners_zeros_included():
    rows = np.float32([[4, 1, 0, 3], [2, 5, 0, 0]])
    magnitudes, cuts = np.float32([2, 0]), np.array([UNCUT, 2])
    assert stitch(rows, np.ones(2, np.float32), magnitudes, cuts, 0).tolist() == [3, 5, 0, 3]
    assert stitch(rows, np.ones(2, np.float32), np.zeros(2, np.float32), np.array([UNCUT, UNCUT]), 0).tolist() == [
        3,
        3,
        0,
        1.5,
    ]


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_any_cut_into_chunks_gives_the_same_bits(first, second):
    rows = coarse(first + second)
    parts = [(rows[:, :first], 0), (rows[:, first:], first)]
    cut = [stitch(np.ascontiguousarray(part), WEIGHTS, MAGNITUDES, CUTS, at) for part, at in parts]
    assert same_bits(np.concatenate(cut), stitch(rows, WEIGHTS, MAGNITUDES, CUTS, 0))


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="cuts: found"):
        stitch(normal(4, 4), WEIGHTS, MAGNITUDES, CUTS[:2], 0)
