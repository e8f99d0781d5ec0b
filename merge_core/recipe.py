"""What is wanted, as data: the same JSON on HTTP, in the queue, on the command line and in the output's metadata."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from merge_core.methods import AnyMethod
from merge_core.recipe_errors import MOST_INGREDIENTS, validated
from merge_core.recipe_rules import Number, Record, TensorRule, listed

MOST_RULES = 10_000

SourceName = Annotated[str, Field(strict=True, min_length=1, max_length=4096)]


def _source_form(value: object) -> str:
    return "recipe" if isinstance(value, (dict, Recipe)) else "name"


class Ingredient(Record):
    """One input of a recipe; a source is a name (`team/math@main`, or a path) or a nested recipe."""

    source: Annotated[
        Annotated[SourceName, Tag("name")] | Annotated["Recipe", Tag("recipe")], Discriminator(_source_form)
    ]
    weight: Number | None = None


class Output(Record):
    """The form of the result; a shard holds whole tensors, so a larger tensor has a shard of its own."""

    kind: Literal["checkpoint"] = "checkpoint"
    max_shard_bytes: int = Field(default=5_000_000_000, strict=True, ge=1, lt=2**63)


class Recipe(Record):
    """A merge, complete: inputs, method, scale, types, seed, exceptions and output."""

    base: SourceName | None = None
    method: AnyMethod
    ingredients: Annotated[tuple[Ingredient, ...], *listed(1, MOST_INGREDIENTS)]
    scale: Number = 1.0
    dtype: Literal["same", "float32", "float16", "bfloat16"] = "same"
    seed: int = Field(default=0, strict=True, ge=0, lt=2**63)
    tensors: Annotated[tuple[TensorRule, ...], *listed(0, MOST_RULES)] = ()
    output: Output = Output()

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

    def _names(self) -> Iterator[str]:
        if self.base is not None:
            yield self.base
        for ingredient in self.ingredients:
            yield from ingredient.source._names() if isinstance(ingredient.source, Recipe) else (ingredient.source,)

    def with_sources(self, names: Mapping[str, str]) -> "Recipe":
        """The same recipe with each source renamed; a name that `names` lacks stays."""
        ingredients = tuple(
            ingredient.model_copy(update={"source": _renamed(ingredient.source, names)})
            for ingredient in self.ingredients
        )
        base = None if self.base is None else names.get(self.base, self.base)
        return self.model_copy(update={"base": base, "ingredients": ingredients})


def _renamed(source: "str | Recipe", names: Mapping[str, str]) -> "str | Recipe":
    return source.with_sources(names) if isinstance(source, Recipe) else names.get(source, source)


def _unsigned_zeros(content: Any) -> Any:
    """The same data with 0.0 for -0.0, which equals it and is written differently."""
    if isinstance(content, dict):
        return {key: _unsigned_zeros(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_unsigned_zeros(value) for value in content]
    return content + 0.0 if isinstance(content, float) else content
