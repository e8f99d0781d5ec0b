import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.philox import uniform
from kernels.random_drop import random_drop
from kernels.rank_drop import chances, rank_drop, reference
from tests.kernels.arrays import AWKWARD, dirty, normal, same_bits

SHARES = [(0.0, 0.0), (0.425, 0.575), (0.0, 1.0), (0.3, 0.3), (1.0, 1.0)]


def coarse(*shape, seed=0):
    """Few magnitudes of either sign, so that most of a row is tied."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize(("height", "width"), [(0, 5), (1, 1), (63, 1), (7, 9), (1, 40_000), (40, 1000), (16385, 3)])
def test_rank_drop_is_its_definition_bit_for_bit(height, width, shares, rescale):
    for rows in (normal(2, height * width), coarse(2, height * width)):
        arguments = (width, 7, "a.weight", 3 * width, shares, rescale)
        expected = reference.rank_drop(torch.from_numpy(rows), *arguments).numpy()
        assert same_bits(rank_drop(rows, *arguments, dirty(rows.shape)), expected)


def test_an_entry_has_the_chance_of_its_place_among_the_row_in_order():
    """The slow, obvious version: how many of the row are smaller, or equal and before it."""
    rows, width = coarse(2, 12 * 17), 17
    found = rank_drop(rows, width, 5, "x", 0, (0.2, 0.8))
    for i, row in enumerate(rows):
        draws = uniform(5, "x", i, 0, dirty(row.size))
        for at, value in enumerate(row):
            line = np.abs(row[at - at % width : at - at % width + width])
            rank = np.sum(line < abs(value)) + np.sum(line[: at % width] == abs(value))
            chance = np.float32(0.2 + 0.6 * rank / 16)
            assert found[i, at] == (value / chance if draws[at] < chance else 0)


@given(st.integers(1, 40), st.integers(0, 30), st.integers(0, 30), st.integers(0, 2**20))
def test_any_cut_between_rows_gives_the_same_bits(width, first, second, before):
    rows = normal(2, (first + second) * width)
    parts = [(rows[:, : first * width], before * width), (rows[:, first * width :], (before + first) * width)]
    cut = [rank_drop(np.ascontiguousarray(part), width, 1, "x", at, (0.1, 0.6)) for part, at in parts]
    assert same_bits(np.concatenate(cut, axis=1), rank_drop(rows, width, 1, "x", before * width, (0.1, 0.6)))


@given(st.integers(1, 2000))
def test_chances_rise_evenly_from_the_first_share_to_the_second(width):
    table = chances(width, (0.25, 0.75))
    assert table.dtype == np.float32
    if width == 1:
        assert table.tolist() == [0.5]
    else:
        assert (table[0], table[-1]) == (0.25, 0.75)
        assert (np.diff(table) > 0).all()
        assert np.abs(table.mean() - 0.5) < 1e-6


def test_over_seeds_an_entry_is_kept_as_its_rank_says_and_keeps_its_mean():
    rows = normal(1, 20)
    runs = np.concatenate([rank_drop(rows, 20, seed, "x", 0, (0.2, 0.8)) for seed in range(4000)])
    chance = chances(20, (0.2, 0.8))[np.abs(rows[0]).argsort().argsort()]
    spread = np.sqrt(chance * (1 - chance) / 4000)
    assert (np.abs((runs != 0).mean(axis=0) - chance) < 5 * spread).all()
    assert (np.abs(runs.mean(axis=0) - rows[0]) < 5 * spread / chance * np.abs(rows[0])).all()


def test_equal_shares_drop_as_random_dropping_does():
    rows = normal(2, 30 * 40)
    assert same_bits(rank_drop(rows, 40, 3, "x", 80, (0.5, 0.5)), random_drop(rows, 3, "x", 80, 0.5))


def test_awkward_values_have_ranks_and_dropped_infinities_become_nan():
    rows = np.stack([AWKWARD, AWKWARD[::-1].copy()])
    expected = reference.rank_drop(torch.from_numpy(rows), AWKWARD.size, 1, "x", 0, (0.1, 0.9)).numpy()
    assert same_bits(rank_drop(rows, AWKWARD.size, 1, "x", 0, (0.1, 0.9)), expected)
    assert (np.isnan(rank_drop(rows, AWKWARD.size, 1, "x", 0, (0, 0))) == ~np.isfinite(rows)).all()


def test_the_rows_themselves_may_be_the_output():
    rows = normal(2, 50 * 700)
    expected = rank_drop(rows, 700, 2, "x", 0, (0.3, 0.6))
    assert rank_drop(rows, 700, 2, "x", 0, (0.3, 0.6), True, rows) is rows
    assert same_bits(rows, expected)


@pytest.mark.parametrize("shares", [(-0.1, 0.5), (0.6, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_shares_that_are_no_range_are_refused(shares):
    with pytest.raises(ValueError, match="shares: found"):
        rank_drop(normal(1, 4), 2, 0, "x", 0, shares)


@pytest.mark.parametrize("width", [0, 3, 5])
def test_a_width_that_cuts_rows_is_refused(width):
    with pytest.raises(ValueError, match="width: found"):
        rank_drop(normal(1, 4), width, 0, "x", 0, (0.1, 0.2))


@pytest.mark.parametrize("spacing", [2.0**-23, 2.0**-20, 2.0**-13])
@pytest.mark.parametrize("shared", [1, 5, 60, 900])
def test_magnitudes_that_differ_only_in_their_lowest_bits_are_ranked_by_them(spacing, shared):
    random, width = np.random.default_rng(0), 2048
    row = random.integers(1, 8, width).astype(np.float32)
    row[random.choice(width, shared, replace=False)] = 1 + spacing * random.integers(0, 300, shared)
    expected = reference.rank_drop(torch.from_numpy(row[None]), width, 7, "w", 0, (0.1, 0.9)).numpy()
    assert same_bits(rank_drop(row[None], width, 7, "w", 0, (0.1, 0.9)), expected)


@given(st.integers(2, 300), st.lists(st.floats(width=32), min_size=1, max_size=20), st.integers(0, 9))
def test_any_floats_are_ranked_as_their_definition_says(width, values, seed):
    row = np.random.default_rng(seed).choice(np.array(values, np.float32), width)[None]
    expected = reference.rank_drop(torch.from_numpy(row), width, 7, "w", 0, (0.1, 0.9)).numpy()
    assert same_bits(rank_drop(row, width, 7, "w", 0, (0.1, 0.9)), expected)
