"""Compressing a delta: a composition of one ingredient whose files are a ternary delta, in a repo of its own."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from app.api.auth import Writer
from app.api.bodies import Body, body_of, documented
from app.api.composing import compose
from app.api.services import Pot
from app.api.shapes import CompositionShape
from merge_core.compression import compression_recipe
from merge_core.errors import NotFoundError

router = APIRouter(prefix="/v1/deltas", tags=["deltas"])

ABOUT = "what is compressed: a LoRA's or IA3's own tensors, which need no base, or the changes of this base's weights"


class CompressWish(Body):
    """How to compress a delta, and the repo that the result will be in. See docs/ternary.md."""

    name: str = Field(description="namespace/name", examples=["team/math-small"])
    base: str | None = Field(default=None, description=ABOUT, examples=["org/base@main"])
    density: float = Field(default=0.2, ge=0.0, le=1.0, description="the share of entries that is kept")
    alpha: float = Field(default=1.0, gt=0.0, le=1e6, description="times the standard deviation: what they become")
    scope: Literal["model", "tensor"] = Field(default="model", description="the largest of all, or of each tensor")
    form: Literal["hot", "cold"] = Field(default="cold", description="bitplanes, or coded near the entropy")
    convention: Literal["stockpot", "original"] = Field(default="stockpot", description="the authors' code: original")

    def output(self) -> dict[str, Any]:
        """What a recipe's output says of it."""
        return self.model_dump(exclude={"name", "base"})


@router.post(
    "/{delta_id}/compress",
    status_code=202,
    summary="Compress a delta",
    responses={200: {"model": CompositionShape, "description": "It is compressed already"}},
    **documented(CompressWish),
)
def compressed(
    token: Writer,
    pot: Pot,
    delta_id: str,
    wish: Annotated[CompressWish, Depends(body_of(CompressWish))],
    response: Response,
) -> CompositionShape:
    """202 with a job: the composition that writes the ternary file, listed as a delta once it is built."""
    delta = pot.store.get_delta(delta_id, token)
    if delta is None:
        raise NotFoundError("no such delta", where=f"delta '{delta_id}'")
    repo = pot.store.get_repo(*delta.repo.split("/", 1))
    assert repo is not None, "a delta that is read has its repo"
    files = {entry.path: entry for entry in pot.store.tree(pot.store.resolve_revision(repo, delta.commit))}
    recipe = compression_recipe(f"{delta.repo}@{delta.commit}", delta.kind, files, wish.base, wish.output())
    return compose(pot, token, wish.name, recipe, response)
