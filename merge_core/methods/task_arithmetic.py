"""Sums of task vectors: addition, negation, analogies."""

from typing import ClassVar, Literal

from kernels.weighted_sum import weighted_sum
from merge_core.methods.contract import Chunk, Method, Rows, State, Weights


class TaskArithmetic(Method):
    """W₀ + λ Σ w_t τ_t with τ_t = W_t − W₀; a negative weight forgets a task.

    The analogy C + (B − A) is weights +1, +1, −1. λ is the recipe's `scale`. Ilharco et al., "Editing models
    with task arithmetic", 2023, https://arxiv.org/abs/2212.04089, section 2.
    """

    name: Literal["task_arithmetic"] = "task_arithmetic"
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    formula: ClassVar[str] = "W₀ + λ Σ w_t τ_t"
    source: ClassVar[str] = "Ilharco et al. 2023, Editing models with task arithmetic, https://arxiv.org/abs/2212.04089"

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        return weighted_sum(chunk.rows, weights)
