import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.rank_drop import rank_merge, reference
from kernels.rank_drop.counting import NARROWEST
from kernels.storage import narrow
from kernels.stored_rows import StoredRows
from kernels.trim_elect.choices import ELECTS, MERGES
from tests.kernels.arrays import normal, same_bits

WIDTHS = [1, 3, 40, 300, NARROWEST, 2048, 3000]


def bfloat16(values):
    return narrow(values.astype(np.float32).reshape(-1), "bfloat16"), "bfloat16"


def fine_tunes(models, size, change=0.02):
    """Stored rows whose differences from their base mostly fit into few bits, and not all of them."""
    base = normal(size, seed=9) * 0.02
    changed = [bfloat16(base + change * 0.02 * normal(size, seed=seed)) for seed in range(models)]
    return StoredRows.of(changed, bfloat16(base))


def weights_of(models):
    return np.linspace(0.2, -0.7 if models > 2 else 1.0, models).astype(np.float32)


def expected(rows, weights, *arguments):
    found = reference.rank_merge(torch.from_numpy(rows), torch.from_numpy(weights), *arguments)
    return None if found is None else found.numpy()


def is_its_definition(rows, width, shares=(0.4, 0.6), rescale=True, merge="mean", elect="weighted", sign=0):
    loaded = rows.load() if isinstance(rows, StoredRows) else rows.copy()
    arguments = (weights_of(len(loaded)), width, 7, "a.weight", 3 * width, shares, rescale, merge, elect, sign)
    return same_bits(rank_merge(rows, *arguments), expected(loaded, *arguments))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("models", [1, 2, 4, 5])
def test_thinned_and_merged_is_its_definition_bit_for_bit(width, models):
    assert is_its_definition(fine_tunes(models, 5 * width), width)
    assert is_its_definition(normal(models, 5 * width), width)
    assert is_its_definition(normal(models, 0), width)


@pytest.mark.parametrize("elect", ELECTS)
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("rescale", [True, False])
def test_every_way_to_merge_is_its_definition(merge, elect, rescale):
    for models in (3, 6):
        rows = fine_tunes(models, 2 * 800)
        assert is_its_definition(rows, 800, (0.1, 0.9), rescale, merge, elect, 1)
        assert is_its_definition(rows, 800, (0.0, 0.0), rescale, merge, elect, -1)


def coarse(size, step, seed):
    return np.float32(step) * np.random.default_rng(seed).integers(-4, 5, size).astype(np.float32)


@pytest.mark.parametrize("kind", ["zero", "equal", "few", "many octaves", "subnormal", "one odd"])
def test_rows_that_share_bins_are_ranked_as_defined(kind):
    size = 3 * 1000
    rows = {
        "zero": np.zeros((2, size), np.float32),
        "equal": np.full((2, size), -3.5, np.float32),
        "few": np.stack([coarse(size, 0.1, 0), coarse(size, 3e-6, 1)]),
        "many octaves": np.stack([coarse(size, 1e-9, 0) + (np.arange(size) % 50 == 0), coarse(size, 1, 1)]),
        "subnormal": np.stack([coarse(size, 1e-44, 0), coarse(size, 1e-44, 1)]),
        "one odd": np.stack([coarse(size, 1, 0), coarse(size, 1, 1)]) + np.float32(1e-3) * (np.arange(size) % 20 == 0),
    }[kind].astype(np.float32)
    assert is_its_definition(rows, 1000)


def test_a_row_that_is_for_a_sort_may_follow_one_that_is_counted():
    rows = np.concatenate([coarse((2, 3 * 1024), 0.5, 0), normal(2, 2 * 1024), coarse((2, 1024), 0.5, 1)], axis=1)
    assert is_its_definition(np.ascontiguousarray(rows), 1024)


@given(st.integers(NARROWEST, NARROWEST + 300), st.integers(0, 130), st.integers(-30, 3), st.integers(0, 2**20))
def test_entries_with_bits_below_are_put_in_order(width, odd, exponent, seed):
    draw = np.random.default_rng(seed)
    rows = coarse((2, 2 * width), 0.25, seed)
    places = draw.integers(0, 2 * width, odd)
    rows[:, places] += np.float32(2.0**exponent) * draw.integers(-3, 4, odd).astype(np.float32) / 7
    assert is_its_definition(rows, width)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("width", [2, 900])
def test_rows_that_are_not_finite_give_nothing(width, bad):
    rows = normal(2, 4 * width)
    rows[1, 3 * width] = bad
    assert rank_merge(rows, weights_of(2), width, 7, "x", 0, (0.4, 0.6)) is None
    assert expected(rows, weights_of(2), width, 7, "x", 0, (0.4, 0.6)) is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="width"):
        rank_merge(normal(2, 10), weights_of(2), 3, 0, "x", 0, (0.4, 0.6))
    with pytest.raises(ValueError, match="merge"):
        rank_merge(normal(2, 10), weights_of(2), 5, 0, "x", 0, (0.4, 0.6), True, "median")
    with pytest.raises(ValueError, match="weights"):
        rank_merge(normal(2, 10), weights_of(3), 5, 0, "x", 0, (0.4, 0.6))
