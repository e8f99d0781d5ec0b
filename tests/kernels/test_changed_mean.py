import numpy as np
import pytest
import torch

from kernels.changed_mean import changed_counts, changed_mean, reference
from kernels.storage import narrow
from kernels.stored_rows import StoredRows
from tests.kernels.arrays import AWKWARD, SIZES, dirty, normal, same_bits

GAINS = np.float32([1, 1.02, 0.5, 1.1])


def drawn(size):
    rows = np.round(normal(4, size) * 2) / 4
    rows[1, : min(size, AWKWARD.size)] = AWKWARD[:size]
    return rows


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("epsilon", [0.0, 0.25, 1e-5])
@pytest.mark.parametrize("size", SIZES)
def test_both_are_their_definitions_bit_for_bit(size, epsilon):
    rows = drawn(size)
    tensor = torch.from_numpy(rows)
    counts = changed_counts(rows, epsilon)
    assert same_bits(changed_mean(rows, epsilon, None, dirty(size)), reference.changed_mean(tensor, epsilon).numpy())
    expected = reference.changed_mean(tensor, epsilon, torch.from_numpy(GAINS)).numpy()
    assert same_bits(changed_mean(rows, epsilon, GAINS, dirty(size)), expected)
    assert same_bits(counts, reference.changed_counts(tensor, epsilon).numpy())
    assert same_bits(changed_counts(rows, epsilon, counts.copy()), 2 * counts)


def test_an_example_worked_by_hand():
    rows = np.float32([[1.0, 4.0, 0.0, 0.1], [3.0, 0.0, 0.0, -2.0]])
    assert changed_mean(rows, 0.1).tolist() == [2.0, 4.0, 0.0, -2.0]
    assert changed_mean(rows, 0.1, np.float32([2, 3])).tolist() == [2.0, 8.0, 0.0, -6.0]
    assert changed_counts(rows, 0.1).tolist() == [[1, 1], [1, 1]]


def test_stored_rows_are_read_as_rows_in_memory():
    models = [(narrow(normal(5000, seed=seed), "bfloat16"), "bfloat16") for seed in range(5)]
    rows = StoredRows.of(models[1:], models[0])
    assert same_bits(changed_mean(rows, 0.5, GAINS), changed_mean(rows.load(), 0.5, GAINS))
    assert same_bits(changed_counts(rows, 0.5), changed_counts(rows.load(), 0.5))


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="gains: found"):
        changed_mean(normal(2, 4), 0.1, GAINS)
