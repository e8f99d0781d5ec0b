"""What a recipe says of one tensor, once its rules, filters and gradients are resolved: plain numbers."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from merge_core.errors import RecipeError
from merge_core.layers import Depths
from merge_core.methods import Method
from merge_core.recipe import Recipe
from merge_core.recipe_rules import TensorRule, at_share


class Rules:
    """The rules of one recipe over the tensors `names` of its output."""

    def __init__(self, recipe: Recipe, names: Iterable[str]) -> None:
        self._recipe = recipe
        self._depths = Depths(names)
        self._weights = recipe.weights()
        # A copy, so that a recipe that lies twice within another is surveyed apart: runs are told by their method.
        self._method = recipe.method.model_copy()
        self._methods: dict[tuple[tuple[str, Any], ...], Method] = {}
        self._applied: set[int] = set()

    def take(self, name: str) -> str | int | None:
        """Whose tensor is copied, where the first rule that speaks of inputs says so."""
        for position, rule in self._matching(name):
            if rule.take is not None or rule.weights is not None:
                self._applied.add(position)
                return rule.take
        return None

    def weights(self, name: str) -> tuple[float, ...]:
        """One weight for each ingredient."""
        found: list[float | None] = [None] * len(self._weights)
        share = self._depths.share(name)
        for position, rule in self._matching(name):
            for place, weight in enumerate(rule.weights or ()):
                if weight is not None and found[place] is None:
                    self._applied.add(position)
                    found[place] = at_share(weight, share)
        return tuple(usual if weight is None else weight for weight, usual in zip(found, self._weights, strict=True))

    def scale(self, name: str) -> float:
        """What the merged delta is multiplied by."""
        for position, rule in self._matching(name):
            if rule.scale is not None:
                self._applied.add(position)
                return float(at_share(rule.scale, self._depths.share(name)))
        return self._recipe.scale

    def method(self, name: str) -> Method:
        """The method with its parameters; the same object for equal parameters."""
        found: dict[str, Any] = {}
        share = self._depths.share(name)
        for position, rule in self._matching(name):
            for parameter, value in (rule.parameters or {}).items():
                if parameter not in found:
                    self._applied.add(position)
                    found[parameter] = at_share(value, share)
        key = tuple(sorted(found.items()))
        if found and key not in self._methods:
            self._methods[key] = self._changed(found, name)
        return self._methods[key] if found else self._method

    def idle(self) -> Iterator[str]:
        """A note for each rule that has applied to nothing."""
        for position, rule in enumerate(self._recipe.tensors):
            if position not in self._applied:
                yield f"rule tensors[{position}], match '{rule.match}', applies to no tensor"

    def _changed(self, parameters: dict[str, Any], name: str) -> Method:
        try:
            return type(self._method).model_validate({**self._method.model_dump(), **parameters})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            expected = problem.get("ctx", {}).get("expected") or problem["msg"]
            message = f"{self._method.title()} does not take these parameters together"
            raise RecipeError(message, where=f"tensor '{name}'", found=parameters, expected=expected) from None

    def _matching(self, name: str) -> Iterator[tuple[int, TensorRule]]:
        for position, rule in enumerate(self._recipe.tensors):
            if fnmatchcase(name, rule.match):
                yield position, rule
