import numpy as np
import pytest
import torch

from kernels.random_drop import drop_merge, reference
from kernels.storage import narrow
from kernels.stored_rows import STRETCH, StoredRows
from kernels.trim_elect.choices import ELECTS, MERGES
from tests.kernels.arrays import SIZES, normal, same_bits


def stored(models, size):
    rows = [(narrow(normal(size, seed=seed), "bfloat16"), "bfloat16") for seed in range(models + 1)]
    return StoredRows.of(rows[1:], rows[0])


def weights_of(models):
    return np.linspace(0.2, -0.7 if models > 2 else 1.0, models).astype(np.float32)


def expected(rows, weights, *arguments):
    found = reference.drop_merge(torch.from_numpy(rows), torch.from_numpy(weights), *arguments)
    return None if found is None else found.numpy()


def is_its_definition(rows, *choices):
    loaded = rows.load() if isinstance(rows, StoredRows) else rows.copy()
    arguments = (weights_of(len(loaded)), 7, "a.weight", 3, *choices)
    return same_bits(drop_merge(rows, *arguments), expected(loaded, *arguments))


@pytest.mark.parametrize("size", [*SIZES, STRETCH])
@pytest.mark.parametrize("models", [1, 2, 4, 5])
def test_dropped_and_merged_is_its_definition_bit_for_bit(size, models):
    for density in (0.0, 0.3, 1.0):
        assert is_its_definition(stored(models, size), density)
        assert is_its_definition(normal(models, size), density)


@pytest.mark.parametrize("elect", ELECTS)
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("rescale", [True, False])
def test_every_way_to_merge_is_its_definition(merge, elect, rescale):
    for models in (3, 6):
        for sign in (-1, 0, 1):
            assert is_its_definition(stored(models, 3000), 0.5, rescale, merge, elect, sign)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_give_nothing(bad):
    rows = normal(2, 5000)
    rows[1, 4000] = bad
    assert drop_merge(rows, weights_of(2), 7, "x", 0, 0.5) is None
    assert expected(rows, weights_of(2), 7, "x", 0, 0.5) is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="density"):
        drop_merge(normal(2, 10), weights_of(2), 0, "x", 0, 1.5)
    with pytest.raises(ValueError, match="elect"):
        drop_merge(normal(2, 10), weights_of(2), 0, "x", 0, 0.5, True, "mean", "nobody")
