import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.philox import uniform
from kernels.random_drop import STEPS, random_drop, reference, rescaled
from tests.kernels.arrays import AWKWARD, SIZES, dirty, normal, same_bits

DENSITIES = [0.0, 1e-9, 0.1, 0.5, 1 / 3, 1 - 2**-30, 1.0]


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("size", SIZES)
def test_random_drop_is_its_definition_bit_for_bit(size, density, rescale):
    rows = normal(3, size)
    expected = reference.random_drop(torch.from_numpy(rows), 7, "a.weight", 5, density, rescale).numpy()
    assert same_bits(random_drop(rows, 7, "a.weight", 5, density, rescale, dirty(rows.shape)), expected)


def test_awkward_values_are_kept_or_become_zero_or_nan():
    rows = np.stack([AWKWARD, AWKWARD])
    expected = reference.random_drop(torch.from_numpy(rows), 1, "x", 0, 0.5).numpy()
    assert same_bits(random_drop(rows, 1, "x", 0, 0.5), expected)
    dropped = random_drop(rows, 1, "x", 0, 0.0)
    assert (np.isnan(dropped) == ~np.isfinite(rows)).all()
    assert not dropped[np.isfinite(rows)].view(np.uint32).any()


@pytest.mark.parametrize("rescale", [True, False])
def test_density_one_keeps_every_bit_and_zero_keeps_nothing(rescale):
    rows = normal(2, 1000)
    assert same_bits(random_drop(rows, 3, "x", 0, 1.0, rescale), rows)
    assert not random_drop(rows, 3, "x", 0, 0.0, rescale).any()


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 2**40))
def test_any_cut_into_chunks_gives_the_same_bits(first, second, start):
    rows = normal(2, first + second)
    parts = [(rows[:, :first], start), (rows[:, first:], start + first)]
    cut = [random_drop(np.ascontiguousarray(part), 9, "x", at, 0.4) for part, at in parts]
    assert same_bits(np.concatenate(cut, axis=1), random_drop(rows, 9, "x", start, 0.4))


def test_an_entry_is_kept_where_its_own_draw_is_below_the_density():
    rows = np.ones((3, 4000), np.float32)
    found = random_drop(rows, 11, "model.norm.weight", 17, 0.3, rescale=False)
    for i, row in enumerate(found):
        draws = uniform(11, "model.norm.weight", i, 17, dirty(4000))
        assert ((row != 0) == (draws.astype(np.float64) < 0.3)).all()


def test_a_draw_is_compared_with_the_density_exactly():
    """Half a step above a multiple of 2^-24 keeps one more draw than the multiple itself."""
    draws = uniform(0, "x", 0, 0, dirty(200_000))
    drawn = float(np.sort(draws)[1000])
    ones = np.ones((1, draws.size), np.float32)
    kept = [np.count_nonzero(random_drop(ones, 0, "x", 0, drawn + step / STEPS)) for step in (0, 0.5)]
    assert kept[0] == np.count_nonzero(draws < drawn)
    assert kept[1] == np.count_nonzero(draws <= drawn)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_over_seeds_an_entry_is_kept_as_often_as_the_density_says_and_keeps_its_mean(density):
    rows = normal(1, 64)
    runs = np.concatenate([random_drop(rows, seed, "x", 0, density) for seed in range(4000)])
    spread = np.sqrt(density * (1 - density) / 4000)
    assert (np.abs((runs != 0).mean(axis=0) - density) < 5 * spread).all()
    assert (np.abs(runs.mean(axis=0) - rows[0]) < 5 * spread / density * np.abs(rows[0])).all()


def test_ingredients_tensors_and_seeds_drop_independently():
    ones = np.ones((2, 20_000), np.float32)
    kept = [*(random_drop(ones, 0, "x", 0, 0.5) != 0)]
    kept += [random_drop(ones[:1], seed, name, 0, 0.5)[0] != 0 for seed, name in ((1, "x"), (0, "y"))]
    agreement = np.array([[(a == b).mean() for a in kept] for b in kept])
    assert (np.abs(agreement - 0.5)[~np.eye(4, dtype=bool)] < 0.025).all()


def test_rescaling_afterwards_is_rescaling():
    rows = normal(2, 1000)
    later = rescaled(random_drop(rows, 2, "x", 0, 0.3, rescale=False), 0.3)
    assert same_bits(later, random_drop(rows, 2, "x", 0, 0.3))


def test_the_rows_themselves_may_be_the_output():
    rows = normal(2, 5000)
    expected = random_drop(rows, 2, "x", 3, 0.6)
    assert random_drop(rows, 2, "x", 3, 0.6, True, rows) is rows
    assert same_bits(rows, expected)


@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
def test_a_density_that_is_no_share_is_refused(density):
    with pytest.raises(ValueError, match=r"density: found .*, expected 0 to 1"):
        random_drop(normal(1, 4), 0, "x", 0, density)


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="rows: found"):
        random_drop(normal(4), 0, "x", 0, 0.5)
    with pytest.raises(ValueError, match="out: found"):
        random_drop(normal(1, 4), 0, "x", 0, 0.5, True, dirty((1, 5)))
