"""Taking a delta out of a fine-tune: a composition that writes what it has other than its base, in its own repo."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from app.api.auth import Writer
from app.api.bodies import Body, body_of, documented
from app.api.composing import compose
from app.api.services import Pot
from app.api.shapes import CompositionShape
from merge_core.extraction import Kind, check_extraction, extraction_recipe

router = APIRouter(prefix="/v1/deltas", tags=["deltas"])


class ExtractWish(Body):
    """What to extract, how it is stored, and the repo that the result will be in."""

    name: str = Field(description="namespace/name", examples=["team/math-delta"])
    finetuned: str = Field(description="a full fine-tune", examples=["team/math@main"])
    base: str = Field(description="the model it was tuned from", examples=["org/base@main"])
    kind: Kind = Field("patch", description="single entries that differ, whole tensors that do, or an adapter")
    rank: int | None = Field(None, ge=1, le=65536, description="the adapter's, for kind lora")


@router.post(
    "/extract",
    status_code=202,
    summary="Extract a delta from a fine-tune",
    responses={200: {"model": CompositionShape, "description": "It is extracted already"}},
    **documented(ExtractWish),
)
def extracted(
    token: Writer, pot: Pot, wish: Annotated[ExtractWish, Depends(body_of(ExtractWish))], response: Response
) -> CompositionShape:
    """202 with a job. A patch and whole tensors give the fine-tune back bit for bit, or are refused here.

    An adapter is as near as its rank allows; `stockpot_report.json` in its repo says how near for each tensor.
    """
    recipe = extraction_recipe(wish.finetuned, wish.base, wish.kind, wish.rank)
    return compose(pot, token, wish.name, recipe, response, check=check_extraction)
