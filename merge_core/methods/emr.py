"""EMR: one vector for all tasks; each task's model is it, masked and rescaled."""

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kernels.all_finite import rows_are_finite
from kernels.gram import BLOCK
from kernels.stored_rows import StoredRows
from merge_core.errors import RecipeError
from merge_core.methods.contract import Blocks, Chunk, Counts, Method, Partial, Rows, State, Surveyed, Weights
from merge_core.methods.finite import refuse_infinite_rows
from merge_core.methods.per_task import require_task
from merge_core.methods.sparse_rows import elect


class Emr(Method):
    """W₀ + λ λ_t M_t ⊙ τ_uni, t being `task`: that ingredient's model out of the vector that all share.

    With v_t = w_t τ_t, weights above 0: τ_uni has the sign of Σ v_t and the largest |v_t| of that sign, M_t marks
    where v_t has it too, and λ_t = Σ mean|τ_t| / Σ mean|M_t ⊙ τ_uni|, the sums over all tensors that some
    ingredient changes, 1 where the divisor is 0. One ingredient comes back as it is. `task` counts from 0. Huang
    et al., "EMR-Merging", 2024, https://arxiv.org/abs/2405.17461, section 3.2.
    """

    name: Literal["emr"] = "emr"
    task: int = Field(default=0, ge=0)
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    rounds: ClassVar[int] = 1
    formula: ClassVar[str] = (
        "W₀ + λ λ_t [τ_t γ > 0] ⊙ γ ε, γ = sign(Σ τ), ε = max |τ| of that sign, λ_t = Σ mean|τ_t| / Σ mean|M_t γ ε|"
    )
    source: ClassVar[str] = "Huang et al. 2024, EMR-Merging, https://arxiv.org/abs/2405.17461"

    @property
    def surveys(self) -> Literal["tensor", "model"]:
        return "model"

    def check(self, weights: list[float], tensor: str) -> None:
        require_task(self.task, weights)
        if min(weights) <= 0:
            where, expected = "ingredients[].weight", "weights above 0"
            raise RecipeError(
                f"tensor '{tensor}': emr has no use for a task of no or negative weight",
                where=where,
                found=weights,
                expected=expected,
            )

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        if not rows_are_finite(chunk.source):
            refuse_infinite_rows(chunk.rows, chunk.tensor)
        sums = np.stack([_block_sums(self._own(chunk)), _block_sums(self._masked(chunk, weights))], axis=1)
        return Blocks(sums / int(np.prod(chunk.shape)))

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        own, shared = total.values.sum(axis=0, dtype=np.float64)
        return np.float32(own / shared if shared > 0 else 1.0)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        masked = self._masked(chunk, weights)
        masked *= state
        return masked

    def _own(self, chunk: Chunk) -> Rows:
        source = chunk.source
        own: Rows = source.only(self.task).load()[0] if isinstance(source, StoredRows) else source[self.task]
        return own

    def _masked(self, chunk: Chunk, weights: Weights) -> Rows:
        """M_t ⊙ τ_uni."""
        own, shared = self._own(chunk), elect(chunk.source, weights, "max")
        np.copyto(shared, np.float32(0), where=(np.signbit(own) != np.signbit(shared)) | (own == 0))
        return shared


def _block_sums(row: Rows) -> NDArray[np.float64]:
    """Σ |x| of each BLOCK."""
    sizes = np.abs(row)
    starts = range(0, row.size, BLOCK)
    return np.array([sizes[start : start + BLOCK].sum(dtype=np.float64) for start in starts])
