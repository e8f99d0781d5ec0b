import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.gram import BLOCK
from kernels.moments import COLUMNS, moments, reference
from tests.kernels.arrays import SIZES, dirty, normal, same_bits


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("magnitude", [0.0, 0.5, np.inf])
def test_sums_are_as_defined_up_to_their_order(size, magnitude):
    x = np.round(normal(size) * 4) / 4
    found = moments(x, magnitude, dirty((-(-size // BLOCK), COLUMNS), np.float64))
    assert np.allclose(found, reference.moments(torch.from_numpy(x), magnitude), rtol=1e-13)


@given(st.integers(0, 3), st.integers(1, 60_000))
def test_chunks_of_whole_blocks_give_the_rows_of_the_whole(blocks, size):
    x, cut = normal(size), blocks * BLOCK
    parts = [moments(part, 0.7) for part in (x[:cut], x[cut:])]
    assert same_bits(np.concatenate(parts), moments(x, 0.7))
