"""What a delta amounts to: counted and summed as the definitions say, never NaN, and within bounds of work."""

from math import sqrt

import numpy as np
import pytest

from merge_core.delta_facts import Measuring, TensorFacts, in_sum
from merge_core.deltas import Dense, LowRank, Replacement, Sparse
from merge_core.deltas.sparse_sum import SparseSum
from merge_core.deltas.summed import Summed
from merge_core.deltas.unsettled import Unsettled
from merge_core.stored import StoredTensor
from merge_core.tensors import BY_LABEL, TensorSpec


def stored(values: np.ndarray, name: str = "w") -> StoredTensor:
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return StoredTensor(TensorSpec(name, BY_LABEL[str(values.dtype)], values.shape), raw, "f.safetensors")


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def test_a_sparse_delta_counts_its_entries_and_needs_its_base_for_a_norm() -> None:
    base, values = draw(4, 5), np.array([3.0, -2.0], dtype=np.float32)
    delta = Sparse(stored(np.array([1, 7], dtype=np.int32)), stored(values), (4, 5))
    alone, facts = Measuring().facts("w", delta), Measuring({"w": stored(base)}).facts("w", delta)
    assert (alone.density, alone.norm, alone.rank, alone.bytes) == (0.1, None, None, 16)
    change = values.astype(np.float64) - base.reshape(-1)[[1, 7]]
    assert facts.norm == pytest.approx(float(np.linalg.norm(change)), rel=1e-6)


def test_a_sum_of_factors_and_entries_has_their_rank() -> None:
    factors = LowRank(stored(draw(2, 6)), stored(draw(8, 2)), 0.5, (8, 6))
    entries = SparseSum(np.array([3, 40]), np.array([1.0, 2.0], dtype=np.float32), (8, 6))
    facts = Measuring().facts("w", Summed((factors, entries)))
    dense = 0.5 * draw(8, 2).astype(np.float64) @ draw(2, 6).astype(np.float64)
    dense.reshape(-1)[[3, 40]] += [1.0, 2.0]
    assert (facts.rank, facts.density) == (2, 1.0)
    assert facts.norm == pytest.approx(float(np.linalg.norm(dense)), rel=1e-6)


@pytest.mark.parametrize(
    ("delta", "base"),
    [
        (LowRank(stored(draw(2, 6) * np.float32(1e38)), stored(draw(8, 2) * np.float32(1e38)), 1e300, (8, 6)), None),
        (Replacement(stored(draw(8, 6))), stored(draw(8, 7))),
        (Replacement(stored(draw(8, 6))), stored(np.zeros((8, 6), dtype=np.int64))),
        (Replacement(stored(draw(8, 6))), None),
        (Unsettled("sparse", 12), stored(draw(8, 6))),
    ],
    ids=["overflows", "other shape", "integers", "no base", "unsettled"],
)
def test_a_norm_that_cannot_be_told_is_none(delta: object, base: StoredTensor | None) -> None:
    facts = Measuring({} if base is None else {"w": base}).facts("w", delta)
    assert facts.norm is None


def test_work_is_bounded_over_all_tensors_of_a_delta() -> None:
    measuring = Measuring(left=4 * 48)
    first, second = (measuring.facts("w", Dense(stored(draw(8, 6)), 1.0)) for _ in range(2))
    assert first.norm == pytest.approx(float(np.linalg.norm(draw(8, 6).astype(np.float64))), rel=1e-6)
    assert second.norm is None


def test_sums_are_over_entries_and_unknown_where_a_part_is() -> None:
    one = TensorFacts("a", "low_rank", (2, 3), 4, 1.0, 3.0, 10)
    other = TensorFacts("b", "sparse", (2, 7), None, 0.5, 4.0, 20)
    assert in_sum([one, other]) == {
        "tensors": 2,
        "elements": 20,
        "density": 13 / 20,
        "rank": 4,
        "norm": sqrt(25.0),
        "bytes": 30,
    }
    unknown = in_sum([one, TensorFacts("c", "masked", (2, 7), None, None, None, 5)])
    assert (unknown["density"], unknown["norm"], unknown["rank"]) == (None, None, 4)
    nothing = in_sum([])
    assert (nothing["tensors"], nothing["density"], nothing["rank"], nothing["norm"]) == (0, None, None, 0.0)
