"""Every form of delta gives the same bits however its weight is cut into chunks, and its delta is its weight's."""

from collections.abc import Iterator
from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from merge_core.deltas import (
    BlockRotation,
    Butterfly,
    Cayley,
    Composite,
    Cored,
    Decomposed,
    Delta,
    Dense,
    Hadamard,
    Kronecker,
    LowRank,
    Product,
    Replacement,
    RowReplacement,
    Scale,
    SharedFactors,
    Tucker,
    fitted,
    reads_of,
)
from merge_core.deltas.masked import Masked
from merge_core.deltas.masked_dense import MaskedDense
from merge_core.deltas.row_slice import RowSlice
from merge_core.deltas.signs import Signs
from merge_core.deltas.sparse_sum import SparseSum
from merge_core.deltas.summed import Summed
from merge_core.deltas.triangular import Triangular
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec, row_size

Floats = NDArray[np.float32]


def stored(*shape: int, seed: int = 0) -> StoredTensor:
    values = np.random.default_rng([seed, *shape]).normal(size=prod(shape)).astype(np.float32)
    return StoredTensor(TensorSpec("t", DType.F32, shape), values.view(np.uint8), "file")


def low_rank(rows: int, columns: int, rank: int = 3, transposed: bool = False) -> LowRank:
    return LowRank(stored(rank, columns), stored(rows, rank, seed=1), 0.5, (rows, columns), transposed)


def base_tensor(*shape: int) -> StoredTensor:
    """The base that `base_of` gives a delta of this shape, for a delta that looks into it."""
    values = np.random.default_rng(7).normal(size=prod(shape)).astype(np.float32)
    return StoredTensor(TensorSpec("t", DType.F32, shape), values.view(np.uint8), "file")


def small_entries() -> Masked:
    base = base_tensor(12, 24)
    return Masked.make(base, stored(int((np.abs(base.storage()) < np.float32(0.5)).sum())), 0.5)


def packed(*shape: int) -> StoredTensor:
    words = np.random.default_rng(3).integers(-(2**31), 2**31, prod(shape)).astype(np.int32)
    return StoredTensor(TensorSpec("t", DType.I32, shape), words.view(np.uint8), "file")


ENTRIES = SparseSum(np.arange(5, 288, 7), stored(41).storage(), (12, 24))
ROWS = np.array([0, 3, 11], dtype=np.int64)
PLAIN = LowRank(stored(3, 24), stored(12, 3, seed=1), 0.5, (12, 24))
ACROSS = LowRank(stored(3, 12), stored(24, 3, seed=1), 0.5, (12, 24), transposed=True)

DELTAS: dict[str, Delta] = {
    "dense": Dense(stored(12, 24), 0.3),
    "replacement": Replacement(stored(12, 24)),
    "low rank": PLAIN,
    "low rank, transposed": ACROSS,
    "low rank with a matrix": Cored(PLAIN, stored(3, 3)),
    "low rank with a core": Tucker(Product(stored(12, 2, 1), stored(2, 8, 1), stored(2, 2, 3)), 0.5),
    "shared factors": SharedFactors(stored(5, 30), stored(20, 5), stored(5), stored(12), (12, 24), False),
    "shared factors, transposed": SharedFactors(stored(5, 30), stored(30, 5), stored(5), stored(24), (12, 24), True),
    "elementwise product": Hadamard(
        Product(stored(12, 2), stored(2, 24)), Product(stored(12, 3), stored(3, 24)), 0.7, (12, 24)
    ),
    "Kronecker product": Kronecker(stored(3, 4), Product(stored(4, 2), stored(2, 6)), 0.7, (12, 24)),
    "magnitudes of rows": Decomposed(PLAIN, stored(12), 0),
    "magnitudes of columns": Decomposed(ACROSS, stored(24), 1),
    "magnitudes on a product": Decomposed(
        Kronecker(stored(3, 4), stored(4, 6), 0.7, (12, 24)), stored(12, 1), 0, 2.0**-23
    ),
    "scaled rows": Scale(stored(12, 1), 0, (12, 24)),
    "scaled columns": Scale(stored(1, 24), 1, (12, 24)),
    "scaled groups": Scale(stored(1, 48, 1), 1, (12, 24, 1)),
    "trained rows": RowReplacement(ROWS, np.array([2, 0, 1]), stored(3, 24), (12, 24)),
    "rotated blocks": BlockRotation(stored(6, 6), Cayley(), (12, 24)),
    "one rotation for all blocks": BlockRotation(stored(1, 6), Cayley(5), (12, 24), is_shared=True),
    "a butterfly": Butterfly(stored(2, 6, 4, 4), stored(12, 1), (12, 24)),
    "added entries": ENTRIES,
    "replaced small entries": small_entries(),
    "entries behind a mask": MaskedDense(stored(12, 24), stored(12, 24, seed=1), 0.5),
    "signs": Signs(packed(1, 12), 0.25),
    "a sum": Summed((PLAIN, ENTRIES)),
    "a diagonal between triangular factors": Triangular(base_tensor(12, 24), stored(5), 0.5, 0.2, "diagonal"),
    "rows of a delta": RowSlice(Dense(stored(20, 24), 0.3), 4, 16),
    "a copy with a delta": Composite(Replacement(stored(12, 24)), PLAIN),
    "a copy with magnitudes": Composite(Replacement(stored(12, 24)), Decomposed(PLAIN, stored(12), 0)),
}
every_form = pytest.mark.parametrize("form", DELTAS)


def chunks(delta: Delta, least: int) -> Iterator[slice]:
    """Runs of about `least` elements, along what the delta reads whole."""
    size = prod(delta.shape)
    unit = {"element": 1, "row": row_size(delta.shape), "matrix": size}[reads_of(delta)]
    step = max(least // unit, 1) * unit
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def base_of(delta: Delta) -> Floats:
    return np.random.default_rng(7).normal(size=prod(delta.shape)).astype(np.float32)


def weights(delta: Delta, least: int) -> Floats:
    base, loader = base_of(delta), delta.open()
    out = np.full_like(base, np.nan)
    for part in chunks(delta, least):
        loader.load_weight(out[part], part.start, base[part].copy())
    return out


@every_form
@pytest.mark.parametrize("least", [1, 7, 24, 100])
def test_the_bits_do_not_depend_on_the_chunks(form: str, least: int) -> None:
    whole = weights(DELTAS[form], 1 << 20)
    assert np.isfinite(whole).all()
    assert weights(DELTAS[form], least).tobytes() == whole.tobytes()


@every_form
def test_the_delta_is_the_weight_without_the_base(form: str) -> None:
    delta = DELTAS[form]
    base, loader = base_of(delta), delta.open()
    found = np.full_like(base, np.nan)
    for part in chunks(delta, 30):
        loader.load_delta(found[part], part.start, base[part].copy())
    whole = weights(delta, 1 << 20)
    np.testing.assert_allclose(found, whole.astype(np.float64) - base, atol=4 * 2.0**-23 * np.abs(whole).max())


@every_form
def test_the_base_is_read_and_left_as_it_is(form: str) -> None:
    delta = DELTAS[form]
    base, loader = base_of(delta), delta.open()
    base.flags.writeable = False
    loader.load_weight(np.empty_like(base), 0, base)
    loader.load_delta(np.empty_like(base), 0, base)


@every_form
def test_its_own_shape_fits_and_another_number_of_rows_does_not(form: str) -> None:
    delta = DELTAS[form]
    assert fitted(delta, delta.shape) is delta
    rows, *rest = delta.shape
    assert fitted(delta, (rows - 1, *rest)) is None or form in ("scaled columns", "rotated blocks", *SHARED)
    assert fitted(delta, ()) is None
    assert fitted(delta, (rows,)) is None or form == "scaled rows"


SHARED = ("one rotation for all blocks", "scaled groups", "shared factors, transposed")


def test_the_memory_of_an_open_delta_is_what_its_matrices_take() -> None:
    # The factors, the same beside those of other adapters, and what a product scales of them.
    assert low_rank(10, 20).open_bytes == 3 * (4 * 3 * 30)
    assert DELTAS["dense"].open_bytes == 0
    assert all(delta.open_bytes >= 0 and delta.nbytes > 0 for delta in DELTAS.values())
