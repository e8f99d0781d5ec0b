"""The nearest matrix of a rank: as good as Eckart and Young allow, the same every time, and honest about the rest."""

import numpy as np
import pytest
from numpy.typing import NDArray

from merge_core import truncation
from merge_core.truncation import by_range, truncated, truncated_product

RANDOM = np.random.default_rng(0)


def falling(m: int, n: int, power: float) -> NDArray[np.float32]:
    """A matrix whose k-th singular value is about k to the −`power`."""
    inner = min(m, n)
    left, right = RANDOM.standard_normal((m, inner)), RANDOM.standard_normal((inner, n))
    return ((left * np.arange(1, inner + 1) ** -power) @ right).astype(np.float32)


def least_error(matrix: NDArray[np.float32], rank: int) -> float:
    sigma = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    return float(np.linalg.norm(sigma[rank:]) / np.linalg.norm(sigma))


@pytest.mark.parametrize(("m", "n", "rank"), [(1, 1, 1), (7, 5, 5), (40, 300, 4), (300, 40, 1)])
def test_no_matrix_of_the_rank_is_nearer(m: int, n: int, rank: int) -> None:
    matrix = falling(m, n, 0.5)
    found = truncated(matrix, rank)
    assert (found.b.shape, found.a.shape) == ((m, rank), (rank, n))
    assert found.relative_error == pytest.approx(least_error(matrix, rank), abs=1e-7)


def test_the_range_of_a_large_matrix_is_found_as_well_as_by_all_its_singular_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(truncation, "EXACT", 200)
    matrix = falling(320, 300, 0.7)
    assert by_range(*matrix.shape, 20)
    found = truncated(matrix, 20)
    assert found.relative_error == pytest.approx(least_error(matrix, 20), rel=2e-5)
    again = truncated(matrix.copy(), 20)
    assert (found.a.tobytes(), found.b.tobytes()) == (again.a.tobytes(), again.b.tobytes())


def test_the_error_is_that_of_the_product_that_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was found: here after too few passes."""
    monkeypatch.setattr(truncation, "EXACT", 8)
    monkeypatch.setattr(truncation, "MOST_PASSES", 0)
    matrix = falling(200, 150, 0.1)
    found = truncated(matrix, 3)
    lost = matrix.astype(np.float64) - found.b.astype(np.float64) @ found.a.astype(np.float64)
    assert found.relative_error == pytest.approx(float(np.linalg.norm(lost) / np.linalg.norm(matrix)), rel=1e-6)
    assert found.relative_error > 1.01 * least_error(matrix, 3)


def test_a_zero_matrix_has_zero_factors_and_no_error() -> None:
    found = truncated(np.zeros((6, 4), dtype=np.float32), 2)
    assert (found.relative_error, found.b.any()) == (0.0, False)


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_a_product_is_cut_like_the_matrix_that_it_makes(rank: int) -> None:
    b, a = RANDOM.standard_normal((60, 12)), RANDOM.standard_normal((12, 50))
    found, direct = truncated_product(b, a, rank), truncated((b @ a).astype(np.float32), rank)
    np.testing.assert_allclose(found.b @ found.a, direct.b @ direct.a, atol=2e-5)
    assert found.relative_error == pytest.approx(direct.relative_error, abs=2e-7)


def test_the_largest_entry_of_each_column_is_positive() -> None:
    found = truncated(-falling(30, 20, 0.5), 6)
    largest = np.take_along_axis(found.b, np.abs(found.b).argmax(axis=0)[None], axis=0)
    assert (largest > 0).all()
