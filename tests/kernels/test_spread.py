import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.gram import BLOCK
from kernels.kth_magnitude import BINS, WINDOW, Near
from kernels.spread import near_histogram, reference, sample_histogram, spread
from kernels.spread.bounds import bounds
from kernels.spread.limits import rounded_down
from tests.kernels.arrays import SIZES, dirty, normal, same_bits


def coarse(models: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-2, 3, (models, size)).astype(np.float32)


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


def powers(models: int, size: int) -> np.ndarray:
    """Magnitudes of all sizes, and among them 0, NaN and infinity."""
    random = np.random.default_rng(models)
    rows = (random.choice([-1.0, 1.0], (models, size)) * np.exp2(random.uniform(-149, 128, (models, size)))).astype(
        np.float32
    )
    rows[:, ::5] = 0
    rows[:, 3::11] = rows[0, 3::11]
    rows[-1, 7:300:50] = np.nan
    rows[0, 9:300:50] = np.inf
    return rows


@pytest.mark.parametrize("draw", [powers, normal, coarse])
@pytest.mark.parametrize("models", [1, 2, 5])
@pytest.mark.parametrize("lowest", [0, 1, 40, 0x1000, 0x3F7E, 0x3F80, 0x7EFE, 0x7F80, 0xFF00, BINS[0]])
def test_counts_without_roots_are_those_with_roots(models, lowest, draw):
    rows = draw(models, 3000)
    tensor = torch.from_numpy(rows)
    for highest in (lowest + WINDOW, lowest + 2 * WINDOW, min(lowest + 300, BINS[0])):
        guess = Near(np.array([[lowest, max(highest, lowest + WINDOW) if lowest < BINS[0] else lowest]]))
        assert same_bits(near_histogram(rows, guess), reference.near_histogram(tensor, guess).numpy())


@pytest.mark.parametrize("draw", [normal, coarse, powers])
@pytest.mark.parametrize("models", [1, 2, 3, 4, 6, 40])
def test_a_squared_spread_is_within_its_bounds(models, draw):
    with np.errstate(over="ignore", invalid="ignore"):
        rows = draw(models, 2048)
        lows, highs = bounds(
            np.concatenate([rows, np.ones((4, 2048), np.float32)]), models, 2048, np.empty((2, 2048), "f4")
        )
        x = rows.astype(np.float64)
        squares = models * (x * x).sum(axis=0) - x.sum(axis=0) ** 2
    is_bound = np.isfinite(lows) & np.isfinite(highs)
    assert (lows[is_bound] <= squares[is_bound]).all()
    assert (squares[is_bound] <= highs[is_bound]).all()
    assert draw is powers or is_bound.all()


@given(st.floats(min_value=0.0))
def test_a_limit_rounded_down_parts_the_same_float32(limit):
    narrow = rounded_down(np.float64(limit))
    assert float(narrow) <= limit
    assert narrow == np.finfo(np.float32).max or float(np.nextafter(narrow, np.float32(np.inf))) > limit
