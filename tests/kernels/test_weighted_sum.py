import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.weighted_sum import reference, weighted_sum
from tests.kernels.arrays import AWKWARD, SIZES, dirty, normal, same_bits


@pytest.mark.parametrize("models", [1, 2, 3, 4, 5, 8, 9, 13])
@pytest.mark.parametrize("size", SIZES)
def test_weighted_sum_is_its_definition_bit_for_bit(models, size):
    stack, weights = normal(models, size), normal(models, seed=1)
    stack[0, : min(size, AWKWARD.size)] = AWKWARD[:size]
    expected = reference.weighted_sum(torch.from_numpy(stack), torch.from_numpy(weights))
    assert same_bits(weighted_sum(stack, weights, dirty(size)), expected.numpy())


def test_neither_product_nor_sum_is_contracted():
    stack = np.float32([[1 + 2**-12], [-1 - 2**-11]])
    weights = np.float32([1 + 2**-12, 1])
    assert weighted_sum(stack, weights).tolist() == [0.0]


@given(st.integers(1, 9), st.integers(0, 5000), st.data())
def test_any_cut_into_chunks_gives_the_same_bits(models, size, data):
    stack, weights = normal(models, size), normal(models, seed=1)
    cut = data.draw(st.integers(0, size))
    parts = [weighted_sum(np.ascontiguousarray(part), weights) for part in (stack[:, :cut], stack[:, cut:])]
    assert same_bits(np.concatenate(parts), weighted_sum(stack, weights))


@given(st.integers(0, 200))
def test_weight_one_on_one_model_returns_it(size):
    stack = normal(1, size)
    assert same_bits(weighted_sum(stack, np.ones(1, np.float32)), stack[0])


@given(st.integers(1, 9), st.integers(-3, 3))
def test_scaling_the_weights_by_a_power_of_two_scales_the_sum(models, exponent):
    stack, weights, factor = normal(models, 100), normal(models, seed=1), np.float32(2.0**exponent)
    assert same_bits(weighted_sum(stack, weights * factor), weighted_sum(stack, weights) * factor)


def test_torch_tensors_go_in_and_come_out():
    stack, weights, out = torch.randn(3, 63), torch.randn(3), torch.empty(63)
    assert weighted_sum(stack, weights, out) is out
    assert torch.equal(weighted_sum(stack, weights), out)
    assert torch.equal(out, reference.weighted_sum(stack, weights))
    assert weighted_sum(stack.to("meta"), weights.to("meta")).shape == (63,)


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(ValueError, match="stack: found non-contiguous float32"):
        weighted_sum(normal(3, 10)[:, :5], normal(3))
    with pytest.raises(ValueError, match=r"weights: found float32 \[2\], expected C-contiguous float32 \[3\]"):
        weighted_sum(normal(3, 10), normal(2))
    with pytest.raises(ValueError, match="stack: found 0 models"):
        weighted_sum(normal(0, 10), normal(0))
