"""What is wanted, as data: the same JSON on HTTP, in the queue, on the command line and in the output's metadata."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from merge_core.methods import AnyMethod
from merge_core.recipe_errors import MOST_INGREDIENTS, misfit, validated
from merge_core.recipe_rules import Number, Record, TensorRule, listed
from merge_core.recipe_vocabulary import EMBEDDINGS, Tokenizer, Vocabulary

MOST_RULES = 10_000

MOST_PARTS = 256
MOST_LAYERS = 100_000

SourceName = Annotated[str, Field(strict=True, min_length=1, max_length=4096)]
LayerIndex = Annotated[int, Field(strict=True, ge=0, le=MOST_LAYERS)]


def _source_form(value: object) -> str:
    if isinstance(value, Stack) or (isinstance(value, dict) and "stack" in value):
        return "stack"
    return "recipe" if isinstance(value, (dict, Recipe)) else "name"


AnySource = Annotated[
    Annotated[SourceName, Tag("name")] | Annotated["Recipe", Tag("recipe")] | Annotated["Stack", Tag("stack")],
    Discriminator(_source_form),
]
"""A name (`team/math@main`, or a path), a nested recipe, or a stack of other sources' layers."""


class Layers(Record):
    """The layers from `layers[0]` up to, and without, `layers[1]` of one full model."""

    source: AnySource
    layers: tuple[LayerIndex, LayerIndex]

    @model_validator(mode="after")
    def _has_layers(self) -> "Layers":
        if self.layers[0] >= self.layers[1]:
            expected = "[first, end] with first < end"
            raise misfit("the range holds no layer", "layers", found=str(list(self.layers)), expected=expected)
        return self


class Stack(Record):
    """A model put together from runs of layers, renumbered from 0 in this order.

    What comes before the layers (embeddings) is the first part's, what comes after them (final norm, head) the
    last part's.
    """

    stack: Annotated[tuple[Layers, ...], *listed(1, MOST_PARTS)]


class Ingredient(Record):
    """One input of a recipe; with `layer_shift` s its layer k + s is taken for layer k of the recipe.

    `any_base`: a delta of another base is put on this one on purpose. A service refuses it otherwise where the tensors
    that it touches differ.
    """

    source: AnySource
    weight: Number | None = None
    layer_shift: int = Field(default=0, strict=True, ge=-MOST_LAYERS, le=MOST_LAYERS)
    any_base: bool = Field(default=False, strict=True)

    @model_serializer(mode="wrap")
    def _without_default(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes from before there was `any_base` keep their text, and so their digests."""
        content: dict[str, Any] = serialize(self)
        return content if self.any_base else {key: value for key, value in content.items() if key != "any_base"}


class Output(Record):
    """The form of the result; a shard holds whole tensors, so a larger tensor has a shard of its own.

    `max_shard_bytes` is for checkpoints: other kinds are one file. `rank` is for `lora`: the most that the factors
    of a weight may have. Without it they are what the inputs' factors add up to, and a delta that is not of low
    rank is refused.
    """

    kind: Literal["checkpoint", "dense", "patch", "lora", "ternary"] = "checkpoint"
    max_shard_bytes: int = Field(default=5_000_000_000, strict=True, ge=1, lt=2**63)
    rank: int | None = Field(default=None, strict=True, ge=1, le=65536)

    @model_validator(mode="after")
    def _rank_is_of_lora(self) -> "Output":
        if self.rank is not None and self.kind != "lora":
            raise misfit("only an adapter has a rank", "rank", found=self.rank, expected="output kind lora, or no rank")
        return self


class TernaryOutput(Output):
    """The delta that the merge is, compressed as ComPEFT does: see docs/ternary.md.

    The `density` share of entries that is largest becomes ±`alpha` · σ, over the whole model or tensor by tensor
    (`scope`), as bitplanes (`hot`) or near the entropy (`cold`). `convention` original follows the authors' code;
    `magnitude` says what stands for σ.
    """

    kind: Literal["ternary"] = "ternary"
    density: float = Field(default=0.2, strict=True, ge=0.0, le=1.0)
    alpha: float = Field(default=1.0, strict=True, gt=0.0, le=1e6)
    scope: Literal["model", "tensor"] = "model"
    form: Literal["hot", "cold"] = "cold"
    convention: Literal["stockpot", "original"] = "stockpot"
    magnitude: Literal["std", "mean", "signed_mean"] = "std"

    @model_validator(mode="after")
    def _as_the_original(self) -> "TernaryOutput":
        if self.convention == "original" and self.density == 1.0:
            message = "the original compresses nothing at density 1"
            raise misfit(message, "density", found=1.0, expected="less than 1, or convention stockpot")
        if self.convention == "stockpot" and self.magnitude == "signed_mean":
            message = "a mean of signed values is a quirk of the original"
            raise misfit(message, "magnitude", found="signed_mean", expected="std, mean, or convention original")
        return self


def _output_form(value: object) -> str:
    is_ternary = isinstance(value, TernaryOutput) or (isinstance(value, dict) and value.get("kind") == "ternary")
    return "<ternary>" if is_ternary else "<other>"


AnyOutput = Annotated[
    Annotated[Output, Tag("<other>")] | Annotated[TernaryOutput, Tag("<ternary>")], Discriminator(_output_form)
]


class Recipe(Record):
    """A merge, complete: inputs, method, scale, types, seed, exceptions and output."""

    base: AnySource | None = None
    """What deltas are taken from: a full checkpoint, or a recipe of one."""
    method: AnyMethod
    ingredients: Annotated[tuple[Ingredient, ...], *listed(1, MOST_INGREDIENTS)]
    scale: Number = 1.0
    dtype: Literal["same", "float32", "float16", "bfloat16"] = "same"
    seed: int = Field(default=0, strict=True, ge=0, lt=2**63)
    tensors: Annotated[tuple[TensorRule, ...], *listed(0, MOST_RULES)] = ()
    tokenizer: Tokenizer | None = None
    """Whose tokenizer goes along, or which tokens the result has; without it the base's, or the first ingredient's."""
    chat_template: Annotated[str, Field(strict=True, min_length=1, max_length=100_000)] | None = None
    """A template's name, Jinja, or `auto`: the one that most sources have."""
    output: AnyOutput = Output()

    @field_validator("method", mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _rules_fit_ingredients(self) -> "Recipe":
        for position, rule in enumerate(self.tensors):
            rule.check(position, len(self.ingredients), method=self.method, has_base=self.base is not None)
        return self

    @classmethod
    def parse(cls, data: object) -> "Recipe":
        """The recipe in `data`; RecipeError names the field, what was found and what was expected."""
        return validated(cls, data)

    @classmethod
    def forms(cls) -> dict[str, type[Record]]:
        """What a source can be beside a name, by the tag of its form."""
        return {"recipe": cls, "stack": Stack, **EMBEDDINGS}

    @property
    def base_name(self) -> str | None:
        """The base's name; None where there is none, or where it is computed itself."""
        return self.base if isinstance(self.base, str) else None

    @model_validator(mode="after")
    def _is_whole_on_a_computed_base(self) -> "Recipe":
        if self.base is not None and self.base_name is None and self.output.kind != "checkpoint":
            found, expected = self.output.kind, "checkpoint: nobody else has this base"
            raise misfit("the base is computed here", "output.kind", found=found, expected=expected)
        return self

    def weights(self) -> tuple[float, ...]:
        """One weight for each ingredient, with the method's default where the recipe gives none."""
        default = self.method.default_weight(len(self.ingredients))
        return tuple(default if ingredient.weight is None else ingredient.weight for ingredient in self.ingredients)

    def canonical(self) -> str:
        """JSON with sorted keys and every default written out: equal recipes, equal text."""
        content = _unsigned_zeros(self.model_dump(mode="json"))
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def without_sources(self) -> str:
        """The canonical JSON with every source replaced by its position.

        It says what was done and not where the inputs lay, so that a file is the same bytes whether its
        inputs came from repos or from folders.
        """
        places = {name: f"#{position}" for position, name in enumerate(self.sources())}
        return self.with_sources(places).canonical()

    def sources(self) -> list[str]:
        """Every source named, the base first, nested recipes included; each once."""
        return list(dict.fromkeys(self._names()))

    def restacked(self) -> list[int] | None:
        """For each layer of the result the number it had before, where the first ingredient is a stack; else None."""
        source = self.ingredients[0].source
        if not isinstance(source, Stack):
            return source.restacked() if isinstance(source, Recipe) else None
        return [index for part in source.stack for index in range(*part.layers)]

    def _names(self) -> Iterator[str]:
        return (name for _, name in self.places())

    def places(self) -> Iterator[tuple[str, str]]:
        """Every source named, with the path of its field: `ingredients[0].source.base`."""
        if self.base is not None:
            yield from _places(self.base, "base")
        for position, ingredient in enumerate(self.ingredients):
            yield from _places(ingredient.source, f"ingredients[{position}].source")
        if isinstance(self.tokenizer, str):
            yield "tokenizer", self.tokenizer
        elif self.tokenizer is not None:
            yield from ((f"tokenizer.{inner}", name) for inner, name in self.tokenizer.places())

    def with_sources(self, names: Mapping[str, str]) -> "Recipe":
        """The same recipe with each source renamed; a name that `names` lacks stays."""
        ingredients = tuple(
            ingredient.model_copy(update={"source": _renamed(ingredient.source, names)})
            for ingredient in self.ingredients
        )
        base = None if self.base is None else _renamed(self.base, names)
        wish = self.tokenizer
        tokenizer = wish.with_sources(names) if isinstance(wish, Vocabulary) else names.get(wish or "", wish)
        return self.model_copy(update={"base": base, "ingredients": ingredients, "tokenizer": tokenizer})


def _places(source: str | Recipe | Stack, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(source, Recipe):
        yield from ((f"{where}.{inner}", name) for inner, name in source.places())
    elif isinstance(source, Stack):
        for position, part in enumerate(source.stack):
            yield from _places(part.source, f"{where}.stack[{position}].source")
    else:
        yield where, source


def _renamed(source: str | Recipe | Stack, names: Mapping[str, str]) -> str | Recipe | Stack:
    if isinstance(source, Recipe):
        return source.with_sources(names)
    if isinstance(source, Stack):
        parts = tuple(part.model_copy(update={"source": _renamed(part.source, names)}) for part in source.stack)
        return Stack(stack=parts)
    return names.get(source, source)


def _unsigned_zeros(content: Any) -> Any:
    """The same data with 0.0 for -0.0, which equals it and is written differently."""
    if isinstance(content, dict):
        return {key: _unsigned_zeros(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_unsigned_zeros(value) for value in content]
    return content + 0.0 if isinstance(content, float) else content
