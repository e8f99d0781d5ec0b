"""From a recipe in a request to a plan: parsed, its sources found and pinned to commits, checked against headers."""

from dataclasses import dataclass
from typing import Any

from app.api.recorded_bases import check_bases
from app.api.services import Services
from app.memory import PROCESS_BYTES
from app.names import check_name, check_revision
from app.store.records import Commit, Repo, Token, may_read
from app.store.resolve import PlanningResolve, check_gate
from merge_core.errors import InputError, NotFoundError, RecipeError, nearest
from merge_core.mergekit import is_mergekit, translate
from merge_core.plan import Plan, make_plan
from merge_core.recipe import Recipe

RecipeFields = dict[str, Any] | list[dict[str, Any]]
"""A recipe of ours or one mergekit document, or several of those."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A recipe whose sources are commits; `is_private` when other namespaces may not read one of them."""

    recipe: Recipe
    is_private: bool


def planned(pot: Services, token: Token, data: RecipeFields) -> tuple[Pinned, Plan]:
    """The plan of the recipe in `data` for a caller; every error that headers show comes out here."""
    pinned = _pinned(pot, token, _parsed(data))
    resolve = PlanningResolve(pot.store, pot.blobs, token)
    plan = make_plan(pinned.recipe, resolve, pot.settings.build_bytes, PROCESS_BYTES)
    check_bases(pot, pinned.recipe)
    return pinned, plan


def _parsed(data: RecipeFields) -> Recipe:
    """The recipe in `data`, ours or mergekit's."""
    documents = data if isinstance(data, list) else [data]
    try:
        return translate(documents).recipe if is_mergekit(documents) else Recipe.parse(data)
    except RecipeError as error:
        where = f"recipe.{error.where}" if error.where and error.where != "recipe" else "recipe"
        raise RecipeError(error.message, where=where, found=error.found, expected=error.expected) from None


def _pinned(pot: Services, token: Token, recipe: Recipe) -> Pinned:
    names, is_private = {}, False
    for where, source in recipe.places():
        repo, commit = _commit_of(pot, token, source, f"recipe.{where}")
        names[source] = f"{repo.full_name}@{commit.id}"
        is_private = is_private or repo.private or repo.gated != ""
    return Pinned(recipe.with_sources(names), is_private)


def _commit_of(pot: Services, token: Token, source: str, where: str) -> tuple[Repo, Commit]:
    full_name, _, revision = source.partition("@")
    namespace, slash, name = full_name.partition("/")
    if not slash:
        raise InputError(
            "not a source", where=where, found=repr(source), expected="namespace/name or namespace/name@revision"
        )
    repo = pot.store.get_repo(check_name(namespace, where), check_name(name, where))
    if repo is None or not may_read(token, repo):
        raise NotFoundError(
            "no such repo", where=where, found=repr(full_name), expected=_at_hand(pot, token, full_name)
        )
    check_gate(token, repo, where)
    try:
        commit = pot.store.resolve_revision(repo, check_revision(revision or "main", where))
    except NotFoundError as error:
        raise NotFoundError(error.message, where=where, found=error.found, expected=error.expected) from None
    _refuse_unreadable(pot, repo, commit, where)
    return repo, commit


def _refuse_unreadable(pot: Services, repo: Repo, commit: Commit, where: str) -> None:
    """Raises RecipeError for what was found to be broken or unsafe, though what is wrong may be in no header."""
    found = pot.store.delta_of(repo, commit.id)
    if found is not None and (found.kind, found.state) == ("files", "refused"):
        raise RecipeError(f"this commit is kept as files only: {found.reason}", where=where, found=commit.id)


def _at_hand(pot: Services, token: Token, full_name: str) -> str:
    """What could be meant, and how to bring what is elsewhere."""
    known = nearest(full_name, pot.store.known_names(token))
    upstream = pot.settings.upstream
    return f"{known}; `stockpot fetch {full_name}` brings it from {upstream}" if upstream else known
