import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.gram import BLOCK, gram, reference, row_gram, squares
from tests.kernels.arrays import SIZES, dirty, normal, relative_rms, same_bits

# Products are exact in float64 and a BLAS may add a block's 16384 in one chain: √16384 · 2^-53 is 1.4e-14 of the norms.
TOLERANCE = 1e-13
# The kernel adds 512 in a chain and then 32 chains.
OWN_TOLERANCE = 3e-15


@pytest.mark.parametrize("models", [1, 2, 5])
@pytest.mark.parametrize("size", [*SIZES, 3 * BLOCK])
def test_gram_agrees_with_its_definition(models, size):
    stack = normal(models, size)
    found = gram(stack, dirty((-(-size // BLOCK), models, models), np.float64))
    expected = reference.gram(torch.from_numpy(stack)).numpy()
    assert found.shape == expected.shape
    assert relative_rms(found, expected) < TOLERANCE


@given(st.integers(0, 4 * BLOCK), st.integers(0, 4))
def test_chunks_that_start_at_blocks_give_the_bits_of_the_whole(size, blocks):
    stack = normal(2, size)
    cut = min(size, blocks * BLOCK)
    parts = [gram(np.ascontiguousarray(part)) for part in (stack[:, :cut], stack[:, cut:])]
    assert same_bits(np.concatenate(parts), gram(stack))


def test_gram_is_close_to_the_exactly_rounded_sum():
    x = normal(1, BLOCK)
    exact = math.fsum(float(value) ** 2 for value in x[0])
    assert abs(gram(x)[0, 0, 0] - exact) < OWN_TOLERANCE * exact


def test_integers_are_added_exactly():
    stack = np.random.default_rng(0).integers(-1000, 1000, (3, 20000)).astype(np.float32)
    exact = stack.astype(np.int64) @ stack.astype(np.int64).T
    assert (gram(stack).sum(axis=0) == exact).all()


def test_the_matrix_is_symmetric_and_cauchy_schwarz_holds():
    total = gram(normal(4, 40000)).sum(axis=0)
    assert (total == total.T).all()
    assert (total**2 <= np.outer(np.diag(total), np.diag(total)) * (1 + TOLERANCE)).all()


def test_torch_tensors_go_in_and_come_out():
    stack = torch.randn(3, 20000)
    assert same_bits(gram(stack).numpy(), gram(stack.numpy()))
    assert gram(stack.to("meta")).shape == (2, 3, 3)


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(ValueError, match=r"stack: found float64 \[2, 3\], expected C-contiguous float32 \[any, any\]"):
        gram(np.zeros((2, 3)))


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (1, 1), (63, 7), (5, 16385)])
def test_row_gram_agrees_with_its_definition_and_with_each_row_alone(rows, columns):
    stack = normal(3, rows * columns)
    found = row_gram(stack, columns)
    assert found.shape == (rows, 3, 3)
    assert relative_rms(found, reference.row_gram(torch.from_numpy(stack), columns).numpy()) < TOLERANCE
    for row, products in enumerate(found):
        alone = np.ascontiguousarray(stack[:, row * columns : (row + 1) * columns])
        assert same_bits(row_gram(alone, columns)[0], products)


def test_rows_that_do_not_fill_the_stack_are_refused():
    with pytest.raises(ValueError, match=r"stack: found 6 elements, expected whole rows of 4"):
        row_gram(normal(2, 6), 4)


@pytest.mark.parametrize("size", [*SIZES, 3 * BLOCK])
def test_squares_are_the_diagonals_to_the_bit_with_or_without_a_mask(size):
    stack, mask = normal(3, size), normal(size, seed=1) > 0
    for kept, chosen in ((stack, None), (np.where(mask, stack, np.float32(0)), mask)):
        assert same_bits(squares(stack, chosen), np.diagonal(gram(kept), axis1=1, axis2=2).copy())
    expected = reference.squares(torch.from_numpy(stack), torch.from_numpy(mask)).numpy()
    assert relative_rms(squares(stack, mask), expected) < TOLERANCE


def test_a_mask_of_another_length_is_refused_in_words():
    with pytest.raises(ValueError, match=r"mask: found bool \[2\], expected C-contiguous bool \[3\]"):
        squares(normal(2, 3), np.ones(2, bool))
