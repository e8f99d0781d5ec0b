import numpy as np
import pytest
import torch

from kernels.consensus import consensus, reference
from tests.kernels.arrays import SIZES, dirty, normal, same_bits

WEIGHTS, SCALES = np.float32([1, 0.5, -1, 0.25]), np.float32([0.2, 0.4, 0.6, 0.0])


@pytest.mark.parametrize("owners", [1, 2, 4, 5])
@pytest.mark.parametrize("size", SIZES)
def test_consensus_is_its_definition_bit_for_bit(size, owners):
    for rows in (normal(4, size), np.round(normal(4, size) * 2) / 2):
        expected = reference.consensus(*map(torch.from_numpy, (rows, WEIGHTS, SCALES)), owners).numpy()
        assert same_bits(consensus(rows, WEIGHTS, SCALES, owners, dirty(size)), expected)


def test_an_example_worked_by_hand():
    rows = np.float32([[1.0, 4.0, 0.0, 2.0], [1.0, 0.0, 0.0, -2.0], [1.0, 1.0, 0.0, 0.5]])
    ones, scales = np.ones(3, np.float32), np.full(3, 0.4, np.float32)
    # Owners: all, 1 > 0.4·2; the first, 4 > 0.4·1; none, 0 > 0; all, 2 > 0.4·1.5, 2 > 0.4·2.5, 0.5 > 0.4·0.
    assert consensus(rows, ones, scales, 1).tolist() == [3, 5, 0, 0.5]
    assert consensus(rows, ones, scales, 2).tolist() == [3, 0, 0, 0.5]
    assert consensus(rows, ones, scales, 3).tolist() == [3, 0, 0, 0.5]
    assert consensus(rows, ones, scales, 4).tolist() == [0, 0, 0, 0]


def test_one_task_owns_all_that_it_changes():
    rows = normal(1, 1000)
    assert same_bits(consensus(rows, WEIGHTS[:1], SCALES[:1], 1), rows[0])


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="mask_scales: found"):
        consensus(normal(2, 4), WEIGHTS[:2], SCALES, 1)
