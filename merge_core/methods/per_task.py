"""Methods that give back one task's model out of what all tasks share."""

from merge_core.errors import RecipeError


def require_task(task: int, weights: list[float]) -> None:
    """Raise RecipeError when the recipe has no ingredient of this number."""
    if task >= len(weights):
        expected = f"0 to {len(weights) - 1}, an ingredient's position"
        raise RecipeError("there is no such ingredient", where="method.task", found=task, expected=expected)
