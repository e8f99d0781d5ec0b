"""Weighted average of weights: the uniform soup and its weighted kin."""

from typing import ClassVar, Literal

from merge_core.methods.contract import Method, State, Weights, normalized, refuse_zero_sum


class Linear(Method):
    """Σ w_t W_t, divided by Σ w_t unless `normalize` is false.

    One input with weight 1 comes back bit for bit. Wortsman et al., "Model soups", 2022,
    https://arxiv.org/abs/2203.05482, section 2 (uniform soup: all weights equal).
    """

    name: Literal["linear"] = "linear"
    normalize: bool = True
    space: ClassVar[Literal["weight", "delta"]] = "weight"
    formula: ClassVar[str] = "Σ w_t W_t / Σ w_t"
    source: ClassVar[str] = "Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482"

    def check(self, weights: list[float], tensor: str) -> None:
        if self.normalize:
            refuse_zero_sum(weights, tensor)

    def combination(self, weights: Weights, state: State) -> Weights:
        return normalized(weights) if self.normalize else weights
