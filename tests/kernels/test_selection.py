import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from kernels.gram import squares
from kernels.kth_magnitude import UNCUT
from kernels.selection import Beyond, reference, selected_merge, squares_beyond
from kernels.spread import spread
from kernels.spread.limits import square_limit
from kernels.storage import narrow
from kernels.stored_rows import StoredRows
from tests.kernels.arrays import SIZES, normal, same_bits


def coarse(*shape, seed=0):
    """Few values, so that many spreads are equal."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32)


def stored(models, size):
    rows = [(narrow(normal(size, seed=seed), "bfloat16"), "bfloat16") for seed in range(models + 1)]
    return StoredRows.of(rows[1:], rows[0])


def beyonds(rows):
    apart = np.sort(spread(rows))
    magnitudes = [apart[apart.size * 4 // 5], apart[-1], apart[0]] if apart.size else [np.float32(1)]
    cuts = (-1, UNCUT, 20 + apart.size // 2)
    return [Beyond(magnitude, cut) for magnitude in magnitudes for cut in cuts] + [Beyond(np.float32(np.inf), -1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("models", [1, 2, 4, 5])
def test_what_is_selected_is_merged_as_defined(models, size):
    weights = np.linspace(0.1, 0.4, models).astype(np.float32)
    for rows in (coarse(models, size), normal(models, size), stored(models, size)):
        loaded = torch.from_numpy(rows.load() if isinstance(rows, StoredRows) else rows.copy())
        for beyond in beyonds(rows):
            arguments = (beyond, 20, torch.from_numpy(weights), "mean", "unweighted", 1)
            expected = reference.selected_merge(loaded, *arguments).numpy()
            assert same_bits(selected_merge(rows, beyond, 20, weights, "mean", "unweighted", 1), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("models", [1, 3, 4, 6])
def test_what_is_beyond_is_squared_as_all_is_to_the_bit_and_ties_are_added_one_by_one(models, size):
    for rows in (coarse(models, size), normal(models, size), stored(models, size)):
        loaded = rows.load() if isinstance(rows, StoredRows) else rows.copy()
        for magnitude in {beyond.magnitude for beyond in beyonds(rows)}:
            found = squares_beyond(rows, magnitude)
            expected = reference.squares_beyond(torch.from_numpy(loaded), magnitude).numpy()
            assert same_bits(found[:, :models], squares(loaded, spread(loaded) > magnitude))
            assert same_bits(found[:, models:], expected[:, models:])


@given(st.floats(0.0, width=32, allow_infinity=False, allow_nan=False))
@example(float(np.finfo(np.float32).max))
@example(0.0)
@example(1.0)
def test_the_limit_of_squares_is_the_last_whose_root_is_no_larger(value):
    magnitude = np.float32(value)
    limit = square_limit(magnitude)
    assert np.float32(np.sqrt(limit)) <= magnitude
    with np.errstate(over="ignore"):
        assert np.float32(np.sqrt(np.nextafter(limit, np.inf))) > magnitude


def test_the_limits_of_nothing_and_of_everything():
    assert square_limit(np.float32(np.inf)) == np.inf
    assert square_limit(np.nextafter(np.float32(0), np.float32(-1))) == -np.inf


def test_a_spread_that_is_not_finite_is_not_selected():
    rows = normal(3, 100)
    rows[1, 40] = np.nan
    found = selected_merge(rows, Beyond(np.float32(0), UNCUT), 0, np.ones(3, np.float32))
    assert found[40] == 0.0
    assert (found[:40] != 0.0).all()
