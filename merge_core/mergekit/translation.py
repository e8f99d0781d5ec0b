"""One document as a recipe: models or slices, types, and what goes along with the weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from merge_core.errors import RecipeError, UnsupportedError, nearest
from merge_core.mergekit.document import Document, InputModel, InputSlice, Module, OutputSlice
from merge_core.mergekit.group import Data, Group, Levels, Source
from merge_core.mergekit.methods import PEERS, Peer
from merge_core.mergekit.reference import Reference
from merge_core.mergekit.side_wishes import side_wishes
from merge_core.recipe import Recipe

DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True)
class Translation:
    """A recipe that means what a mergekit file means, and what its author should know."""

    recipe: Recipe
    notes: tuple[str, ...] = ()


def as_data(document: Document, notes: list[str]) -> Data:
    """The document's recipe as data. Raises RecipeError or UnsupportedError with the key that is at fault."""
    part, where = _only_part(document)
    levels = [(f"{where}.parameters", part.parameters or {})] if part.parameters else []
    levels.append(("parameters", document.parameters or {}))
    if part.models:
        data = _models(document, part.models, levels, f"{where}models" if where else "models", notes)
    else:
        assert part.slices is not None, "a document has models or slices"
        data = _slices(document, part.slices, levels, notes)
    return data | _dtype(document) | side_wishes(document, data)


def _peer(document: Document) -> Peer:
    name = document.merge_method
    if name not in PEERS:
        raise RecipeError("unknown merge method", where="merge_method", found=repr(name), expected=nearest(name, PEERS))
    return PEERS[name]


def _only_part(document: Document) -> tuple[Module, str]:
    """The models or slices, and the path of the mapping around them."""
    held = [key for key in ("models", "slices", "modules") if getattr(document, key)]
    if len(held) != 1:
        found = " and ".join(held) or "none of them"
        raise RecipeError("one of models, slices and modules", where="document", found=found, expected="exactly one")
    if document.modules is None:
        return Module(models=document.models, slices=document.slices), ""
    if list(document.modules) != ["default"]:
        message = "models of several modules are not supported: names and shapes say what belongs together"
        raise UnsupportedError(
            message, where="modules", found=", ".join(document.modules)[:80], expected="models or slices"
        )
    module = document.modules["default"]
    if bool(module.models) == bool(module.slices):
        found = "both" if module.models else "neither"
        raise RecipeError("models or slices", where="modules.default", found=found, expected="one of them")
    return module, "modules.default."


def _models(document: Document, models: list[InputModel], levels: Levels, where: str, notes: list[str]) -> Data:
    sources = tuple(
        Source(entry.model, f"{where}[{position}].parameters", entry.parameters or {})
        for position, entry in enumerate(models)
    )
    _refuse_twice([source.reference for source in sources], where)
    return Group(document.merge_method, _peer(document), sources, document.base_model, levels, "").recipe(notes)


def _slices(document: Document, slices: list[OutputSlice], levels: Levels, notes: list[str]) -> Data:
    lengths = [stop - start for start, stop in (entry.sources[0].layer_range for entry in slices)]
    firsts = accumulate(lengths, initial=0)
    parts = [
        _slice(document, entry, levels, f"slices[{at}]", first, notes)
        for at, (entry, first) in enumerate(zip(slices, firsts, strict=False))
    ]
    return {"method": "passthrough", "ingredients": [{"source": {"stack": parts}}]}


def _slice(document: Document, entry: OutputSlice, levels: Levels, where: str, at: int, notes: list[str]) -> Data:
    """The slice whose first layer is the output's layer `at`."""
    base = entry.base_model or document.base_model
    peer = _peer(document)
    lengths = {source.layer_range[1] - source.layer_range[0] for source in entry.sources}
    if len(lengths) != 1:
        found = ", ".join(str(list(source.layer_range)) for source in entry.sources)
        message = "sources of a slice have as many layers as each other"
        raise RecipeError(message, where=f"{where}.sources", found=found, expected="equal lengths")
    references = [source.model for source in entry.sources]
    _refuse_twice(references, f"{where}.sources")
    if base is not None and base not in references:
        if peer.base != "ignored":
            message, expected = "the base is not among the slice's sources", "it, with its layer_range"
            raise RecipeError(message, where=f"{where}.sources", found=f"no '{base}'", expected=expected)
        base = None
    first = references.index(base) if base is not None else 0
    start, stop = entry.sources[first].layer_range
    sources = tuple(_sliced(source, start, f"{where}.sources[{at}]") for at, source in enumerate(entry.sources))
    own = [(f"{where}.parameters", entry.parameters or {})]
    group = Group(document.merge_method, peer, sources, base, [*own, *levels], where, start - at)
    return {"source": _simplest(group.recipe(notes)), "layers": [start, stop]}


def _sliced(source: InputSlice, start: int, where: str) -> Source:
    shift = source.layer_range[0] - start
    return Source(source.model, f"{where}.parameters", source.parameters or {}, shift)


def _simplest(recipe: Data) -> Any:
    """The source itself, for a recipe that only passes it through."""
    alone = recipe["ingredients"][0]
    is_plain = recipe["method"] == {"name": "passthrough"} and "tensors" not in recipe and "layer_shift" not in alone
    return alone["source"] if is_plain else recipe


def _dtype(document: Document) -> Data:
    for key, wish in (("out_dtype", document.out_dtype), ("dtype", document.dtype)):
        if wish:
            name = wish.removeprefix("torch.")
            if name not in DTYPES:
                raise RecipeError(
                    "not a type to save in", where=key, found=repr(wish)[:80], expected=nearest(name, DTYPES)
                )
            return {"dtype": name}
    return {}


def _refuse_twice(references: list[Reference], where: str) -> None:
    for position, reference in enumerate(references):
        if reference in references[:position]:
            raise RecipeError(
                "a model is there twice", where=f"{where}[{position}]", found=str(reference), expected="each once"
            )


def names_in(data: Data, names: Mapping[str, Any]) -> set[str]:
    """Which of `names` the recipe `data` has for sources."""
    return {name for name in _in_order(data) if name in names}


def _in_order(source: Any) -> Iterator[str]:
    """Every name in a recipe's data, the base first."""
    if isinstance(source, str):
        yield source
        return
    if "base" in source:
        yield from _in_order(source["base"])
    for entry in source.get("stack") or source.get("ingredients") or []:
        yield from _in_order(entry["source"])
