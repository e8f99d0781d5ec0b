"""The three compositions of the demo, as a client would post them."""

from typing import Any

from tests.demo.tasks import TASKS
from tests.demo.train import BASE_REPO

# Found by tests.demo.choose on the training split.
SUM_SCALE = 0.7
TIES_DENSITY = 0.2
TIES_SCALE = 1.2


def recipes() -> dict[str, dict[str, Any]]:
    """Recipes by the name of the repo each will be."""
    third = 1 / len(TASKS)
    return {
        "soups/linear": _recipe({"name": "linear"}, third, 1.0),
        "soups/arithmetic": _recipe({"name": "task_arithmetic"}, 1.0, SUM_SCALE),
        "soups/ties": _recipe({"name": "ties", "density": TIES_DENSITY}, 1.0, TIES_SCALE),
    }


def expert_repo(task: str) -> str:
    return f"experts/{task}"


def _recipe(method: dict[str, Any], weight: float, scale: float) -> dict[str, Any]:
    return {
        "base": f"{BASE_REPO}@main",
        "method": method,
        "ingredients": [{"source": f"{expert_repo(task)}@main", "weight": weight} for task in TASKS],
        "scale": scale,
        "dtype": "same",
    }
