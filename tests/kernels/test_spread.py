import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.gram import BLOCK
from kernels.kth_magnitude import Near
from kernels.spread import near_histogram, reference, sample_histogram, spread
from tests.kernels.arrays import SIZES, dirty, normal, same_bits


@pytest.mark.parametrize("models", [1, 2, 3, 7])
@pytest.mark.parametrize("size", SIZES)
def test_spread_is_its_definition_to_the_bit(models, size):
    rows = normal(models, size)
    found = spread(rows, dirty(size))
    assert same_bits(found, reference.spread(torch.from_numpy(rows)).numpy())


@given(st.permutations(range(4)))
def test_the_order_of_models_does_not_matter_on_a_grid(order):
    rows = (np.random.default_rng(0).integers(-9, 10, (4, 5000)) / 16).astype(np.float32)
    assert same_bits(spread(np.ascontiguousarray(rows[order])), spread(rows))


def test_it_is_the_standard_deviation_times_the_number_of_models():
    rows = normal(5, 3000)
    assert np.allclose(spread(rows), 5 * rows.astype(np.float64).std(axis=0), rtol=1e-6)


def test_equal_models_and_a_single_one_have_none():
    row = np.array([0.0, 1.0, 0.1, 3e38, -1e-45], np.float32)
    assert not spread(row[None]).any()
    assert not spread(np.stack([row, row])).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_gives_nan(bad):
    rows = normal(3, 70)
    rows[1, 65] = bad
    assert np.flatnonzero(np.isnan(spread(rows))).tolist() == [65]


@pytest.mark.parametrize("models", [1, 4, 5])
@pytest.mark.parametrize("size", [*SIZES, 3 * BLOCK + 77])
def test_counts_of_spreads_are_their_definition(models, size):
    rows = normal(models, size)
    rows[:, : size // 9] = np.round(rows[:, : size // 9])
    tensor, guess = torch.from_numpy(rows), Near(np.array([[0x3F80, 0x4000]]))
    assert same_bits(sample_histogram(rows, BLOCK), reference.sample_histogram(tensor, BLOCK).numpy())
    assert same_bits(near_histogram(rows, guess), reference.near_histogram(tensor, guess).numpy())
