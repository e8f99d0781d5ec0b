"""Deltas as objects: products, sums, slices and conversions, against the dense tensors that they stand for."""

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from merge_core.conversion import to_dense, to_low_rank, to_sparse
from merge_core.deltas import Absent, Delta, Dense, LowRank, Replacement, Scale
from merge_core.deltas.adding import add_to
from merge_core.deltas.inner_products import cosine, inner, norm
from merge_core.deltas.masked import Masked
from merge_core.deltas.masked_dense import MaskedDense
from merge_core.deltas.row_slice import RowSlice
from merge_core.deltas.signs import Signs
from merge_core.deltas.sparse_sum import SparseSum
from merge_core.deltas.summed import Summed
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec

ROWS, COLUMNS = 37, 64
SHAPE = (ROWS, COLUMNS)
EXACT = 1e-13
"""Relative: both sides add exact products of float32 in float64, in other orders."""
ROUNDED = 1e-6
"""Relative: one side rounds the entries of a product to float32 before it multiplies them."""

Random = np.random.Generator


def stored(values: NDArray[np.generic], dtype: DType = DType.F32) -> StoredTensor:
    data = np.ascontiguousarray(values)
    return StoredTensor(TensorSpec("t", dtype, data.shape), data.reshape(-1).view(np.uint8), "file")


def normal(random: Random, *shape: int) -> StoredTensor:
    return stored(random.standard_normal(shape).astype(np.float32))


def low_rank(random: Random) -> Delta:
    return LowRank(normal(random, 3, COLUMNS), normal(random, ROWS, 3), 0.5, SHAPE)


def transposed(random: Random) -> Delta:
    return LowRank(normal(random, 2, ROWS), normal(random, COLUMNS, 2), 2.0, SHAPE, transposed=True)


def sparse(random: Random) -> Delta:
    indices = np.sort(random.choice(ROWS * COLUMNS, 200, replace=False)).astype(np.int64)
    return SparseSum(indices, random.standard_normal(200).astype(np.float32), SHAPE)


def signs(random: Random) -> Delta:
    words = random.integers(-(2**31), 2**31, (COLUMNS // 32, ROWS)).astype(np.int32)
    return Signs(stored(words, DType.I32), 0.25)


KINDS: dict[str, Callable[[Random], Delta]] = {
    "low rank": low_rank,
    "low rank, transposed": transposed,
    "sparse": sparse,
    "signs": signs,
    "dense": lambda random: Dense(normal(random, *SHAPE), 0.5),
    "masked dense": lambda random: MaskedDense(
        normal(random, *SHAPE), stored(random.random(SHAPE) > 0.5, DType.BOOL), 2.0
    ),
    "replacement": lambda random: Replacement(normal(random, *SHAPE)),
    "scale": lambda random: Scale(normal(random, COLUMNS), 1, SHAPE),
    "sum": lambda random: Summed((low_rank(random), sparse(random))),
    "absent": lambda random: Absent(SHAPE),
    "slice": lambda random: RowSlice(Dense(normal(random, ROWS + 9, COLUMNS), 1.0), 4, ROWS + 4),
}
BASE = normal(np.random.default_rng(9), *SHAPE)

of_each_kind = pytest.mark.parametrize("kind", KINDS)
of_each_other = pytest.mark.parametrize("other", KINDS)


def made(kind: str, seed: int) -> tuple[Delta, NDArray[np.float64]]:
    """The delta, and all of its elements as its loader gives them."""
    delta = KINDS[kind](np.random.default_rng(seed))
    out = np.empty(ROWS * COLUMNS, dtype=np.float32)
    delta.open().load_delta(out, 0, BASE.storage())
    return delta, out.astype(np.float64)


@of_each_kind
@of_each_other
def test_the_inner_product_of_any_two_kinds_is_that_of_their_elements(kind: str, other: str) -> None:
    (one, dense), (two, dense_two) = made(kind, 1), made(other, 2)
    limit = ROUNDED * max(sqrt(float(dense @ dense) * float(dense_two @ dense_two)), 1.0)
    assert inner(one, two, BASE) == pytest.approx(float(dense @ dense_two), abs=limit)
    assert inner(one, two, BASE) == pytest.approx(inner(two, one, BASE), rel=EXACT, abs=EXACT * limit)


@of_each_kind
def test_norms_and_cosines_follow_from_it(kind: str) -> None:
    delta, dense = made(kind, 1)
    assert norm(delta, BASE) == pytest.approx(sqrt(float(dense @ dense)), rel=ROUNDED)
    assert cosine(delta, delta, BASE) == pytest.approx(0.0 if kind == "absent" else 1.0, rel=ROUNDED)


def test_the_norm_of_a_large_low_rank_delta_needs_only_its_factors() -> None:
    random = np.random.default_rng(0)
    delta = LowRank(normal(random, 4, 1 << 20), normal(random, 1 << 20, 4), 1.0, (1 << 20, 1 << 20))
    assert norm(delta) == pytest.approx(2.0 * 2.0**20, rel=0.01)


@of_each_kind
@given(start=st.integers(0, ROWS * COLUMNS), size=st.integers(0, 300), scale=st.sampled_from([1.0, -0.5, 3.0]))
@settings(max_examples=12, deadline=None)
def test_adding_a_multiple_to_a_chunk_is_adding_its_elements(kind: str, start: int, size: int, scale: float) -> None:
    delta, dense = made(kind, 3)
    run = slice(start, min(start + size, dense.size))
    out = np.ones(run.stop - run.start, dtype=np.float32)
    add_to(delta.open(), out, start, scale, BASE.storage()[run])
    np.testing.assert_allclose(out, 1.0 + scale * dense[run], rtol=1e-5, atol=1e-5)


@of_each_kind
def test_any_run_of_a_chunk_is_what_the_whole_has_there(kind: str) -> None:
    delta, dense = made(kind, 4)
    base = BASE.storage()
    for start, size in ((0, 1), (5, 200), (COLUMNS - 1, 2), (ROWS * COLUMNS - 1, 1), (17, 0)):
        run = slice(start, start + size)
        change, weight = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
        delta.open().load_delta(change, start, base[run])
        delta.open().load_weight(weight, start, base[run])
        np.testing.assert_array_equal(change, dense[run].astype(np.float32))
        np.testing.assert_allclose(weight, base[run] + dense[run], rtol=1e-5, atol=1e-5)


@of_each_kind
def test_rows_of_a_delta_are_the_rows_of_its_elements(kind: str) -> None:
    delta, dense = made(kind, 5)
    part = RowSlice(delta, 3, 20)
    out = np.empty(17 * COLUMNS, dtype=np.float32)
    part.open().load_delta(out, 0, BASE.storage()[3 * COLUMNS : 20 * COLUMNS])
    assert part.shape == (17, COLUMNS)
    np.testing.assert_array_equal(out.reshape(17, -1), dense.reshape(SHAPE)[3:20].astype(np.float32))


@pytest.mark.parametrize(("first", "end"), [(-1, 3), (5, 4), (0, ROWS + 1)])
def test_rows_that_are_not_there_are_refused(first: int, end: int) -> None:
    with pytest.raises(ValueError, match=f"expected a range within {ROWS}"):
        RowSlice(low_rank(np.random.default_rng(0)), first, end)


def test_deltas_of_different_shapes_have_no_product() -> None:
    with pytest.raises(ValueError, match="expected equal ones"):
        inner(Absent((2, 3)), Absent((3, 2)))


@of_each_kind
@pytest.mark.parametrize("entries", [0, 1, 100, ROWS * COLUMNS])
def test_a_sparse_form_keeps_the_largest_and_says_what_it_loses(kind: str, entries: int) -> None:
    delta, dense = made(kind, 6)
    found = to_sparse(delta, entries, BASE)
    lost = dense.copy()
    assert isinstance(found.delta, SparseSum)
    lost[found.delta.indices] = 0.0
    assert found.delta.indices.size == min(entries, np.count_nonzero(to_dense(delta, BASE)))
    size = sqrt(float(dense @ dense))
    assert found.relative_error == pytest.approx(sqrt(float(lost @ lost)) / size if size else 0.0, rel=1e-5, abs=1e-6)
    assert np.abs(lost).max(initial=0.0) <= np.abs(found.delta.values).min(initial=np.inf) + 1e-6


def test_of_equal_entries_a_sparse_form_keeps_those_that_come_first() -> None:
    delta = Dense(stored(np.array([[1, -1], [1, 0]], dtype=np.float32)), 1.0)
    found = to_sparse(delta, 2)
    assert isinstance(found.delta, SparseSum)
    assert found.delta.indices.tolist() == [0, 1]


def test_a_low_rank_form_gives_back_a_low_rank_delta_and_says_what_it_loses_of_others() -> None:
    delta, dense = made("low rank", 7)
    assert to_low_rank(delta, 3, "w").relative_error < 1e-6
    found = to_low_rank(delta, 1, "w")
    sigma = np.linalg.svd(dense.reshape(SHAPE), compute_uv=False)
    assert found.relative_error == pytest.approx(np.linalg.norm(sigma[1:]) / np.linalg.norm(sigma), rel=1e-5)
    assert (found.delta.kind, found.nbytes, found.nbytes_before) == ("low_rank", 4 * (ROWS + COLUMNS), delta.nbytes)
    with pytest.raises(ValueError, match="at most its smaller side"):
        to_low_rank(delta, ROWS + 1, "w")


def test_masked_values_are_found_in_any_chunk_across_blocks() -> None:
    random = np.random.default_rng(8)
    base = normal(random, 3, 1 << 16)
    mask = np.abs(base.storage()) < np.float32(0.3)
    values = normal(random, int(mask.sum()))
    delta = Masked.make(base, values, 0.3)
    expected = base.storage().copy()
    expected[mask] = values.storage()
    for start, size in ((0, 10), ((1 << 16) - 5, 10), (100_000, 90_000), (3 * (1 << 16) - 1, 1)):
        out = np.empty(size, dtype=np.float32)
        delta.open().load_weight(out, start, base.storage()[start : start + size])
        np.testing.assert_array_equal(out, expected[start : start + size])
