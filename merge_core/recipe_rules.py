"""Exceptions from a recipe, for tensors by name: other weights, other parameters, by layer, or a plain copy."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from merge_core.errors import nearest
from merge_core.methods import Method
from merge_core.recipe_errors import MOST_INGREDIENTS, misfit

LARGEST = 3.4e38
"""Weights multiply in float32; beyond this they would be infinite there."""

MOST_STEPS = 10_000


def listed(fewest: int, most: int) -> tuple[BeforeValidator, Any]:
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


class Record(BaseModel):
    """What every part of a recipe is: frozen, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Gradient(Record):
    """A number that changes from layer to layer: the values at even steps, and straight lines between them.

    The first value is the first layer's and the last the last layer's. Tensors outside the layers (embeddings,
    final norm, head) get the first, and so does a gradient of one value everywhere.
    """

    gradient: Annotated[tuple[Number, ...], *listed(1, MOST_STEPS)]

    def at(self, share: float) -> float:
        """The value a `share` in [0, 1] of the way through the layers."""
        scaled = share * (len(self.gradient) - 1)
        left = int(scaled)
        right = min(left + 1, len(self.gradient) - 1)
        rest = scaled - left
        return (1.0 - rest) * self.gradient[left] + rest * self.gradient[right]


def _is_plain(value: object) -> object:
    """Booleans, texts and numbers pass as they are: the method knows which of its parameters takes which."""
    is_number = isinstance(value, (int, float)) and -LARGEST <= value <= LARGEST
    if not is_number and not isinstance(value, str):
        raise misfit("the value is not acceptable", found=type(value).__name__, expected="a finite value or a gradient")
    return value


def _form(value: object) -> str:
    return "<gradient>" if isinstance(value, (dict, Gradient)) else "<plain>"


Steps = Annotated[Gradient, Tag("<gradient>")]
Scalar = Annotated[Annotated[Number, Tag("<plain>")] | Steps, Discriminator(_form)]
Parameter = Annotated[Annotated[Any, BeforeValidator(_is_plain), Tag("<plain>")] | Steps, Discriminator(_form)]


def at_share(value: Any, share: float) -> Any:
    """The value of a scalar or gradient a `share` of the way through the layers."""
    return value.at(share) if isinstance(value, Gradient) else value


class TensorRule(Record):
    """What holds for the tensors whose names match the glob.

    Either `take` ("base", or an ingredient's index: copied as it is), or any of: `weights`, an entry for each
    ingredient, null where this rule does not say; `parameters` of the method; `scale`. The first matching rule
    wins, for each weight and parameter on its own: what it leaves open the next one says, and after all of
    them the recipe. LiNeS, layer ℓ of L scaled by a + b·ℓ/(L−1), is `scale` with the gradient [a, a + b].
    """

    match: Annotated[str, Field(strict=True, min_length=1, max_length=1024)]
    weights: Annotated[tuple[Scalar | None, ...], *listed(1, MOST_INGREDIENTS)] | None = None
    take: Literal["base"] | Annotated[int, Field(strict=True, ge=0, lt=MOST_INGREDIENTS)] | None = None
    parameters: dict[str, Parameter] | None = None
    scale: Scalar | None = None

    @model_validator(mode="after")
    def _one_wish(self) -> "TensorRule":
        merges = self.weights is not None or self.parameters is not None or self.scale is not None
        if merges == (self.take is not None):
            found = "both" if merges else "neither"
            expected = "one of them, or parameters or scale"
            raise misfit("a rule has either weights or take", found=found, expected=expected)
        return self

    def check(self, position: int, count: int, *, method: Method, has_base: bool) -> None:
        """Raise where the rule does not fit a recipe of `count` ingredients."""
        where = f"tensors[{position}]"
        if self.weights is not None and len(self.weights) != count:
            found, expected = f"{len(self.weights)} weights", f"{count}, one for each ingredient"
            raise misfit("the rule's weights do not fit", f"{where}.weights", found=found, expected=expected)
        if self.take == "base" and not has_base:
            raise misfit("the recipe has no base to take from", f"{where}.take", found="'base'", expected="an index")
        if isinstance(self.take, int) and self.take >= count:
            expected = f"0 to {count - 1}"
            raise misfit("there is no such ingredient", f"{where}.take", found=self.take, expected=expected)
        if self.scale is not None and method.works_on(has_base) == "weight":
            expected = "no scale: this method averages weights"
            raise misfit("scale applies to a merged delta", f"{where}.scale", found=self.scale, expected=expected)
        for name, value in (self.parameters or {}).items():
            check_parameter(f"{where}.parameters.{name[:80]}", name, value, type(method))


def check_parameter(where: str, name: str, value: Any, method: type[Method]) -> None:
    """Raise where the method has no parameter `name`, or does not take the value, or one of a gradient's."""
    known = [field for field in method.model_fields if field != "name"]
    if name not in known:
        found = repr(name[:80])
        raise misfit(f"{method.title()} has no such parameter", where, found=found, expected=nearest(name, known))
    for one in value.gradient if isinstance(value, Gradient) else (value,):
        try:
            method.model_validate({name: one})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            expected = str(problem["msg"]).removeprefix("Input should be ")
            if problem["loc"]:
                raise misfit("the value is not acceptable", where, found=repr(one)[:80], expected=expected) from None
