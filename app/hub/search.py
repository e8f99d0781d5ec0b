"""Looking for repos."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response

from app.api.services import Pot, Services
from app.hub.auth import Visitor
from app.hub.cards import read_card, tags_of
from app.hub.models import IN_FULL, LISTED, Model, check_properties, told
from app.hub.route import Expand, add_next, hub_router
from app.store.records import FileEntry, Repo, Token
from app.store.repo_search import Order, RepoWish
from merge_core.errors import InputError, UnsupportedError
from merge_core.formats.model_card import CARD

router = hub_router()
MOST = 1000
BATCH = 200
ORDERS: dict[str, Order] = {"createdAt": "created_at", "lastModified": "updated_at"}
ALL_EQUAL = ("downloads", "likes", "trendingScore")
"""What lists may be sorted by and is not counted here: repos stay in the order of their names."""
NOT_KNOWN = ("apps", "num_parameters")
NOT_SERVED = ("inference", "inference_provider")


def sorted_wish(
    author: str | None = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    gated: bool | None = None,
    sort: str | None = None,
    direction: int = -1,
) -> RepoWish:
    """Which repos and in which order: what changed last comes first, unless the direction is 1."""
    if sort is not None and sort not in (*ORDERS, *ALL_EQUAL):
        expected = ", ".join((*ORDERS, *ALL_EQUAL))
        raise InputError("repos are not sorted by this", where="query sort", found=repr(sort), expected=expected)
    order = ORDERS.get(sort or "", "name")
    return RepoWish(author, search, gated, order, descending=order != "name" and direction != 1)


def wanted_tags(
    request: Request,
    filters: Annotated[list[str] | None, Query(alias="filter")] = None,
    pipeline_tag: str | None = None,
) -> set[str]:
    """Tags that a repo must have, all of them. Raises UnsupportedError for what no tag tells."""
    for name in NOT_KNOWN:
        if name in request.query_params:
            raise UnsupportedError("repos cannot be told apart by this", where=f"query {name}", expected="filter")
    listed = [tag.strip() for text in filters or () for tag in text.split(",")]
    return {tag for tag in (*listed, pipeline_tag) if tag}


@router.get("/api/models")
def found(
    caller: Visitor,
    pot: Pot,
    request: Request,
    response: Response,
    wish: Annotated[RepoWish, Depends(sorted_wish)],
    tags: Annotated[set[str], Depends(wanted_tags)],
    expand: Expand,
    full: bool = False,
    config: bool = False,
    card_data: Annotated[bool, Query(alias="cardData")] = False,
    limit: Annotated[int, Query(ge=1)] = MOST,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> list[dict[str, Any]]:
    """The repos that the caller may read; `Link` says where the next page is."""
    names = check_properties(expand) or [*(IN_FULL if full else LISTED)]
    names += [name for name, is_wanted in (("config", config), ("cardData", card_data)) if is_wanted]
    if any(name in request.query_params for name in NOT_SERVED):
        return []
    most = min(limit, MOST)
    models: list[Model] = []
    for model in matching(pot, caller, wish, tags, cursor):
        if len(models) == most:
            add_next(request, response, cursor=wish.cursor_at(models[-1].repo))
            break
        models.append(model)
    return [told(model, names) for model in models]


def matching(
    pot: Services, caller: Token | None, wish: RepoWish, tags: set[str], cursor: str | None
) -> Iterator[Model]:
    """The repos that are looked for and have the tags, one after the other."""
    while True:
        page = pot.store.search_repos(caller, wish, BATCH, cursor)
        cards = pot.store.head_files([repo.id for repo in page.items], CARD)
        for repo in page.items:
            model = Model(pot, repo, card=_card(pot, repo, cards.get(repo.id)))
            if not tags or tags <= set(tags_of(repo, model.card)):
                yield model
        cursor = page.next_cursor
        if cursor is None:
            return


def _card(pot: Services, repo: Repo, file: FileEntry | None) -> dict[str, Any] | None:
    """What a repo's card says; None where a composition that is not built may have one."""
    if file is not None:
        return read_card(pot.blobs, file)
    return None if repo.kind == "composition" else {}
