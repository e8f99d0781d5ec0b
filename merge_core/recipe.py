"""What is wanted, as data: the same JSON on HTTP, in the queue, on the command line and in the output's metadata."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from merge_core.methods import AnyMethod
from merge_core.recipe_errors import MOST_INGREDIENTS, misfit, validated

MOST_RULES = 10_000

LARGEST = 3.4e38
"""Weights multiply in float32; beyond this they would be infinite there."""


def _listed(fewest: int, most: int) -> tuple[BeforeValidator, Any]:
    """A list of so many entries, counted before any is looked at; YAML's sets lose the author's order."""

    def check(value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise misfit("the value is not acceptable", found=type(value).__name__, expected="a list")
        if not fewest <= len(value) <= most:
            expected = f"{fewest} to {most} entries"
            raise misfit("the list has another length", found=f"{len(value)} entries", expected=expected)
        return value

    return BeforeValidator(check), Field(min_length=fewest, max_length=most)


# Strict, because pydantic would read true as 1.0 and "0.5" as 0.5.
Number = Annotated[float, Field(strict=True, ge=-LARGEST, le=LARGEST)]
SourceName = Annotated[str, Field(strict=True, min_length=1, max_length=4096)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _source_form(value: object) -> str:
    return "recipe" if isinstance(value, (dict, Recipe)) else "name"


class Ingredient(_Record):
    """One input of a recipe; a source is a name (`team/math@main`, or a path) or a nested recipe."""

    source: Annotated[
        Annotated[SourceName, Tag("name")] | Annotated["Recipe", Tag("recipe")], Discriminator(_source_form)
    ]
    weight: Number | None = None


class TensorRule(_Record):
    """What holds for the tensors whose names match the glob; the first matching rule wins.

    Either other `weights`, one for each ingredient, or `take`: "base", or an ingredient's index, copied as it is.
    """

    match: Annotated[str, Field(strict=True, min_length=1, max_length=1024)]
    weights: Annotated[tuple[Number, ...], *_listed(1, MOST_INGREDIENTS)] | None = None
    take: Literal["base"] | Annotated[int, Field(strict=True, ge=0)] | None = None

    @model_validator(mode="after")
    def _one_wish(self) -> "TensorRule":
        if (self.weights is None) == (self.take is None):
            found = "neither" if self.take is None else "both"
            raise misfit("a rule has either weights or take", found=found, expected="one of them")
        return self


class Output(_Record):
    """The form of the result; a shard holds whole tensors, so a larger tensor has a shard of its own."""

    kind: Literal["checkpoint"] = "checkpoint"
    max_shard_bytes: int = Field(default=5_000_000_000, strict=True, ge=1, lt=2**63)


class Recipe(_Record):
    """A merge, complete: inputs, method, scale, types, seed, exceptions and output."""

    base: SourceName | None = None
    method: AnyMethod
    ingredients: Annotated[tuple[Ingredient, ...], *_listed(1, MOST_INGREDIENTS)]
    scale: Number = 1.0
    dtype: Literal["same", "float32", "float16", "bfloat16"] = "same"
    seed: int = Field(default=0, strict=True, ge=0, lt=2**63)
    tensors: Annotated[tuple[TensorRule, ...], *_listed(0, MOST_RULES)] = ()
    output: Output = Output()

    @field_validator("method", mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _rules_fit_ingredients(self) -> "Recipe":
        for position, rule in enumerate(self.tensors):
            _check_rule(rule, position, len(self.ingredients), has_base=self.base is not None)
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


def _check_rule(rule: TensorRule, position: int, count: int, *, has_base: bool) -> None:
    where = f"tensors[{position}]"
    if rule.weights is not None and len(rule.weights) != count:
        found, expected = f"{len(rule.weights)} weights", f"{count}, one for each ingredient"
        raise misfit("the rule's weights do not fit", f"{where}.weights", found=found, expected=expected)
    if rule.take == "base" and not has_base:
        raise misfit("the recipe has no base to take from", f"{where}.take", found="'base'", expected="an index")
    if isinstance(rule.take, int) and rule.take >= count:
        expected = f"0 to {count - 1}"
        raise misfit("there is no such ingredient", f"{where}.take", found=rule.take, expected=expected)
