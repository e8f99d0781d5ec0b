import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.low_rank_add import low_rank_add, reference, stored_low_rank_add
from kernels.storage import narrow, widen
from tests.kernels.arrays import AWKWARD, normal, relative_rms, same_bits

# Sequential float32 sums of up to 130 products, against float64: about rank/2 units of 2^-24.
TOLERANCE = 2e-6

shapes = pytest.mark.parametrize(
    ("rows", "columns", "rank"), [(1, 1, 1), (63, 1, 2), (1, 63, 8), (7, 1000, 16), (5, 515, 0), (3, 6000, 130)]
)


@shapes
def test_low_rank_add_is_its_definition_bit_for_bit(rows, columns, rank):
    up, down, base = normal(rows, rank), normal(rank, columns, seed=1), normal(rows * columns, seed=2)
    expected = reference.low_rank_add(torch.from_numpy(base.copy()), columns, 0, *torches(up, down), 0.3)
    assert same_bits(low_rank_add(base.copy(), columns, 0, up, down, 0.3), expected.numpy())


@shapes
@pytest.mark.parametrize("label", ["bfloat16", "float16", "float32"])
def test_stored_elements_in_and_out_are_as_defined_bit_for_bit(rows, columns, rank, label):
    up, down, values = normal(rows, rank), normal(rank, columns, seed=1), normal(rows * columns, seed=2)
    values[: min(values.size, AWKWARD.size)] = AWKWARD[: values.size]
    raw = narrow(values, label)
    torch_base = torch.from_numpy(raw.copy()), label
    expected = reference.stored_low_rank_add(torch_base, columns, 0, *torches(up, down), 0.3, label)
    found = stored_low_rank_add((raw, label), columns, 0, up, down, 0.3, label)
    assert same_bits(widen(found, label), widen(expected.numpy(), label))


@given(st.integers(1, 20), st.integers(1, 200), st.data())
def test_any_cut_of_stored_elements_gives_the_same_bits(rows, columns, data):
    up, down = normal(rows, 5), normal(5, columns, seed=1)
    raw = narrow(normal(rows * columns, seed=2), "bfloat16")
    cut = data.draw(st.integers(0, raw.size))
    parts = [
        stored_low_rank_add((raw[part], "bfloat16"), columns, part.start, up, down, 1.7, "bfloat16")
        for part in (slice(0, cut), slice(cut, raw.size))
    ]
    whole = stored_low_rank_add((raw, "bfloat16"), columns, 0, up, down, 1.7, "bfloat16")
    assert same_bits(np.concatenate(parts), whole)


def torches(*arrays):
    return [torch.from_numpy(array) for array in arrays]


@shapes
def test_low_rank_add_is_close_to_the_product_in_float64(rows, columns, rank):
    up, down = normal(rows, rank), normal(rank, columns, seed=1)
    found = low_rank_add(np.zeros(rows * columns, np.float32), columns, 0, up, down, 0.5)
    assert relative_rms(found.reshape(rows, columns), 0.5 * up.astype(np.float64) @ down) < TOLERANCE


@given(st.integers(1, 9), st.integers(1, 200), st.integers(0, 20), st.data())
def test_any_cut_into_chunks_gives_the_same_bits(rows, columns, rank, data):
    up, down, base = normal(rows, rank), normal(rank, columns, seed=1), normal(rows * columns, seed=2)
    cuts = sorted(data.draw(st.lists(st.integers(0, base.size), max_size=4)))
    whole = low_rank_add(base.copy(), columns, 0, up, down, 1.7)
    for lo, hi in zip([0, *cuts], [*cuts, base.size], strict=True):
        low_rank_add(base[lo:hi], columns, lo, up, down, 1.7)
    assert same_bits(base, whole)


@given(st.integers(1, 9), st.integers(1, 200), st.data())
def test_a_chunk_in_mid_row_is_its_definition_bit_for_bit(rows, columns, data):
    up, down = normal(rows, 3), normal(3, columns, seed=1)
    start = data.draw(st.integers(0, rows * columns))
    base = normal(data.draw(st.integers(0, rows * columns - start)), seed=2)
    expected = reference.low_rank_add(torch.from_numpy(base.copy()), columns, start, *torches(up, down), -2.0)
    assert same_bits(low_rank_add(base, columns, start, up, down, -2.0), expected.numpy())


def test_products_are_not_contracted_into_the_sum():
    up, down = np.float32([[1 + 2**-12, -1]]), np.float32([[1 + 2**-12], [1 + 2**-11]])
    assert low_rank_add(np.zeros(1, np.float32), 1, 0, up, down, 1.0).tolist() == [0.0]


def test_nothing_outside_the_chunk_is_written():
    guarded = np.full(300, np.nan, np.float32)
    guarded[100:200] = 0
    low_rank_add(guarded[100:200], 33, 7, normal(9, 4), normal(4, 33), 1.0)
    assert np.isnan(guarded[:100]).all()
    assert np.isnan(guarded[200:]).all()
    assert np.isfinite(guarded[100:200]).all()


def test_torch_tensors_are_changed_in_place():
    out = torch.zeros(20)
    assert low_rank_add(out, 5, 0, torch.ones(4, 2), torch.ones(2, 5), 0.5) is out
    assert out.tolist() == [1.0] * 20
    meta = [tensor.to("meta") for tensor in (torch.zeros(20), torch.ones(4, 2), torch.ones(2, 5))]
    assert low_rank_add(meta[0], 5, 0, *meta[1:], 0.5) is meta[0]


@pytest.mark.parametrize(
    ("size", "start", "up", "down", "words"),
    [
        (20, 1, normal(4, 2), normal(2, 5), "start: found elements 1 to 21, expected within 0 to 20"),
        (1, -1, normal(4, 2), normal(2, 5), "start: found elements -1 to 0"),
        (20, 0, normal(4, 2), normal(3, 5), r"down: found float32 \[3, 5\], expected C-contiguous float32 \[2, 5\]"),
        (20, 0, normal(4, 2), normal(2, 6), r"down: found float32 \[2, 6\]"),
        (20, 0, normal(2, 4).T, normal(2, 5), "up: found non-contiguous float32"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(size, start, up, down, words):
    with pytest.raises(ValueError, match=words):
        low_rank_add(np.zeros(size, np.float32), 5, start, up, down, 1.0)
