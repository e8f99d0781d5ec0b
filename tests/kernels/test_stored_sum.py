from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.storage import narrow, storage_dtype, widen
from kernels.stored_rows import StoredRows
from kernels.stored_sum import reference, stored_delta_sum, stored_sum
from tests.kernels.arrays import AWKWARD, LABELS, SIZES, normal, same_bits


def stored(label, size, seed=0):
    values = normal(size, seed=seed)
    values[: min(size, AWKWARD.size)] = AWKWARD[:size]
    return narrow(values, label), label


def same_values(found, expected, label):
    """Equal bit for bit once widened, where every NaN is one of float32."""
    return same_bits(widen(found, label), widen(expected.numpy(), label))


def tensors(*inputs):
    return [(torch.from_numpy(raw), label) for raw, label in inputs]


@pytest.mark.parametrize(("kind", "label"), list(product(LABELS, LABELS)))
def test_every_pair_of_dtypes_is_as_defined_bit_for_bit(kind, label):
    inputs, weights = [stored(kind, 4100, seed) for seed in range(3)], normal(3, seed=9)
    expected = reference.stored_sum(tensors(*inputs), torch.from_numpy(weights), label)
    assert same_values(stored_sum(StoredRows.of(inputs), weights, label), expected, label)
    base = stored(kind, 4100, 7)
    expected = reference.stored_delta_sum(tensors(base)[0], tensors(*inputs), torch.from_numpy(weights), 0.3, label)
    assert same_values(stored_delta_sum(StoredRows.of(inputs, base), weights, 0.3, label), expected, label)


@pytest.mark.parametrize("models", [1, 2, 5, 9])
@pytest.mark.parametrize("size", SIZES)
def test_dtypes_may_differ_from_input_to_input(models, size):
    inputs, weights = [stored(LABELS[seed % 4], size, seed) for seed in range(models)], normal(models, seed=9)
    expected = reference.stored_sum(tensors(*inputs), torch.from_numpy(weights), "bfloat16")
    assert same_values(stored_sum(StoredRows.of(inputs), weights, "bfloat16"), expected, "bfloat16")


@pytest.mark.parametrize("models", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("size", SIZES)
def test_any_number_of_bfloat16_inputs_is_as_defined_bit_for_bit(models, size):
    base, *inputs = (stored("bfloat16", size, seed) for seed in range(models + 1))
    weights = normal(models, seed=9)
    expected = reference.stored_sum(tensors(*inputs), torch.from_numpy(weights), "bfloat16")
    assert same_values(stored_sum(StoredRows.of(inputs), weights, "bfloat16"), expected, "bfloat16")
    whole = tensors(base)[0], tensors(*inputs), torch.from_numpy(weights), 0.7, "float32"
    found = stored_delta_sum(StoredRows.of(inputs, base), weights, 0.7, "float32")
    assert same_values(found, reference.stored_delta_sum(*whole), "float32")


@given(st.integers(0, 5000), st.data())
def test_any_cut_into_chunks_gives_the_same_bits(size, data):
    cut = data.draw(st.integers(0, size))
    (first, label), (second, _) = stored("bfloat16", size), stored("bfloat16", size, 1)
    parts = [
        stored_sum(StoredRows.of([(first[part], label), (second[part], label)]), normal(2), "bfloat16")
        for part in (slice(cut), slice(cut, None))
    ]
    whole = StoredRows.of([(first, label), (second, label)])
    assert same_bits(np.concatenate(parts), stored_sum(whole, normal(2), "bfloat16"))
    runs = [stored_sum(whole.run(lo, hi - lo), normal(2), "bfloat16") for lo, hi in ((0, cut), (cut, size))]
    assert same_bits(np.concatenate(runs), np.concatenate(parts))


@pytest.mark.parametrize("label", LABELS)
def test_elements_need_not_be_aligned_and_may_be_read_only(label):
    raw, _ = stored(label, 1000)
    moved = np.frombuffer(b"x" + raw.tobytes(), np.uint8)[1:].view(storage_dtype(label))
    assert same_bits(stored_sum(StoredRows.of([(moved, label)]), np.ones(1, np.float32), label), raw)


def test_what_does_not_fit_is_refused_in_words():
    rows = StoredRows.of([stored("bfloat16", 4)])
    with pytest.raises(ValueError, match=r"weights: found float32 \[2\]"):
        stored_sum(rows, normal(2), "bfloat16")
    with pytest.raises(ValueError, match="rows: found no base, expected one"):
        stored_delta_sum(rows, normal(1), 1.0, "bfloat16")
    with pytest.raises(ValueError, match="rows: found a base, expected none"):
        stored_sum(StoredRows.of([stored("bfloat16", 4)], stored("bfloat16", 4)), normal(1), "bfloat16")
