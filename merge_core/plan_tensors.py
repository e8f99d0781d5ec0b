"""What happens to each tensor: merged from which inputs, or copied from where. Every mismatch is found here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from merge_core.deltas import Absent, Delta, Replacement
from merge_core.errors import RecipeError, nearest
from merge_core.methods import Method
from merge_core.methods.linear import Linear
from merge_core.methods.task_arithmetic import TaskArithmetic
from merge_core.recipe import Recipe, TensorRule
from merge_core.stored import StoredTensor
from merge_core.tensors import BY_LABEL, DType, TensorSpec


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """One tensor to be computed; `spec` has the output's dtype. An input is a delta, or a merge of its own."""

    spec: TensorSpec
    method: Method
    weights: tuple[float, ...]
    scale: float
    seed: int
    base: StoredTensor | None
    inputs: tuple["Delta | Merge", ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """One tensor whose stored bytes are the result."""

    spec: TensorSpec
    stored: StoredTensor


TensorPlan = Merge | Copy


@dataclass(frozen=True, slots=True)
class Input:
    """One ingredient, its names already those of the base. A `complete` one speaks of every tensor."""

    label: str
    deltas: Mapping[str, "Delta | Merge"]
    complete: bool


class TensorPlanner:
    """Plans the tensors of one recipe over its opened inputs; `notes` collects what a user should know."""

    def __init__(self, recipe: Recipe, base: Mapping[str, StoredTensor] | None, inputs: Sequence[Input]) -> None:
        self.recipe = recipe
        self.base = base
        self.inputs = inputs
        self.weights = recipe.weights()
        self.notes: list[str] = []

    def plan(self) -> dict[str, TensorPlan]:
        """Every output tensor by name. Raises RecipeError for the first that does not fit."""
        names = self.base if self.base is not None else self._shared_names()
        planned = {name: self._plan_known(name) for name in sorted(names)}
        planned |= {name: plan for name, plan in self._plan_new(names) if plan is not None}
        return {name: self._converted(plan) for name, plan in planned.items()}

    def as_input(self, plan: TensorPlan) -> "Delta | Merge":
        """A planned tensor as an input of the recipe around this one: not rounded in between."""
        return plan if isinstance(plan, Merge) else Replacement(plan.stored)

    def _shared_names(self) -> Mapping[str, "Delta | Merge"]:
        """Without a base, the first ingredient says which tensors there are."""
        return self.inputs[0].deltas

    def _plan_known(self, name: str) -> TensorPlan:
        rule = self._rule(name)
        if rule is not None and rule.take is not None:
            return self._take(name, rule.take)
        frame = self._frame(name)
        if frame.dtype.kind != "float":
            return self._equal_everywhere(name, frame)
        if not frame.dtype.mergeable:
            hint = "a rule in `tensors` with take, or a model in bfloat16, float16 or float32"
            raise RecipeError(
                "this dtype is not merged", where=f"tensor '{name}'", found=frame.dtype.label, expected=hint
            )
        return self._merge(name, frame, self.weights if rule is None or rule.weights is None else rule.weights)

    def _merge(self, name: str, frame: TensorSpec, weights: tuple[float, ...]) -> TensorPlan:
        inputs = tuple(self._input(entry, name, frame) for entry in self.inputs)
        stored = self.base[name] if self.base is not None and name in self.base else None
        if (
            stored is not None
            and self.recipe.method.space == "delta"
            and all(isinstance(entry, Absent) for entry in inputs)
        ):
            return Copy(stored.spec, stored)
        self.recipe.method.check(list(weights), name)
        return Merge(frame, self.recipe.method, weights, self.recipe.scale, self.recipe.seed, stored, inputs)

    def _input(self, entry: Input, name: str, frame: TensorSpec) -> "Delta | Merge":
        delta = entry.deltas.get(name)
        if delta is None:
            return self._left_out(entry, name, frame)
        if delta.shape != frame.shape:
            found = f"{list(delta.shape)} in {entry.label}"
            raise RecipeError(
                "shapes differ",
                where=f"tensor '{name}'",
                found=found,
                expected=f"{list(frame.shape)} as in {self._frame_label()}",
            )
        if isinstance(delta, Replacement) and not delta.stored.spec.dtype.mergeable:
            found = f"{delta.stored.spec.dtype.label} in {entry.label}"
            raise RecipeError(
                "this dtype is not merged",
                where=f"tensor '{name}'",
                found=found,
                expected="bfloat16, float16, float32 or float64",
            )
        return delta

    def _left_out(self, entry: Input, name: str, frame: TensorSpec) -> Delta:
        if entry.complete:
            hint = f"the tensor, or a rule in `tensors` such as {{match: '{name}', take: base}}"
            raise RecipeError(
                "the tensor is missing", where=f"tensor '{name}'", found=f"nothing in {entry.label}", expected=hint
            )
        return Absent(frame.shape)

    def _equal_everywhere(self, name: str, frame: TensorSpec) -> Copy:
        """An integer or bool tensor: never averaged, so every input that has it must have the same."""
        holders = {entry.label: entry.deltas[name] for entry in self.inputs if name in entry.deltas}
        found = {label: delta.stored for label, delta in holders.items() if isinstance(delta, Replacement)}
        stored = self.base[name] if self.base is not None else next(iter(found.values()))
        for label, other in found.items():
            if (
                other.spec.dtype != frame.dtype
                or other.spec.shape != frame.shape
                or bytes(other.data) != bytes(stored.data)
            ):
                hint = f"equal values, or a rule in `tensors` such as {{match: '{name}', take: base}}"
                raise RecipeError(
                    f"{frame.dtype.label} tensors are not averaged",
                    where=f"tensor '{name}'",
                    found=f"other values in {label}",
                    expected=hint,
                )
        missing = [entry.label for entry in self.inputs if entry.complete and name not in entry.deltas]
        if missing:
            self.notes.append(
                f"tensor '{name}' ({frame.dtype.label}) is not in {', '.join(missing)}: kept as in the base"
            )
        return Copy(stored.spec, stored)

    def _plan_new(self, known: Mapping[str, object]) -> Iterator[tuple[str, TensorPlan | None]]:
        """Tensors that ingredients bring and the base lacks, such as a classification head."""
        for name in sorted({name for entry in self.inputs for name in entry.deltas if name not in known}):
            yield name, self._plan_newcomer(name)

    def _plan_newcomer(self, name: str) -> TensorPlan | None:
        owners = [position for position, entry in enumerate(self.inputs) if name in entry.deltas]
        rule = self._rule(name)
        if rule is not None and rule.take is not None:
            return None if rule.take == "base" else self._take(name, rule.take)
        if len(owners) == 1:
            self.notes.append(f"tensor '{name}' is only in {self.inputs[owners[0]].label}: kept as it is there")
            return self._take(name, owners[0])
        if len(owners) == len(self.inputs) and self.recipe.method.space == "weight":
            return self._merge(
                name, self._frame(name), self.weights if rule is None or rule.weights is None else rule.weights
            )
        found = " and ".join(self.inputs[position].label for position in owners)
        hint = f"a rule in `tensors` such as {{match: '{name}', take: {owners[0]}}}"
        raise RecipeError(
            f"{self._frame_label()} lacks a tensor that several ingredients have",
            where=f"tensor '{name}'",
            found=found,
            expected=hint,
        )

    def _take(self, name: str, take: str | int) -> TensorPlan:
        """The tensor as the base or one ingredient has it."""
        if isinstance(take, str):
            assert self.base is not None, "a recipe that takes from the base has one"
            return Copy(self.base[name].spec, self.base[name])
        delta = self.inputs[take].deltas.get(name)
        if isinstance(delta, Replacement):
            return Copy(replace(delta.stored.spec, name=name), delta.stored)
        if delta is None and (self.base is None or name not in self.base or self.inputs[take].complete):
            known = nearest(name, self.inputs[take].deltas)
            raise RecipeError(
                "the tensor to take is missing",
                where=f"tensor '{name}'",
                found=f"nothing in {self.inputs[take].label}",
                expected=known,
            )
        return self._alone(name, delta)

    def _alone(self, name: str, delta: "Delta | Merge | None") -> TensorPlan:
        """What one ingredient alone makes of the tensor."""
        stored = self.base[name] if self.base is not None and name in self.base else None
        if delta is None:
            assert stored is not None, "an absent delta has a base"
            return Copy(stored.spec, stored)
        if isinstance(delta, Merge):
            return Merge(delta.spec, Linear(), (1.0,), 1.0, self.recipe.seed, None, (delta,))
        return Merge(self._frame(name), TaskArithmetic(), (1.0,), 1.0, self.recipe.seed, stored, (delta,))

    def _frame(self, name: str) -> TensorSpec:
        """The spec that the output follows: the base's, else that of the first ingredient that has the tensor."""
        if self.base is not None and name in self.base:
            return self.base[name].spec
        delta = next(entry.deltas[name] for entry in self.inputs if name in entry.deltas)
        if isinstance(delta, Replacement):
            return replace(delta.stored.spec, name=name)
        return delta.spec if isinstance(delta, Merge) else TensorSpec(name, DType.F32, delta.shape)

    def _frame_label(self) -> str:
        return f"the base '{self.recipe.base}'" if self.base is not None else self.inputs[0].label

    def _rule(self, name: str) -> TensorRule | None:
        return next((rule for rule in self.recipe.tensors if fnmatchcase(name, rule.match)), None)

    def _converted(self, plan: TensorPlan) -> TensorPlan:
        """The plan with the output's dtype; a float tensor that changes type is no longer a plain copy."""
        if self.recipe.dtype == "same" or plan.spec.dtype.kind != "float" or plan.spec.dtype.label == self.recipe.dtype:
            return plan
        spec = replace(plan.spec, dtype=BY_LABEL[self.recipe.dtype])
        if isinstance(plan, Merge):
            return replace(plan, spec=spec)
        if not plan.spec.dtype.mergeable:
            raise RecipeError(
                "this dtype is not converted",
                where=f"tensor '{spec.name}'",
                found=plan.spec.dtype.label,
                expected="dtype: same",
            )
        return Merge(spec, Linear(), (1.0,), 1.0, self.recipe.seed, None, (Replacement(plan.stored),))
