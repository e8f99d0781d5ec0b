"""The space that low-rank task vectors share: small matrices in their place, merged there, and brought back as factors.

With U the left singular vectors of [B_1 … B_T] and V the right ones of [A_1; …; A_T], τ_t = U M_t Vᵀ. Panariello
et al., "Accurate and efficient low-rank model merging in core space", 2025, https://arxiv.org/abs/2509.17786.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kernels.all_finite import all_finite
from merge_core.deltas import Absent, Delta, LowRank
from merge_core.deltas.low_rank import LowRankLoader
from merge_core.errors import FileError
from merge_core.methods.lapack import decomposing

Doubles = NDArray[np.float64]
Rows = NDArray[np.float32]
Sides = Literal["both", "left"]

DEPENDENT = 1e-12
"""Directions with singular values up to this share of the largest are not of the factors: float64 has 1e-16."""


@dataclass(frozen=True, slots=True)
class Core:
    """Task vectors as `tasks`, float64 [tasks, rows, columns], in the bases `u` [m, rows] and `vt` [columns, n].

    With sides left `vt` is None, and the tasks have all n columns. `whole` is the shape of the weight.
    """

    tasks: Doubles
    u: Doubles
    vt: Doubles | None
    whole: tuple[int, int]

    def on_its_own(self) -> "Core":
        """The same, as if the tasks were weights of their own size."""
        return replace(self, whole=(self.tasks.shape[1], self.tasks.shape[2]))


CoreMerge = Callable[[Core], Doubles]
"""Makes one matrix [rows, columns] of the tasks, with their weights."""


def all_low_rank(inputs: Sequence[Delta]) -> bool:
    """Whether the inputs are factors or nothing, and there is one with factors."""
    is_low_rank = all(isinstance(entry, LowRank | Absent) for entry in inputs)
    return is_low_rank and any(isinstance(entry, LowRank) for entry in inputs)


class CoreDelta:
    """W = base + U · merged · Vᵀ of low-rank `inputs`, computed when it is first opened.

    The factors live as long as something that was opened holds them, so that threads share them and a model's are
    not all kept. `merge_bytes` says what `merge` takes for so many rows and columns.
    """

    kind = "core"

    def __init__(
        self,
        inputs: Sequence[Delta],
        tensor: str,
        method: str,
        sides: Sides,
        merge: CoreMerge,
        merge_bytes: Callable[[int, int], int],
    ) -> None:
        self.inputs = tuple(inputs)
        self._tensor, self._method, self._sides = tensor, method, sides
        self._merge, self._merge_bytes = merge, merge_bytes
        self._lock = Lock()
        self._kept: list[weakref.ref[Rows]] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inputs[0].shape

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self.inputs)

    @property
    def rank(self) -> int:
        """The most that the merged delta can have."""
        return min(self._summed, *self._matrix)

    @property
    def open_bytes(self) -> int:
        """The factors as they are and in float64, their bases and what an SVD takes, the core, and merging it."""
        (m, n), inner = self._matrix, self._summed
        rows, columns = min(inner, m), n if self._sides == "left" else min(inner, n)
        bases = (4 + 8 * 6) * inner * (m + n) + 8 * 6 * inner * inner
        tasks = 8 * 2 * len(self.inputs) * rows * columns
        return bases + tasks + self._merge_bytes(rows, columns) + 12 * rows * (m + n)

    def open(self) -> LowRankLoader:
        with self._lock:
            up, down = [reference() for reference in self._kept] or (None, None)
            if up is None or down is None:
                up, down = self._computed()
                self._kept = [weakref.ref(up), weakref.ref(down)]
        return LowRankLoader(up, down, 1.0)

    @property
    def _summed(self) -> int:
        return sum(entry.rank for entry in self.inputs if isinstance(entry, LowRank))

    @property
    def _matrix(self) -> tuple[int, int]:
        return self.shape[0], prod(self.shape[1:])

    def _computed(self) -> tuple[Rows, Rows]:
        opened = [self._opened(position) for position in range(len(self.inputs))]
        with decomposing(self._tensor, self._method):
            core = enter(opened, self._matrix, self._sides)
        if core.tasks.size == 0:
            m, n = self._matrix
            return np.zeros((m, 1), dtype=np.float32), np.zeros((1, n), dtype=np.float32)
        merged = self._merge(core)
        with decomposing(self._tensor, self._method):
            return leave(core, merged)

    def _opened(self, position: int) -> LowRankLoader | None:
        """An input's factors, or None where it has none. Raises FileError for values that are not finite."""
        entry = self.inputs[position]
        if not isinstance(entry, LowRank):
            return None
        found = entry.open()
        if not all(all_finite(factor.reshape(-1), "float32") for factor in (found.up, found.down)):
            found_what = f"NaN or infinity in ingredient {position}"
            where = f"tensor '{self._tensor}'"
            raise FileError("a value is not finite", where=where, found=found_what, expected="finite weights")
        return found


def enter(inputs: Sequence[LowRankLoader | None], whole: tuple[int, int], sides: Sides) -> Core:
    """The inputs in the bases that they share; M_t = s_t (Uᵀ B_t)(A_t V), zero for an input without factors."""
    given = [entry for entry in inputs if entry is not None]
    u = _basis(np.concatenate([entry.up for entry in given], axis=1))
    v = None if sides == "left" else _basis(np.concatenate([entry.down for entry in given]).T)
    columns = whole[1] if v is None else v.shape[1]
    tasks = np.zeros((len(inputs), u.shape[1], columns))
    for task, entry in zip(tasks, inputs, strict=True):
        if entry is not None:
            down = entry.down.astype(np.float64)
            task[:] = entry.scale * ((u.T @ entry.up.astype(np.float64)) @ (down if v is None else down @ v))
    return Core(tasks, u, None if v is None else np.ascontiguousarray(v.T), whole)


def leave(core: Core, merged: Doubles) -> tuple[Rows, Rows]:
    """The factors of U · merged · Vᵀ, float32: of as few columns and rows as the smaller side of the core has."""
    if core.u.shape[1] <= merged.shape[1]:
        up, down = core.u, merged if core.vt is None else merged @ core.vt
    else:
        up, down = core.u @ merged, np.eye(merged.shape[1]) if core.vt is None else core.vt
    return np.ascontiguousarray(up, dtype=np.float32), np.ascontiguousarray(down, dtype=np.float32)


def _basis(columns: NDArray[Any]) -> Doubles:
    """The left singular vectors that the columns have; the largest entry of each, the first of equals, is positive."""
    u, sigma, _ = np.linalg.svd(columns.astype(np.float64), full_matrices=False)
    kept = u[:, : int(np.count_nonzero(sigma > DEPENDENT * sigma.max(initial=0.0)))]
    largest = kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])]
    signed: Doubles = kept * np.where(largest < 0, -1.0, 1.0)
    return signed
