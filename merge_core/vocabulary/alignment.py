"""Models whose tokens are numbered differently, brought under one numbering before anything is merged."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from merge_core.deltas import Delta, Gathered, Replacement
from merge_core.errors import NotFoundError, RecipeError, UnsupportedError
from merge_core.formats.artefact import Artefact
from merge_core.formats.safetensors_file import read_json
from merge_core.recipe import Ingredient, Layers, Recipe, Stack
from merge_core.recipe_vocabulary import BASE, UNION, TokenEmbedding, Tokenizer, Vocabulary
from merge_core.sources import Source
from merge_core.stored import StoredTensor
from merge_core.vocabulary.embeddings import embedding_rows, is_tokenwise
from merge_core.vocabulary.rows import Numbering, Tables, make_tables
from merge_core.vocabulary.tokenizer import Known, Result, merged_tokenizer
from merge_core.vocabulary.tokens import read_tokens

CONFIG = "config.json"

OpenSource = Callable[[str], Source]
OpenArtefact = Callable[[str], Artefact]
AnySource = str | Recipe | Stack


@dataclass(frozen=True, slots=True)
class Opened:
    """What there is to align: every source by name, and how to read it."""

    source: OpenSource
    artefact: OpenArtefact


@dataclass(frozen=True, slots=True)
class Alignment:
    """One numbering of tokens, and the row tables of the models that are merged with each other under it."""

    wish: Vocabulary
    numbering: Numbering
    result: Result
    known: Mapping[str, Known]
    opened: Opened
    tables: Tables

    def artefact(self, name: str, artefact: Artefact) -> Artefact:
        """A full checkpoint with its embeddings and head in the order of the result's tokens."""
        if name not in self.tables.by_model:
            return artefact
        deltas = {key: self._gathered(name, key, delta) for key, delta in artefact.deltas.items()}
        return replace(artefact, deltas=deltas)

    def check_adapter(self, label: str, names: Iterable[str], base: Mapping[str, object]) -> None:
        """Raise UnsupportedError for an adapter that changes what is put in another order."""
        name = next((name for name in names if isinstance(base.get(name), Gathered)), None)
        if name is not None:
            message, expected = "an adapter changes rows that are numbered anew", "it merged into its model first"
            raise UnsupportedError(message, where=f"tensor '{name}'", found=label, expected=expected)

    def part(self, source: AnySource) -> "Alignment":
        """The same numbering for one part of a stack, whose models fill up each other's gaps."""
        models = list(_full_models(source, self.opened))
        own = source.base_name if isinstance(source, Recipe) else None
        tables = make_tables(self.wish, self.numbering, models, own or self.wish.base, self.known)
        return replace(self, tables=tables)

    def _gathered(self, model: str, key: str, delta: Delta) -> Delta:
        rows, table = self.known[model].rows, self.tables.by_model[model]
        if not isinstance(delta, Replacement) or not is_tokenwise(delta.stored, key, rows):
            return delta
        if rows == self.numbering.rows and np.array_equal(table.own, np.arange(rows)):
            return delta
        stored = delta.stored
        spec = replace(stored.spec, shape=(self.numbering.rows, *stored.spec.shape[1:]))
        donors = tuple(self._same_tensor(donor, key, stored) for donor in self.tables.names)
        return Gathered(spec, stored, donors, table)

    def _same_tensor(self, model: str, key: str, own: StoredTensor) -> StoredTensor:
        """The tensor of another model that means the same; its own where that has none, which is refused later."""
        tensors = self.opened.artefact(model).tensors
        found = tensors.get(key) or next(
            (stored for name, stored in tensors.items() if name.endswith(f".{key}") or key.endswith(f".{name}")), own
        )
        expected = (self.known[model].rows, *own.spec.shape[1:])
        if found is not own and (found.spec.shape != expected or not found.spec.dtype.mergeable):
            message = "embeddings do not fit each other"
            raise RecipeError(message, where=f"tensor '{key}'", found=f"{found.spec} in '{model}'", expected=expected)
        return found


def align_vocabularies(recipe: Recipe, opened: Opened) -> Alignment | None:
    """The alignment that the recipe's `tokenizer` asks for; None where it asks for none.

    Raises RecipeError, NotFoundError and UnsupportedError for tokenizers that are not there, not read, or of no use.
    """
    wish = recipe.tokenizer
    if not isinstance(wish, Vocabulary):
        return None
    if recipe.output.kind != "checkpoint":
        found, expected = recipe.output.kind, "checkpoint"
        raise RecipeError("a vocabulary is of a whole model", where="output.kind", found=found, expected=expected)
    models = list(_full_models(recipe, opened))
    base = wish.base or recipe.base_name
    if not models and base is None:
        message, expected = "tokens are those of full models", "a base, or a full checkpoint among the ingredients"
        raise RecipeError(message, where="tokenizer", found="adapters and deltas only", expected=expected)
    known = _known(dict.fromkeys([*([base] if base else []), *models, *_asked(wish)]), opened)
    result = _result(wish, base or models[0], models, known, opened)
    _check_nested(recipe, known)
    numbering = Numbering.of(result.tokens.numbers, wish.pad_to_multiple_of)
    tables = make_tables(wish, numbering, models, base, known)
    return Alignment(wish, numbering, result, known, opened, tables)


def speaker(source: AnySource) -> Recipe:
    """The recipe, in this one or itself, that says how the result's tokens are numbered."""
    assert isinstance(source, Recipe), "the outermost is a recipe"
    while source.tokenizer is None:
        first = source.ingredients[0].source if source.base is None else source.base
        first = first.stack[0].source if isinstance(first, Stack) else first
        if not isinstance(first, Recipe):
            break
        source = first
    return source


def _full_models(source: AnySource, opened: Opened) -> Iterator[str]:
    """Every full checkpoint named, in order, as often as it is."""
    if isinstance(source, str):
        if opened.artefact(source).complete:
            yield source
    elif isinstance(source, Stack):
        for part in source.stack:
            yield from _full_models(part.source, opened)
    else:
        if source.base is not None:
            yield from _full_models(source.base, opened)
        for ingredient in source.ingredients:
            yield from _full_models(ingredient.source, opened)


def _asked(wish: Vocabulary) -> list[str]:
    """The models that the rules of single tokens name."""
    sources = [rule.source.model if isinstance(rule.source, TokenEmbedding) else rule.source for rule in wish.tokens]
    return [source for source in sources if isinstance(source, str)]


def _known(names: Mapping[str, None], opened: Opened) -> dict[str, Known]:
    """Each model's tokens; one without a tokenizer is taken to have the first one's, as its rows are as many."""
    known: dict[str, Known] = {}
    for name in names:
        source = opened.source(name)
        rows, tokens = _rows(name, opened), read_tokens(source)
        if tokens is None:
            first = next(iter(known.values()), None)
            if first is None or first.rows != rows:
                expected = "a tokenizer.json" if first is None else f"one, for {rows} embeddings beside {first.rows}"
                raise NotFoundError("no tokenizer", where=f"source '{name}'", found="none", expected=expected)
            tokens = first.tokens
        known[name] = Known(source, tokens, rows)
    return known


def _rows(name: str, opened: Opened) -> int:
    source, artefact = opened.source(name), opened.artefact(name)
    config = read_json(source.files[CONFIG], CONFIG) if CONFIG in source.files else {}
    rows = embedding_rows(artefact.tensors, config) if artefact.complete else None
    if rows is None:
        found = "none" if artefact.complete else artefact.format
        expected = "a full checkpoint with embeddings"
        raise RecipeError("no embeddings", where=f"source '{name}'", found=found, expected=expected)
    return rows


def _result(wish: Vocabulary, base: str, models: Sequence[str], known: Mapping[str, Known], opened: Opened) -> Result:
    if wish.source in (UNION, BASE):
        others = [known[name] for name in dict.fromkeys([base, *models])]
        return merged_tokenizer(wish, known[base], others, strip=True)
    source = opened.source(wish.source)
    tokens = read_tokens(source)
    if tokens is None:
        where, expected = f"source '{wish.source}'", "a tokenizer.json"
        raise NotFoundError("no tokenizer", where=where, found="none", expected=expected)
    return merged_tokenizer(wish, Known(source, tokens, 0), (), strip=False)


def _check_nested(recipe: Recipe, known: Mapping[str, Known]) -> None:
    """A nested recipe with a tokenizer of its own is a model with its own tokens: fine where all have the same."""
    numbers = [model.tokens.numbers for model in known.values()]
    are_alike = all(one == numbers[0] for one in numbers)
    for where, inner in _nested(recipe, ""):
        if inner.tokenizer is not None and not (are_alike and _takes_what_is_there(inner.tokenizer, known)):
            message = "tokens of what is merged from models with other tokens are not numbered anew"
            expected = "one tokenizer for all, or a merge of its own"
            raise UnsupportedError(message, where=f"{where}.tokenizer", found="models that differ", expected=expected)


def _takes_what_is_there(wish: Tokenizer, known: Mapping[str, Known]) -> bool:
    source = wish if isinstance(wish, str) else wish.source
    return (source in (UNION, BASE) or source in known) and (isinstance(wish, str) or not wish.tokens)


def _nested(source: AnySource, where: str) -> Iterator[tuple[str, Recipe]]:
    if isinstance(source, str):
        return
    key = "stack" if isinstance(source, Stack) else "ingredients"
    entries: Sequence[Layers | Ingredient] = source.stack if isinstance(source, Stack) else source.ingredients
    sources = [entry.source for entry in entries]
    inside = [(f"{where}{key}[{position}].source", inner) for position, inner in enumerate(sources)]
    base = None if isinstance(source, Stack) else source.base
    for place, inner in inside if base is None else [(f"{where}base", base), *inside]:
        if isinstance(inner, Recipe):
            yield place, inner
        yield from _nested(inner, f"{place}.")
