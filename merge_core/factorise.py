"""The two factors of a merged delta, computed as their plan says."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kernels.all_finite import all_finite
from merge_core.deltas import Rows
from merge_core.errors import FileError
from merge_core.methods.lapack import decomposing
from merge_core.methods.spectral import Doubles
from merge_core.not_finite import not_finite
from merge_core.plan import chunk_elements
from merge_core.planning.factors import Factored, Factors, matrix_shape, shares
from merge_core.run import Run
from merge_core.truncation import Product, truncated, truncated_product


@runtime_checkable
class FactorSink(Protocol):
    """An output that takes factors, and how far each pair is from its delta."""

    def write(self, tensor: str, byte_offset: int, data: NDArray[Any]) -> None: ...

    def report(self, tensor: str, relative_error: float) -> None: ...


def factorise(factors: Factors, run: Run) -> tuple[Rows, Rows, float]:
    """A and B, float32 as they are stored, and the relative error of their product; `run` has been surveyed.

    The error is 0 for factors that are the inputs' own, side by side. Raises FileError for values that are not
    finite, UnsupportedError where LAPACK fails.
    """
    found = _product(factors, run)
    if not (all_finite(found.a.reshape(-1), "float32") and all_finite(found.b.reshape(-1), "float32")):
        where = f"tensor '{factors.spec.name}'"
        raise FileError("a factor is not finite", where=where, found="NaN, or a value beyond float32")
    a, b = (found.b.T, found.a.T) if factors.flipped else (found.a, found.b)
    return _as_stored(a, factors.a.shape), _as_stored(b, factors.b.shape), found.relative_error


def _as_stored(factor: Rows, shape: tuple[int, ...]) -> NDArray[Any]:
    """With rows or columns of zeros where the rank that was planned is more than was found."""
    full = np.zeros((shape[0], int(np.prod(shape[1:]))), dtype=np.float32)
    full[: factor.shape[0], : factor.shape[1]] = factor
    return full.reshape(shape)


def _product(factors: Factors, run: Run) -> Product:
    name, title = factors.spec.name, run.merge.method.title()
    if factors.form == "decomposed":
        delta = _delta(run)
        with decomposing(name, title):
            return truncated(delta, factors.rank)
    up, down = _side_by_side(factors)
    if factors.form == "joined":
        return Product(up.astype(np.float32), down.astype(np.float32), 0.0)
    with decomposing(name, title):
        return truncated_product(up, down, factors.rank)


def _side_by_side(factors: Factors) -> tuple[Doubles, Doubles]:
    """[c_1 s_1 B_1 …] and [A_1; …] of all inputs, weights and scales in the first alone."""
    ups, downs = [], []
    coefficients = shares(factors.merge)
    assert coefficients is not None, "planning joins factors of sums only"
    for entry, share in zip(factors.merge.inputs, coefficients, strict=True):
        if isinstance(entry, Factored):
            opened = entry.open()
            ups.append(opened.up.astype(np.float64) * (share * opened.scale))
            downs.append(opened.down.astype(np.float64))
    return np.concatenate(ups, axis=1), np.concatenate(downs)


def _delta(run: Run) -> Rows:
    """The merged weights less the base, float32 [rows, columns], without the rounding of a sum in between."""
    merge, reader = run.merge, run.open()
    delta = np.empty(merge.spec.size, dtype=np.float32)
    elements = chunk_elements(merge)
    for start in range(0, delta.size, elements):
        size = min(elements, delta.size - start)
        chunk = reader.chunk(start, size)
        assert chunk.base is not None, "planning refuses an adapter without a base"
        base = chunk.base.copy()
        found = merge.method.merge(chunk, run.weights, run.state)
        part = delta[start : start + size]
        part[:] = found * np.float32(merge.scale) if merge.space == "delta" else found - base
        if not all_finite(part, "float32"):
            raise not_finite(merge, reader.chunk(start, size))
    return delta.reshape(matrix_shape(merge.shape))
