"""A mergekit file: one document, or several that name each other's outputs, as one recipe."""

from typing import Any

from merge_core.documents import parse_yaml_documents
from merge_core.errors import RecipeError, UnsupportedError
from merge_core.mergekit.document import read_document
from merge_core.mergekit.group import Data
from merge_core.mergekit.translation import Translation, as_data, names_in
from merge_core.recipe import Recipe

THEIRS, OURS = {"base_model", "models", "slices", "modules", "experts"}, {"method", "ingredients", "stack"}
"""Keys that tell whose a file is that does not name its `merge_method`."""


def is_mergekit(documents: object) -> bool:
    """True for what is meant for mergekit, complete or not: a mapping with its keys, or several with one such."""
    if isinstance(documents, list) and documents:
        return any(is_mergekit(document) for document in documents)
    if not isinstance(documents, dict):
        return False
    return "merge_method" in documents or (not THEIRS.isdisjoint(documents) and OURS.isdisjoint(documents))


def read_yaml(raw: bytes) -> Translation:
    """The recipe in a YAML file, whether it is written for us or for mergekit."""
    documents = parse_yaml_documents(raw)
    if is_mergekit(documents):
        return translate(documents)
    if len(documents) != 1:
        found = f"{len(documents)} documents"
        raise RecipeError("a recipe is one document", where="document", found=found, expected="one")
    return Translation(Recipe.parse(documents[0]))


def translate(documents: object) -> Translation:
    """The recipe that means what a mergekit file, parsed, means.

    Several documents are a graph: one of them is the result, and the others, by their `name`, are sources in it.
    Raises RecipeError for a key, value or reference that cannot be, UnsupportedError for what is not done here.
    """
    held = documents if isinstance(documents, list) else [documents]
    notes: list[str] = []
    named: dict[str | None, Data] = {}
    for position, data in enumerate(held):
        name, recipe = _read(data, f"document {position + 1}" if len(held) > 1 else None, notes)
        if name in named:
            found = "no name" if name is None else repr(name)
            raise RecipeError("two documents have one name", where=f"document {position + 1}: name", found=found)
        named[name] = recipe
    return Translation(_parse(_joined(named)), tuple(notes))


def _read(data: object, place: str | None, notes: list[str]) -> tuple[str | None, Data]:
    try:
        _refuse_mixture(data)
        document = read_document(data)
        return document.name, as_data(document, notes)
    except (RecipeError, UnsupportedError) as error:
        raise (error if place is None else error.within(place)) from None


def _refuse_mixture(data: object) -> None:
    if isinstance(data, dict) and "experts" in data:
        message, expected = "a mixture of experts (mergekit-moe) is not built here", "a merge of models"
        raise UnsupportedError(message, where="experts", found="a file for mergekit-moe", expected=expected)


def _joined(named: dict[str | None, Data]) -> Data:
    """The result's recipe with the others in place of their names."""
    inner: dict[str, Data] = {name: data for name, data in named.items() if name is not None}
    wanted = {name for data in named.values() for name in names_in(data, inner)}
    ends = [name for name in named if name is None or name not in wanted]
    if len(ends) != 1:
        found = ", ".join(repr(name) for name in ends) or "none: they are made of each other"
        message = "one document is the result, and every other one goes into it"
        raise UnsupportedError(message, where="document", found=found, expected="one that no other one names")
    outer = named[ends[0]]
    for name, data in named.items():
        _check_tokens(name, data, inner)
    if isinstance(outer.get("tokenizer"), dict):
        inner = {name: {"tokenizer": {"source": "base"}, **data} for name, data in inner.items()}
    result: Data = _filled(outer, inner, ())
    return result


def _check_tokens(name: str | None, data: Data, inner: dict[str, Data]) -> None:
    """Tokens come from files, and those of another document's output are made together with it."""
    wish = data.get("tokenizer")
    rules = [] if not isinstance(wish, dict) else [rule.get("source") for rule in wish["tokens"]]
    asked = [wish["source"], wish.get("base")] if isinstance(wish, dict) else []
    found = [source["model"] if isinstance(source, dict) else source for source in rules if source != {"kind": "zero"}]
    for source in [*asked, *found]:
        if source in inner:
            message, expected = "tokens of another document's output are not supported", "a model's path"
            raise UnsupportedError(message, where=f"document {name or ''}: tokenizer", found=source, expected=expected)


def _filled(source: Any, inner: dict[str, Data], within: tuple[str, ...]) -> Any:
    if isinstance(source, str):
        if source not in inner:
            return source
        if source in within:
            raise RecipeError("documents are made of each other", where="document", found=" → ".join((*within, source)))
        return _filled(inner[source], inner, (*within, source))
    key = "stack" if "stack" in source else "ingredients"
    entries = [{**entry, "source": _filled(entry["source"], inner, within)} for entry in source[key]]
    base = {"base": _filled(source["base"], inner, within)} if "base" in source else {}
    return {**source, **base, key: entries}


def _parse(data: Data) -> Recipe:
    try:
        return Recipe.parse(data)
    except RecipeError as error:
        raise error.within("in the recipe that this means") from None
