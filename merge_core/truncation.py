"""The nearest matrix of a given rank, as two factors, with what it lacks of the original.

Everything is computed in float64 on one thread, so the bytes are the same on any number of threads.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.philox import uniform
from merge_core.methods.spectral import Doubles, svd_bytes

Rows = NDArray[np.float32]

EXACT = 1024
"""Up to so many rows or columns all singular values are computed; of larger matrices only the range of the largest."""
OVERSAMPLING = 16
"""The fewest directions looked at beyond the rank; as many as the rank where that is more."""
MOST_PASSES = 24
ENOUGH = 1e-5
"""A pass that finds less than this share of what is still missing is the last."""
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Product:
    """`b` @ `a`, float32 [m, rank] and [rank, n]; `relative_error` is ‖original − b a‖ / ‖original‖, Frobenius."""

    b: Rows
    a: Rows
    relative_error: float


def truncated(matrix: Rows, rank: int) -> Product:
    """The best approximation of `matrix`, float32 [m, n], by an SVD (Eckart and Young, 1936).

    Where the matrix is large and the rank is not, by a randomized range finder with as many power iterations as
    still find something (Halko et al., 2011, https://arxiv.org/abs/0909.4061, algorithm 4.4): of 4096 × 4096 to rank
    64 it takes seconds where the SVD takes a minute, and its error is up to 2e-5 above the least, which was measured
    on noise; 1e-6 where the singular values fall. The error returned is that of the rounded factors.
    """
    exact = matrix.astype(np.float64)
    u, sigma, vt = _strongest(exact, rank) if by_range(len(exact), exact.shape[1], rank) else _all(exact)
    b, a = _signed(u[:, :rank] * sigma[:rank], vt[:rank])
    return Product(b, a, _relative_error(exact, b, a))


def truncated_product(b: Doubles, a: Doubles, rank: int) -> Product:
    """The best approximation of b @ a, float64 [m, r] and [r, n], by the SVD of the small core of their QR factors.

    The error is that of the singular values left out; rounding the factors to float32 comes on top.
    """
    (q_left, left), (q_right, right) = np.linalg.qr(b), np.linalg.qr(a.T)
    u, sigma, vt = np.linalg.svd(left @ right.T, full_matrices=False)
    size = float(np.linalg.norm(sigma))
    lost = float(np.linalg.norm(sigma[rank:])) / size if size > 0 else 0.0
    return Product(*_signed(q_left @ (u[:, :rank] * sigma[:rank]), vt[:rank] @ q_right.T), lost)


def by_range(m: int, n: int, rank: int) -> bool:
    """Whether `truncated` looks for the range of the largest singular values only."""
    return min(m, n) > EXACT and 6 * _width(rank) <= min(m, n)


def truncated_bytes(m: int, n: int, rank: int) -> int:
    """What `truncated` takes beside its input."""
    own = 8 * m * n + 16 * rank * (m + n) + 3 * 8 * BLOCK
    width = _width(rank)
    return own + (8 * 6 * width * (m + n) + svd_bytes(width, n) if by_range(m, n, rank) else svd_bytes(m, n))


def truncated_product_bytes(m: int, n: int, inner: int, rank: int) -> int:
    """What `truncated_product` of factors with `inner` columns and rows takes beside them."""
    return 8 * (3 * inner * (m + n) + 2 * rank * (m + n)) + svd_bytes(inner, inner) + 8 * 4 * inner * inner


def _width(rank: int) -> int:
    return rank + max(rank, OVERSAMPLING)


def _all(matrix: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    return u, sigma, vt


def _strongest(matrix: Doubles, rank: int) -> tuple[Doubles, Doubles, Doubles]:
    """The `rank` largest singular values and a few more, from a random range that power iterations sharpen."""
    q = np.linalg.qr(matrix @ _random(matrix.shape[1], _width(rank)))[0]
    size, before = float(np.vdot(matrix, matrix)), -1.0
    for _ in range(MOST_PASSES):
        core = q.T @ matrix
        found = float(np.linalg.eigvalsh(core @ core.T)[-rank:].sum())
        if found - before <= ENOUGH * (size - found):
            break
        before = found
        q = np.linalg.qr(matrix @ np.linalg.qr(core.T)[0])[0]
    u, sigma, vt = np.linalg.svd(q.T @ matrix, full_matrices=False)
    return q @ u, sigma, vt


def _random(rows: int, columns: int) -> Doubles:
    """Draws from [-1/2, 1/2) that depend on their place alone."""
    draws = uniform(0, "range finder", 0, 0, np.empty(rows * columns, dtype=np.float32))
    centred: Doubles = draws.reshape(rows, columns).astype(np.float64) - 0.5
    return centred


def _signed(b: Doubles, a: Doubles) -> tuple[Rows, Rows]:
    """The factors in float32; the largest entry of each column of `b`, the first of equals, is positive."""
    if b.size == 0:
        return b.astype(np.float32), a.astype(np.float32)
    largest = b[np.abs(b).argmax(axis=0), np.arange(b.shape[1])]
    signs = np.where(largest < 0, -1.0, 1.0)
    return (b * signs).astype(np.float32), np.ascontiguousarray(a * signs[:, None], dtype=np.float32)


def _relative_error(matrix: Doubles, b: Rows, a: Rows) -> float:
    """Measured in blocks of rows; 0 for a zero matrix."""
    down, lost, size = a.astype(np.float64), 0.0, 0.0
    step = max(BLOCK // max(matrix.shape[1], 1), 1)
    for start in range(0, len(matrix), step):
        part = matrix[start : start + step]
        missing = part - b[start : start + step].astype(np.float64) @ down
        lost, size = lost + float(np.vdot(missing, missing)), size + float(np.vdot(part, part))
    return float(np.sqrt(lost / size)) if size > 0 else 0.0
