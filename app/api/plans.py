"""What can be cooked, and what a recipe would give: nothing is built here."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.auth import Reader
from app.api.bodies import Body, body_of, documented
from app.api.recipes import RecipeFields, planned
from app.api.services import Pot
from app.api.shapes import PlanShape
from merge_core.methods import catalogue

router = APIRouter(prefix="/v1", tags=["recipes"])

RecipeData = Annotated[
    RecipeFields,
    Field(description="what is wanted, or a mergekit file's documents; sources are namespace/name@revision"),
]


class PlanWish(Body):
    """A recipe to plan."""

    recipe: RecipeData


@router.get("/methods", summary="List the merge methods")
def methods(token: Reader) -> list[dict[str, Any]]:
    """Each with its formula, parameters with their defaults, and source."""
    return catalogue()


@router.post("/plan", summary="Plan a recipe without building it", **documented(PlanWish, reads_yaml=True))
def plan(token: Reader, pot: Pot, wish: Annotated[PlanWish, Depends(body_of(PlanWish, reads_yaml=True))]) -> PlanShape:
    """Files, every tensor's place, memory, warnings, and the digest that the result would have."""
    _, found = planned(pot, token, wish.recipe)
    return PlanShape(**found.describe())
