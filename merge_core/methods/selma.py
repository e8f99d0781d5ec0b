"""SELMA's expert merging: LoRA experts averaged in delta space, never factor by factor."""

from typing import ClassVar, Literal

from merge_core.methods.contract import Method, State, Weights


class Selma(Method):
    """W₀ + λ Σ w_k s_k B_k A_k, with w_k = 1/K where the recipe gives no weight.

    Averaging A and B apart would add cross terms. The published script divides by the length of the model's
    id string; that is a bug and is not followed. Li et al., "SELMA", 2024, https://arxiv.org/abs/2403.06952,
    section 3.4.
    """

    name: Literal["selma"] = "selma"
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    formula: ClassVar[str] = "W₀ + λ Σ w_k s_k B_k A_k, w_k = 1/K by default"
    source: ClassVar[str] = "Li et al. 2024, SELMA, https://arxiv.org/abs/2403.06952"
    complete_inputs: ClassVar[bool] = False

    def default_weight(self, count: int) -> float:
        return 1.0 / count

    def combination(self, weights: Weights, state: State) -> Weights:
        return weights
