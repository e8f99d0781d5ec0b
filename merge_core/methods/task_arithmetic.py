"""Sums of task vectors: addition, negation, analogies."""

from typing import ClassVar, Literal

from merge_core.methods.contract import Method, State, Weights, normalized, refuse_zero_sum


class TaskArithmetic(Method):
    """W₀ + λ Σ w_t τ_t with τ_t = W_t − W₀; a negative weight forgets a task.

    The analogy C + (B − A) is weights +1, +1, −1. λ is the recipe's `scale`. `normalize` divides by Σ w_t, as
    mergekit's does; weights that sum to 0 are then refused, where mergekit goes on undivided. Ilharco et al.,
    "Editing models with task arithmetic", 2023, https://arxiv.org/abs/2212.04089, section 2.
    """

    name: Literal["task_arithmetic"] = "task_arithmetic"
    normalize: bool = False
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    formula: ClassVar[str] = "W₀ + λ Σ w_t τ_t"
    source: ClassVar[str] = "Ilharco et al. 2023, Editing models with task arithmetic, https://arxiv.org/abs/2212.04089"

    def check(self, weights: list[float], tensor: str) -> None:
        if self.normalize:
            refuse_zero_sum(weights, tensor)

    def combination(self, weights: Weights, state: State) -> Weights:
        return normalized(weights) if self.normalize else weights
