from math import exp, tanh

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.competition import balance, balance_histogram, compete, reference
from kernels.kth_magnitude import magnitude_histogram
from tests.kernels.arrays import SIZES, dirty, normal, same_bits

WEIGHTS = np.float32([1, 0.5, -1, 0.25])
CLAMP = np.float32([0.1, 0, 0.2, 0.5]), np.float32([2, 3, 2, 0.5])
BETAS = np.float32([0, 0.1, -0.1, 0.2]), np.float32([0.5, 0.1, 0.5, 0.3])


def tensors(pair):
    return tuple(torch.from_numpy(array) for array in pair)


def steps_apart(left, right):
    """How many float32 lie between two arrays, entry by entry; −0 and 0 are one."""
    ordered = [
        np.where(x.view(np.int32) < 0, -(x.view(np.int32) & 0x7FFFFFFF), x.view(np.int32)) for x in (left, right)
    ]
    return np.abs(ordered[0].astype(np.int64) - ordered[1]).max(initial=0)


@pytest.mark.parametrize("magnitude", [1e-20, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("size", SIZES)
def test_balance_is_its_definition_to_the_last_bit(size, magnitude):
    rows = normal(4, size) * np.float32(magnitude)
    clamp = tuple(limit * np.float32(magnitude) for limit in CLAMP)
    expected = reference.balance(torch.from_numpy(rows), tensors(clamp)).numpy()
    assert steps_apart(balance(rows, clamp, dirty(rows.shape)), expected) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_compete_is_its_definition_up_to_the_last_bit_of_beta(size):
    rows = normal(4, size)
    expected = reference.compete(*tensors((rows, WEIGHTS)), tensors(CLAMP), tensors(BETAS)).numpy()
    assert np.allclose(compete(rows, WEIGHTS, CLAMP, BETAS, dirty(size)), expected, rtol=1e-5, atol=1e-6)


@given(st.floats(-6, 6, width=32), st.floats(-6, 6, width=32))
def test_beta_is_what_the_standard_library_makes_of_its_formula(one, other):
    rows = np.float32([[one], [other]])
    found = balance(rows, (np.float32([0, 0]), np.float32([6, 6])))
    for x, beta in zip((one, other), found[:, 0], strict=True):
        expected = exp(2 * ((abs(x) / 6) ** 2 - 1)) * tanh(x * (one + other))
        assert beta == pytest.approx(expected, rel=1e-6, abs=1e-45)


def test_as_many_tasks_as_a_recipe_may_have_do_not_overflow():
    rows = np.ones((256, 100), np.float32)
    found = balance(rows, (np.zeros(256, np.float32), np.full(256, 2, np.float32)))
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_shares_rise_from_the_first_beta_to_the_second_and_weigh_the_values():
    rows = np.float32([[2, 1, 0], [2, -1, 0]])
    clamp = np.zeros(2, np.float32), np.full(2, 2, np.float32)
    beta = balance(rows, clamp)
    assert beta[0, 0] == beta[1, 0] == np.float32(tanh(8))
    betas = np.float32([0, 0]), beta.max(axis=1)
    assert compete(rows, np.ones(2, np.float32), clamp, betas).tolist() == [2, 0, 0]
    assert compete(rows, np.float32([1, 3]), clamp, betas).tolist() == [4, 0, 0]


def test_a_single_beta_gives_its_holders_a_whole_share_and_zeros_none():
    rows = np.float32([[1, 1, 0], [0, 0, 0]])
    clamp = np.float32([0, 0]), np.float32([1, 0])
    beta = balance(rows, clamp)
    top = beta.max(axis=1)
    assert compete(rows, np.ones(2, np.float32), clamp, (top, top)).tolist() == [1, 1, 0]


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_any_cut_into_chunks_gives_the_same_bits(first, second):
    rows = normal(4, first + second)
    parts = [np.ascontiguousarray(rows[:, :first]), np.ascontiguousarray(rows[:, first:])]
    whole = compete(rows, WEIGHTS, CLAMP, BETAS)
    assert same_bits(np.concatenate([compete(part, WEIGHTS, CLAMP, BETAS) for part in parts]), whole)
    betas = np.concatenate([balance(part, CLAMP) for part in parts], axis=1)
    assert same_bits(betas, balance(rows, CLAMP))


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="span: found"):
        balance(normal(2, 4), CLAMP)


@pytest.mark.parametrize("size", SIZES)
def test_histograms_by_sign_count_the_two_parts_of_each_balance(size):
    rows, clamp = normal(3, size), (np.full(3, 0.1, np.float32), np.full(3, 2.0, np.float32))
    beta = balance(rows, clamp)
    parts = np.concatenate([np.maximum(beta, 0), np.maximum(-beta, 0)])
    top = magnitude_histogram(parts, 0)
    prefixes = np.stack([np.argmax(top[:, 1:], axis=1) + 1, np.zeros(6, np.int64)])
    assert same_bits(balance_histogram(rows, clamp)[0], top)
    low = [magnitude_histogram(parts, 1, its_prefixes) for its_prefixes in prefixes]
    assert same_bits(balance_histogram(rows, clamp, prefixes), np.stack(low))
    assert same_bits(balance_histogram(rows, clamp, prefixes, np.stack(low)), 2 * np.stack(low))
