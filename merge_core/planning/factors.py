"""A weight whose delta is written as two factors, as a LoRA has it: how they are found, and what that needs."""

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np

from merge_core.deltas import Absent, Composite, Delta, LowRank, Replacement
from merge_core.methods.core import CoreDelta
from merge_core.methods.merged_factors import MergedFactors
from merge_core.planning.tensors import Merge, TensorPlan
from merge_core.stored import StoredTensor, same_values
from merge_core.tensors import TensorSpec
from merge_core.truncation import truncated_bytes, truncated_product_bytes

Form = Literal["joined", "shortened", "decomposed"]
"""The inputs' factors side by side, exactly; their product cut to a rank; the merged delta cut to a rank."""

Factored = LowRank | CoreDelta | MergedFactors

ONE = 1e-6
"""Coefficients that sum to 1 up to this leave the base as it is: they are float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """W − base = B · A, or (B · A)ᵀ when `flipped`: for weights stored [in, out], and embeddings.

    `a` and `b` are the tensors that are written, with any kernel dimensions behind A's columns.
    """

    merge: Merge
    a: TensorSpec
    b: TensorSpec
    form: Form
    flipped: bool

    @property
    def spec(self) -> TensorSpec:
        """The weight that the factors are of."""
        return self.merge.spec

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def is_conv1d(self) -> bool:
        """Whether PEFT has to be told that the weight is stored [in, out]; it knows of embeddings."""
        return self.flipped and self.a.name.endswith(".weight")

    @property
    def own_bytes(self) -> int:
        """What finding the factors takes beside the merge itself, which only the form `decomposed` carries out."""
        m, n = matrix_shape(self.merge.shape)
        if self.form == "decomposed":
            return 4 * m * n + truncated_bytes(m, n, self.rank)
        opened = sum(entry.open_bytes for entry in self.merge.inputs if not isinstance(entry, Merge))
        inner = inner_rank(self.merge)
        if self.form == "joined":
            return opened + 16 * inner * (m + n)
        return opened + truncated_product_bytes(m, n, inner, self.rank)


Built = TensorPlan | Factors
"""What a slot of an output file holds: a tensor, or a part of one that is written as factors."""


def merge_of(tensor: Built) -> Merge | None:
    """What is merged for a slot; None for a plain copy."""
    if isinstance(tensor, Factors):
        return tensor.merge
    return tensor if isinstance(tensor, Merge) else None


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows, and the rest flattened, as convolutions are multiplied."""
    return shape[0], prod(shape[1:])


def shares(merge: Merge) -> list[float] | None:
    """The c_t of a merge whose delta is Σ c_t τ_t; None for one that is anything else."""
    if merge.base is None or merge.method.rounds > 0:
        return None
    found = merge.method.combination(np.array(merge.weights, dtype=np.float32), None)
    if found is None:
        return None
    exact = [float(share) for share in found]
    if merge.space == "weight":
        return exact if abs(sum(exact) - 1.0) <= ONE else None
    return [share * merge.scale for share in exact]


def leaves_base(merge: Merge) -> bool:
    """True where no input says anything of the tensor, and the merge adds nothing of its own."""
    is_silent = all(isinstance(entry, Absent) for entry in merge.inputs)
    return is_silent and (merge.space == "delta" or shares(merge) is not None)


def without_repeats(merge: Merge, base: StoredTensor) -> Merge:
    """The same merge without the copies of the base that its inputs carry: what a fine-tune froze, and the weights
    that PEFT saves under the factors of embeddings.

    Reads a tensor up to where it differs. A survey of the whole model counts what it is given, so it stays.
    """
    if merge.method.surveys == "model":
        return merge
    return replace(merge, inputs=tuple(_without_repeat(entry, base) for entry in merge.inputs))


def _without_repeat(entry: Delta | Merge, base: StoredTensor) -> Delta | Merge:
    if isinstance(entry, Replacement) and same_values(entry.stored, base):
        return Absent(entry.shape)
    if isinstance(entry, Composite) and isinstance(_without_repeat(entry.whole, base), Absent):
        return entry.added
    return entry


def is_low_rank(merge: Merge) -> bool:
    """Whether the merged delta is the sum of the factors that the inputs have."""
    is_factored = all(isinstance(entry, Factored | Absent) for entry in merge.inputs)
    return is_factored and shares(merge) is not None


def factored(merge: Merge) -> list[Factored]:
    """The inputs that open as two factors."""
    return [entry for entry in merge.inputs if isinstance(entry, Factored)]


def published(entry: Factored) -> list[LowRank]:
    """The adapters' own factors that an input is made of."""
    if isinstance(entry, LowRank):
        return [entry]
    if isinstance(entry, MergedFactors):
        return [part.delta for part in entry.parts]
    return [inner for inner in entry.inputs if isinstance(inner, LowRank)]


def inner_rank(merge: Merge) -> int:
    """The ranks of the inputs that are of low rank, added up."""
    return sum(entry.rank for entry in factored(merge))
