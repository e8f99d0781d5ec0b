"""Weights that are shares of a whole."""

from merge_core.errors import RecipeError
from merge_core.methods.contract import refuse_zero_sum


def refuse_negative_weights(weights: list[float], tensor: str) -> None:
    """Raise RecipeError for weights that are no shares: one below 0, or nothing in all."""
    if any(weight < 0.0 for weight in weights):
        message, expected = f"tensor '{tensor}': this method takes no negative weights", "weights of 0 or more"
        raise RecipeError(message, where="ingredients[].weight", found=f"{weights}", expected=expected)
    refuse_zero_sum(weights, tensor)
