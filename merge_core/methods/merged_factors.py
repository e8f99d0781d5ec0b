"""One LoRA delta made of several: their A merged to one A and their B to one B, when it is first opened."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from kernels.all_finite import all_finite
from merge_core.deltas.low_rank import LowRank, LowRankLoader, widened
from merge_core.errors import FileError
from merge_core.methods.contract import Chunk, Rows, Weights
from merge_core.methods.lapack import serial
from merge_core.stored import StoredTensor

MergeFactor = Callable[[Chunk, Weights], Rows]
"""What becomes of one factor of every adapter: a chunk that is the whole of it, and their weights."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """Ingredient `position`'s delta with its `weight`, and what its factors are multiplied by."""

    position: int
    delta: LowRank
    weight: float
    on_a: float
    on_b: float


class MergedFactors:
    """W = base + B·A (or its transpose) of the merged factors; all parts have one rank and layout.

    The factors live as long as something that was opened holds them, so that threads share them and a model's are
    not all kept.
    """

    kind = "merged_factors"

    def __init__(self, parts: tuple[Part, ...], tensor: str, seed: int, merge: MergeFactor, survey_bytes: int) -> None:
        self.parts = parts
        self._tensor, self._seed, self._merge, self._survey_bytes = tensor, seed, merge, survey_bytes
        self._lock = Lock()
        self._kept: list[weakref.ref[Rows]] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parts[0].delta.shape

    @property
    def rank(self) -> int:
        return self.parts[0].delta.rank

    @property
    def nbytes(self) -> int:
        return sum(part.delta.nbytes for part in self.parts)

    @property
    def open_bytes(self) -> int:
        """The factors of all in float32, twice while they are merged."""
        return 2 * sum(part.delta.open_bytes for part in self.parts) + self._survey_bytes

    def open(self) -> LowRankLoader:
        a, b = self.factors()
        up, down = (a.T, b.T) if self.parts[0].delta.transposed else (b, a)
        return LowRankLoader(np.ascontiguousarray(up), np.ascontiguousarray(down), 1.0)

    def factors(self) -> tuple[Rows, Rows]:
        """The merged A [rank, columns] and B [rows, rank], with weights and scales in them."""
        with self._lock:
            kept = [reference() for reference in self._kept]
            a, b = kept if len(kept) == 2 else (None, None)
            if a is None or b is None:
                a, b = self._merged("lora_A"), self._merged("lora_B")
                self._kept = [weakref.ref(a), weakref.ref(b)]
        return a, b

    def distance(self) -> tuple[float, float]:
        """(‖B A − Σ w s B_t A_t‖², ‖Σ w s B_t A_t‖²) in the Frobenius norm."""
        terms = [Term(part.weight * part.delta.scale, part.delta.lora_a, part.delta.lora_b) for part in self.parts]
        with serial():
            return _square([Term(-1.0, *self.factors()), *terms]), _square(terms)

    def _merged(self, factor: str) -> Rows:
        rows = np.stack([self._finite(part, factor) for part in self.parts])
        weights = np.array([part.on_a if factor == "lora_A" else part.on_b for part in self.parts], dtype=np.float32)
        shape = rows.shape[1:]
        flat = rows.reshape(len(rows), -1)
        chunk = Chunk(flat, None, 0, f"{self._tensor}.{factor}", (shape[0], shape[1]), self._seed)
        return np.ascontiguousarray(self._merge(chunk, weights)).reshape(shape)

    def _finite(self, part: Part, factor: str) -> Rows:
        values = widened(part.delta.lora_a if factor == "lora_A" else part.delta.lora_b)
        if not all_finite(values.reshape(-1), "float32"):
            found = f"NaN or infinity in ingredient {part.position}"
            where = f"tensor '{self._tensor}'"
            raise FileError("a value is not finite", where=where, found=found, expected="finite weights")
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """coefficient · B·A."""

    coefficient: float
    a: StoredTensor | Rows
    b: StoredTensor | Rows


def _square(terms: list[Term]) -> float:
    """‖Σ c B A‖², by inner products of the factors: ⟨B_i A_i, B_j A_j⟩ = Σ (B_iᵀ B_j) ∘ (A_i A_jᵀ)."""
    return float(sum(_inner(*pair) for pair in product(terms, repeat=2)))


def _inner(one: Term, other: Term) -> float:
    inner = np.sum((_doubles(one.b).T @ _doubles(other.b)) * (_doubles(one.a) @ _doubles(other.a).T))
    return one.coefficient * other.coefficient * float(inner)


def _doubles(factor: StoredTensor | Rows) -> Doubles:
    return (widened(factor) if isinstance(factor, StoredTensor) else factor).astype(np.float64)
