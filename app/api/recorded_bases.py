"""Whether the deltas of a recipe are put on the bases that they were found to be of."""

from collections.abc import Iterator

from app.api.services import Services
from app.store.records import DeltaRecord, KnownBase
from merge_core.alignment import align
from merge_core.errors import RecipeError
from merge_core.recipe import Recipe, Stack

MOST_NAMED = 5


def check_bases(pot: Services, recipe: Recipe) -> None:
    """Raise RecipeError for a delta put on a base whose touched tensors are not those of its own.

    `recipe` is pinned to commits. What was not looked at yet, or is of no known base, passes.
    """
    for where, base_name, source in _placed(recipe, "recipe"):
        delta, base = _delta(pot, source), pot.store.known_base(*base_name.split("@"))
        if delta is None or base is None or (delta.base_repo, delta.base_commit) == (base.repo, base.commit):
            continue
        differ = _differing(pot, delta, base)
        if differ:
            raise _refused(where, delta, base, differ)


def _placed(recipe: Recipe, where: str) -> Iterator[tuple[str, str, str]]:
    """Each named ingredient with its field and the name of its base; not those that may be on any base."""
    for position, ingredient in enumerate(recipe.ingredients):
        at = f"{where}.ingredients[{position}].source"
        if not isinstance(ingredient.source, str):
            yield from _within(ingredient.source, at)
        elif recipe.base_name is not None and not ingredient.any_base:
            yield at, recipe.base_name, ingredient.source
    if recipe.base is not None:
        yield from _within(recipe.base, f"{where}.base")


def _within(source: str | Recipe | Stack, where: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(source, Recipe):
        yield from _placed(source, where)
    elif isinstance(source, Stack):
        for position, part in enumerate(source.stack):
            yield from _within(part.source, f"{where}.stack[{position}].source")


def _delta(pot: Services, source: str) -> DeltaRecord | None:
    """The record of a delta whose base is known."""
    full_name, _, commit = source.partition("@")
    repo = pot.store.get_repo(*full_name.split("/", 1))
    found = None if repo is None else pot.store.delta_of(repo, commit)
    return found if found is not None and found.kind == "delta" and found.base_repo is not None else None


def _differing(pot: Services, delta: DeltaRecord, base: KnownBase) -> list[str]:
    """The tensors that the delta touches and that the base holds otherwise than its own."""
    touched = {str(row["name"]): row.get("base_sha256") for row in pot.store.touched_by(delta.id)}
    here = {tensor.name: tensor.sha256 for tensor in pot.store.base_tensors(base.key)}
    names = align(touched, here)
    return [name for name, sha256 in touched.items() if sha256 and here.get(names.get(name, "")) != sha256]


def _refused(where: str, delta: DeltaRecord, base: KnownBase, differ: list[str]) -> RecipeError:
    first = ", ".join(repr(name[:200]) for name in differ[:MOST_NAMED])
    more = f" and {len(differ) - MOST_NAMED} more" if len(differ) > MOST_NAMED else ""
    found = f"'{base.name}', where {len(differ)} of the tensors that it touches differ: {first}{more}"
    expected = f"'{delta.base_repo}@{delta.base_commit}', or `any_base: true` beside the source to put it there anyway"
    return RecipeError("this delta is of another base", where=where, found=found, expected=expected)
