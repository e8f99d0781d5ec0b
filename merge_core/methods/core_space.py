"""Any method in the space that low-rank task vectors share."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, SerializeAsAny, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from merge_core.deltas import Absent, Delta, LowRank
from merge_core.errors import RecipeError, nearest
from merge_core.methods.contract import Chunk, Method, Space, State, Weights
from merge_core.methods.core import Core, CoreDelta
from merge_core.methods.knots import merge_whole
from merge_core.methods.spectral import IN_CORE, Doubles, SpectralMethod
from merge_core.methods.tsv_m import TsvM

_JOINING = (Method.joined, SpectralMethod.joined)
"""A method with another way to join its inputs works on factors already."""


class CoreSpace(Method):
    """W₀ + λ U_B M V_Aᵀ, M merged from M_t = s_t U_Bᵀ B_t A_t V_A by `method`, with its parameters and the weights.

    U_B holds the left singular vectors of [B_1 … B_T] and V_A the right ones of [A_1; …; A_T], so that no task loses
    anything. Sums and tsv_m give what they give in full space, exactly up to rounding; methods on singular values
    count directions in core space, all others see M_t as a weight that is 0 in the base. `method` is a name or an
    object such as {name: ties, density: 0.3}. Takes LoRA adapters only; one that leaves a weight alone is zero
    there. Panariello et al., "Accurate and Efficient Low-Rank Model Merging in Core Space", 2025,
    https://arxiv.org/abs/2509.17786, section 4.
    """

    name: Literal["core_space"] = "core_space"
    method: Annotated[
        SerializeAsAny[Method],
        BeforeValidator(lambda value: _inner(value)),
        WithJsonSchema({"type": "object", "title": "Method", "description": "the method that merges in core space"}),
    ] = TsvM()
    space: ClassVar[Space] = "delta"
    complete_inputs: ClassVar[bool] = False
    formula: ClassVar[str] = "W₀ + λ U_B M V_Aᵀ, M by `method` of the U_Bᵀ B_t A_t V_A"
    source: ClassVar[str] = "Panariello et al. 2025, Merging in Core Space, https://arxiv.org/abs/2509.17786"

    @property
    def of_joined(self) -> Method:
        return IN_CORE

    def default_weight(self, count: int) -> float:
        return self.method.default_weight(count)

    def check(self, weights: list[float], tensor: str) -> None:
        fewest, most = self.method.fewest_inputs, self.method.most_inputs
        if not fewest <= len(weights) <= (most or len(weights)):
            expected = f"{fewest}" if most == fewest else f"{fewest} or more"
            message = f"{self.method.title()} takes another number of ingredients"
            raise RecipeError(message, where="ingredients", found=len(weights), expected=expected)
        self.method.check(weights, tensor)

    def combination(self, weights: Weights, state: State) -> Weights:
        return weights

    def joined(self, inputs: Sequence[Delta], weights: Sequence[float], tensor: str, seed: int) -> Delta:
        for position, entry in enumerate(inputs):
            if not isinstance(entry, LowRank | Absent):
                found = f"{entry.kind} in ingredient {position}"
                expected = f"LoRA factors, or a rule in `tensors` such as {{match: '{tensor}', take: base}}"
                message = "core space is made of low-rank inputs"
                raise RecipeError(message, where=f"tensor '{tensor}'", found=found, expected=expected)
        merge = partial(self._merge, weights=weights, tensor=tensor, seed=seed)
        return CoreDelta(inputs, tensor, self.title(), "both", merge, partial(self._core_bytes, count=len(inputs)))

    def _merge(self, core: Core, weights: Sequence[float], tensor: str, seed: int) -> Doubles:
        count, rows, columns = core.tasks.shape
        if isinstance(self.method, SpectralMethod) and min(rows, columns) >= self.method.narrowest(count):
            kept = core if isinstance(self.method, TsvM) else core.on_its_own()
            return self.method.merge_core(kept, weights, tensor, seed)
        flat = core.tasks.astype(np.float32).reshape(count, -1)
        zeros = np.zeros(flat.shape[1], dtype=np.float32)
        chunk = Chunk(flat, zeros, 0, tensor, (rows, columns), seed)
        merged = merge_whole(self.method, chunk, np.array(weights, dtype=np.float32))
        return merged.reshape(rows, columns).astype(np.float64)

    def _core_bytes(self, rows: int, columns: int, count: int) -> int:
        own = self.method.survey_bytes(count) + self.method.work_bytes((rows, columns), count)
        return own + 4 * rows * columns * (count + 8) + 8 * rows * columns


def _inner(value: Any) -> Method:
    """The inner method, by its name or as an object; what cannot be one is refused with the path below `method`."""
    if isinstance(value, Method):
        return _fitting(value)
    wish = {"name": value} if isinstance(value, str) else value
    if not isinstance(wish, dict):
        raise _misfit("the value is not acceptable", "", type(value).__name__, "a method's name, or an object")
    known = {kind.title(): kind for kind in _kinds(Method) if kind is not CoreSpace and kind is not type(IN_CORE)}
    name = str(wish.get("name"))
    if name not in known:
        raise _misfit("unknown method in core space", "name", repr(name[:80]), nearest(name[:80], sorted(known)))
    try:
        return _fitting(known[name].model_validate(wish))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path, expected = ".".join(map(str, first["loc"]))[:80], str(first["msg"]).removeprefix("Input should be ")
        raise _misfit("the value is not acceptable", path, repr(first["input"])[:80], expected) from None


def _fitting(method: Method) -> Method:
    """The method, unless it needs more than the matrices of one weight."""
    is_whole = method.surveys == "model"
    if is_whole or method.statistic is not None or method.bare or type(method).joined not in _JOINING:
        expected = "a method that merges one matrix after the other"
        found = f"{method.title()} over the whole model" if is_whole else method.title()
        raise _misfit("this is not done in core space", "", found, expected)
    return method


def _kinds(of: type[Method]) -> list[type[Method]]:
    """Every method that has a name."""
    below = [kind for direct in of.__subclasses__() for kind in _kinds(direct)]
    return ([of] if "name" in of.model_fields else []) + below


def _misfit(message: str, where: str, found: object, expected: object) -> PydanticCustomError:
    return PydanticCustomError("misfit", message, {"where": where, "found": found, "expected": expected})
