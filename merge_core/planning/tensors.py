"""What happens to each tensor: merged from which inputs, or copied from where. Every mismatch is found here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from merge_core.deltas import Absent, Composite, Delta, Gathered, Replacement
from merge_core.errors import RecipeError, nearest
from merge_core.layers import layer_of, layers_of
from merge_core.methods.linear import Linear
from merge_core.methods.merged_factors import MergedFactors
from merge_core.planning.approximation import approximation_notes
from merge_core.planning.planned import AnyBase, Copy, Input, Merge, TensorPlan
from merge_core.planning.rules import Rules
from merge_core.planning.statistics import statistics_of
from merge_core.recipe import Recipe
from merge_core.stored import StoredTensor, same_values
from merge_core.tensors import BY_LABEL, DType, TensorSpec
from merge_core.vocabulary.embeddings import is_called_tokenwise

__all__ = ["AnyBase", "Copy", "Input", "Merge", "TensorPlan", "TensorPlanner"]


class TensorPlanner:
    """Plans the tensors of one recipe over its opened inputs; `notes` collects what a user should know."""

    def __init__(self, recipe: Recipe, base: Mapping[str, AnyBase] | None, inputs: Sequence[Input]) -> None:
        self.recipe = recipe
        self.base = base
        self.inputs = inputs
        self.rules = Rules(recipe, base if base is not None else inputs[0].deltas)
        self.notes: list[str] = []
        self._layers = layers_of(base if base is not None else inputs[0].deltas)
        self._approximate: dict[str, MergedFactors] = {}

    def plan(self) -> dict[str, TensorPlan]:
        """Every output tensor by name. Raises RecipeError for the first that does not fit."""
        names = self.base if self.base is not None else self._shared_names()
        planned = {name: self._plan_known(name) for name in sorted(names)}
        planned |= {name: plan for name, plan in self._plan_new(names) if plan is not None}
        self.notes.extend((*self.rules.idle(), *approximation_notes(self._approximate)))
        return {name: self._converted(plan) for name, plan in planned.items()}

    def as_input(self, plan: TensorPlan) -> "Delta | Merge":
        """A planned tensor as an input of the recipe around this one: not rounded in between."""
        return plan if isinstance(plan, Merge) else Replacement(plan.stored)

    @property
    def stored_base(self) -> Mapping[str, StoredTensor] | None:
        """The base's tensors, as far as they lie in files as they are."""
        held = None if self.base is None else self.base.items()
        return None if held is None else {name: base for name, base in held if isinstance(base, StoredTensor)}

    def _shared_names(self) -> Mapping[str, "Delta | Merge"]:
        """Without a base, the first ingredient says which tensors there are."""
        return self.inputs[0].deltas

    def _plan_known(self, name: str) -> TensorPlan:
        take = self.rules.take(name)
        return self._together(name) if take is None else self._take(name, take)

    def _together(self, name: str) -> TensorPlan:
        """What the ingredients make of the tensor, each with its weight; integers must agree."""
        frame = self._frame(name)
        copied = self._copied(name, frame)
        if copied is not None:
            return copied
        if frame.dtype.kind != "float":
            return self._equal_everywhere(name, frame)
        _check_mergeable(frame, self._frame_label())
        return self._merge(name, frame)

    def _copied(self, name: str, frame: TensorSpec) -> TensorPlan | None:
        """What the first ingredient has, for a method that copies it; None where bytes must be computed."""
        delta, method = self.inputs[0].deltas.get(name), self.rules.method(name)
        if not method.copies or not isinstance(delta, (Replacement, Merge)) or delta.shape != frame.shape:
            return None
        method.check(list(self.rules.weights(name)), name)
        if isinstance(delta, Merge):
            return replace(delta, spec=frame)
        return Copy(frame, delta.stored) if delta.stored.spec.dtype == frame.dtype else None

    def _merge(self, name: str, frame: TensorSpec) -> TensorPlan:
        inputs = tuple(self._input(entry, name, frame) for entry in self.inputs)
        stored = self.base[name] if self.base is not None and name in self.base else None
        if (
            stored is not None
            and (self.recipe.method.works_on(True) == "delta" or self.recipe.method.statistic is not None)
            and all(isinstance(entry, Absent) for entry in inputs)
        ):
            return self._kept(name, stored)
        method, weights = self.rules.method(name), self.rules.weights(name)
        method.check(list(weights), name)
        statistics = statistics_of(method, frame, self.inputs)
        deltas = [entry for entry in inputs if not isinstance(entry, Merge)]
        joined = method.joined(deltas, weights, name, self.recipe.seed)
        if joined is not None:
            inputs, weights, method = (joined,), (1.0,), method.of_joined
        if isinstance(joined, MergedFactors):
            self._approximate[name] = joined
        return Merge(frame, method, weights, self.rules.scale(name), self.recipe.seed, stored, inputs, statistics)

    def _input(self, entry: Input, name: str, frame: TensorSpec) -> "Delta | Merge":
        delta = entry.deltas.get(name)
        if delta is None:
            return self._left_out(entry, name, frame)
        if delta.shape != frame.shape:
            found, expected = (
                f"{list(delta.shape)} in {entry.label}",
                f"{list(frame.shape)} as in {self._frame_label()}",
            )
            if is_called_tokenwise(name) and delta.shape[1:] == frame.shape[1:]:
                expected += ", or a wish such as tokenizer: {source: union}"
            raise RecipeError("shapes differ", where=f"tensor '{name}'", found=found, expected=expected)
        if isinstance(delta, Replacement):
            _check_mergeable(replace(delta.stored.spec, name=name), entry.label)
        return delta

    def _left_out(self, entry: Input, name: str, frame: TensorSpec) -> Delta:
        if entry.complete:
            holder = next(position for position, other in enumerate(self.inputs) if name in other.deltas or self.base)
            hint = f"the tensor, or {self._hint(name, holder)}"
            raise RecipeError(
                "the tensor is missing", where=f"tensor '{name}'", found=f"nothing in {entry.label}", expected=hint
            )
        return Absent(frame.shape)

    def _equal_everywhere(self, name: str, frame: TensorSpec) -> Copy:
        """An integer or bool tensor: never averaged, so every input that has it must have the same."""
        held = None if self.base is None else self.base.get(name)
        stored = held if isinstance(held, StoredTensor) else None
        for entry in self.inputs:
            delta = entry.deltas.get(name)
            if delta is not None:
                own = delta.stored if isinstance(delta, Replacement) else None
                if own is None or (stored is not None and not same_values(own, stored)):
                    raise self._not_averaged(name, frame, entry)
                stored = stored or own
        assert stored is not None, "a name that is planned has a holder"
        self._note_missing(name, frame)
        return Copy(replace(stored.spec, name=name), stored)

    def _not_averaged(self, name: str, frame: TensorSpec, entry: Input) -> RecipeError:
        found, expected = f"other values in {entry.label}", f"equal values, or {self._hint(name, 0)}"
        message = f"{frame.dtype.label} tensors are not averaged"
        return RecipeError(message, where=f"tensor '{name}'", found=found, expected=expected)

    def _note_missing(self, name: str, frame: TensorSpec) -> None:
        missing = [entry.label for entry in self.inputs if entry.complete and name not in entry.deltas]
        if missing:
            kept = (
                "kept as in the base" if self.base is not None and name in self.base else "kept as the others have it"
            )
            self.notes.append(f"tensor '{name}' ({frame.dtype.label}) is not in {', '.join(missing)}: {kept}")

    def _plan_new(self, known: Mapping[str, object]) -> Iterator[tuple[str, TensorPlan | None]]:
        """Tensors that ingredients bring and the base lacks, such as a classification head."""
        for name in sorted({name for entry in self.inputs for name in entry.deltas if name not in known}):
            yield name, self._plan_newcomer(name)

    def _plan_newcomer(self, name: str) -> TensorPlan | None:
        owners = [position for position, entry in enumerate(self.inputs) if name in entry.deltas]
        take = self.rules.take(name)
        if take == "base":
            return None
        for position in (one for one in owners if take in (None, one)):
            _check_stands_alone(name, self.inputs[position])
        if take is not None:
            return self._take(name, take)
        self._check_layer(name, owners[0])
        if len(owners) == 1:
            self.notes.append(f"tensor '{name}' is only in {self.inputs[owners[0]].label}: kept as it is there")
            return self._take(name, owners[0])
        if self._frame(name).dtype.kind != "float":
            return self._equal_everywhere(name, self._frame(name))
        if len(owners) == len(self.inputs) and self.recipe.method.works_on(self.base is not None) == "weight":
            return self._together(name)
        found = " and ".join(self.inputs[position].label for position in owners)
        message = f"{self._frame_label()} lacks a tensor that several ingredients have"
        raise RecipeError(message, where=f"tensor '{name}'", found=found, expected=self._hint(name, owners[0]))

    def _check_layer(self, name: str, owner: int) -> None:
        """Raise RecipeError for a tensor of a layer that the config, which is the frame's, does not count."""
        spot = layer_of(name)
        if spot is None or spot.index in self._layers.get(spot.stack, {spot.index}):
            return
        there = self._layers[spot.stack]
        rule = f"a rule in `tensors` such as {{match: '{spot.stack}.{spot.index}.*', take: base}}"
        cut = f"a stack of the layers that are meant, such as layers: [{min(there)}, {max(there) + 1}]"
        found = f"layer {spot.index} in {self.inputs[owner].label}"
        expected = f"layers {min(there)} to {max(there)} as there, or {cut if self.base is None else rule}"
        message = f"{self._frame_label()} has no such layer"
        raise RecipeError(message, where=f"tensor '{name}'", found=found, expected=expected)

    def _take(self, name: str, take: str | int) -> TensorPlan:
        """The tensor as the base or one ingredient has it."""
        if isinstance(take, str):
            assert self.base is not None, "a recipe that takes from the base has one"
            return self._kept(name, self.base[name])
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
        return self._alone(name, self.inputs[take])

    def _alone(self, name: str, entry: Input) -> TensorPlan:
        """What one ingredient alone makes of the tensor."""
        delta = entry.deltas.get(name)
        stored = self.base[name] if self.base is not None and name in self.base else None
        if delta is None:
            assert stored is not None, "an absent delta has a base"
            return self._kept(name, stored)
        if isinstance(delta, Merge):
            return Merge(replace(delta.spec, name=name), Linear(), (1.0,), 1.0, self.recipe.seed, None, (delta,))
        frame = self._frame(name)
        _check_mergeable(frame, self._frame_label())
        inputs = (self._input(entry, name, frame),)
        return Merge(frame, Linear(), (1.0,), 1.0, self.recipe.seed, stored, inputs)

    def _kept(self, name: str, held: AnyBase) -> TensorPlan:
        """The base's tensor as it is."""
        spec = replace(held.spec, name=name)
        if isinstance(held, Gathered):
            return Merge(spec, Linear(), (1.0,), 1.0, self.recipe.seed, None, (held,))
        return Copy(spec, held) if isinstance(held, StoredTensor) else replace(held, spec=spec)

    def _frame(self, name: str) -> TensorSpec:
        """The spec that the output follows: the base's, else that of the first ingredient that has the tensor."""
        if self.base is not None and name in self.base:
            return replace(self.base[name].spec, name=name)
        delta = next(entry.deltas[name] for entry in self.inputs if name in entry.deltas)
        if isinstance(delta, Replacement):
            return replace(delta.stored.spec, name=name)
        if isinstance(delta, (Merge, Gathered)):
            return replace(delta.spec, name=name)
        return TensorSpec(name, DType.F32, delta.shape)

    def _frame_label(self) -> str:
        return f"the base '{self.recipe.base_name or 'recipe'}'" if self.base is not None else self.inputs[0].label

    def _hint(self, name: str, position: int) -> str:
        """The rule that settles a tensor on which the ingredients do not agree."""
        take = "base" if self.base is not None and name in self.base else position
        return f"a rule in `tensors` such as {{match: '{name}', take: {take}}}"

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


def _check_stands_alone(name: str, entry: Input) -> None:
    """Raise RecipeError for a delta of a tensor that the base lacks: there is nothing to put it on."""
    delta = entry.deltas[name]
    if not isinstance(delta, (Replacement, Gathered, Composite, Merge)):
        message = "the base has no such tensor to put a delta on"
        found = f"a {delta.kind} delta in {entry.label}"
        expected = f"a tensor of the base, or a rule in `tensors` such as {{match: '{name}', take: base}}"
        raise RecipeError(message, where=f"tensor '{name}'", found=found, expected=expected)


def _check_mergeable(spec: TensorSpec, holder: str) -> None:
    if not spec.dtype.mergeable:
        found = f"{spec.dtype.label} in {holder}"
        hint = (
            f"bfloat16, float16, float32 or float64, or a rule in `tensors` such as {{match: '{spec.name}', take: 0}}"
        )
        raise RecipeError("this dtype is not merged", where=f"tensor '{spec.name}'", found=found, expected=hint)
