"""Inputs that are merged with each other, all models or one slice of them, as the recipe that says the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from merge_core.errors import RecipeError, UnsupportedError, nearest
from merge_core.mergekit.methods import Peer, TaskVectors
from merge_core.mergekit.numbering import renumbered
from merge_core.mergekit.reference import Reference
from merge_core.mergekit.rules import parameter_rule, width_rules
from merge_core.mergekit.settings import Choice, Choices, Parameters, choices_of, holds_everywhere

Levels = list[tuple[str, Parameters]]
Data = dict[str, Any]

NEEDS_OTHERS = ("model_stock", "nearswap", "arcee_fusion", "nuslerp", "multislerp")
"""Ours that mergekit does not run over a base alone."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input: its own parameters, where they stand, and how far its layers are from the group's."""

    reference: Reference
    where: str
    parameters: Parameters
    shift: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """`levels` are the parameters that all sources share, highest precedence first.

    Tensors have the layers' numbers of the base, or the first source; `shift` is how far these are from the output's,
    by whose names mergekit chooses what all inputs share. What is one input's it chooses by that input's names.
    """

    method: str
    peer: Peer
    sources: tuple[Source, ...]
    base: Reference | None
    levels: Levels
    where: str
    shift: int = 0

    def recipe(self, notes: list[str]) -> Data:
        """The recipe as data; `notes` collects what has no effect, here as in mergekit."""
        self._check_names(notes)
        if not self._inputs() and self._base() is not None:
            return self._base_alone()
        if isinstance(self.peer, TaskVectors):
            return self._task_vectors(self.peer)
        inputs, base = self._inputs(), self._base()
        method = {"name": self.peer.ours, **self.peer.fixed, **self._flags()}
        rules = [
            *self._weights(inputs),
            *self._shared(),
            *self._rules(inputs[0]),
        ]
        return _tidy({"base": base, "method": method, "ingredients": self._ingredients(inputs), "tensors": rules})

    def _base_alone(self) -> Data:
        """What nothing is added to."""
        if self.peer.ours in NEEDS_OTHERS:
            message, found = f"{self.method} needs a model beside its base", f"'{self.base}' alone"
            raise RecipeError(message, where=self.where or "models", found=found, expected="another model")
        return {"method": {"name": "passthrough"}, "ingredients": [{"source": self._base()}]}

    def _task_vectors(self, peer: TaskVectors) -> Data:
        """Thinned out in one go where all inputs are treated alike; else each by itself, in a recipe of its own."""
        inputs, base = self._inputs(), self._base()
        normalize = self._flag("normalize", peer.normalizes)
        alike = self._alike(inputs)
        thins = peer.ours != "task_arithmetic"
        nested = thins and not alike
        data: Data = {"base": base, "ingredients": self._ingredients(inputs), "tensors": [*self._weights(inputs)]}
        if nested:
            data["ingredients"] = [
                {"source": self._thinned(peer, source, position)} for position, source in enumerate(inputs)
            ]
        data["method"] = self._merging(peer, normalize, nested=nested)
        data["tensors"] += [*self._scale(), *([] if nested or not thins else self._thinning(inputs[0]))]
        if thins and not nested:
            data["method"] |= self._rescale(peer)
        return _tidy(data)

    def _merging(self, peer: TaskVectors, normalize: bool, *, nested: bool) -> Data:
        if peer.elects:
            name, aggregate = "ties" if nested else peer.together, "mean" if normalize else "sum"
            return {"name": name, "convention": "mergekit", "aggregate": aggregate}
        if nested or peer.ours == "task_arithmetic":
            return {"name": "task_arithmetic", "normalize": normalize}
        return {"name": peer.ours, **peer.fixed, "normalize": normalize}

    def _thinned(self, peer: TaskVectors, source: Source, position: int) -> Data:
        """One input with its task vector thinned out; random draws differ from input to input."""
        method = {"name": peer.ours, **peer.fixed, **self._rescale(peer)}
        if peer.ours == "ties":
            method["aggregate"] = "sum"
        data = {"base": self._base(), "method": method, "ingredients": self._ingredients([source]), "seed": position}
        return _tidy({**data, "tensors": self._thinning(source)})

    def _thinning(self, source: Source) -> list[Data]:
        rules = self._rules(source)
        if self.peer.ours == "della_linear":
            rules += width_rules(self._choices_of(source, "epsilon"), rules)
        return rules

    def _rules(self, source: Source) -> list[Data]:
        """Those of each parameter of a single input; DELLA's epsilon is not among them, as what it means differs."""
        own = {theirs: ours for theirs, ours in self.peer.each.items() if ours != "epsilon"}
        return [
            parameter_rule(choice, self.peer.ours, ours, choice.in_recipe)
            for theirs, ours in own.items()
            for choice in self._choices_of(source, theirs)
        ]

    def _rescale(self, peer: TaskVectors) -> Data:
        can = peer.ours in ("dare_linear", "della_linear")
        rescale = self._flag("rescale", can)
        if rescale and not can:
            message = f"rescale is not supported with {self.method}"
            raise UnsupportedError(message, where=self._place("rescale"), expected="dare or della")
        return {"rescale": rescale} if can else {}

    def _scale(self) -> list[Data]:
        return [{"match": choice.match, "scale": choice.in_recipe} for choice in self._choices("lambda")]

    def _alike(self, inputs: list[Source]) -> bool:
        return all(len({self._choices_of(source, theirs) for source in inputs}) == 1 for theirs in self.peer.each)

    def _inputs(self) -> list[Source]:
        """The sources that are ingredients, in order."""
        peer, base = self.peer, self.base
        if base is None:
            return list(self.sources)
        others = [source for source in self.sources if source.reference != base]
        own = [source for source in self.sources if source.reference == base]
        if peer.base in ("needed", "delta"):
            return others
        if peer.base == "first":
            return [*(own or [Source(base, "base_model", {})]), *others]
        return list(self.sources) if own else [*self.sources, Source(base, "base_model", {})]

    def _base(self) -> Any:
        if self.base is None:
            if self.peer.base in ("needed", "first"):
                message = f"{self.method} needs a base"
                raise RecipeError(message, where="base_model", found="nothing", expected="a model")
            return None
        return self.base.source if self.base.adapter is None or self.peer.base in ("needed", "delta") else None

    def _ingredients(self, inputs: list[Source]) -> list[Data]:
        return [self._ingredient(source) for source in inputs]

    def _ingredient(self, source: Source) -> Data:
        reference = source.reference
        on_base = reference.adapter is not None and self.base == Reference(reference.model) and not source.shift
        is_delta = self.peer.base in ("needed", "delta")
        entry: Data = {"source": reference.adapter if on_base and is_delta else reference.source}
        return entry | ({"layer_shift": source.shift} if source.shift else {})

    def _weights(self, inputs: list[Source]) -> Iterator[Data]:
        """A rule for each choice of each input's weight, which has no default."""
        for position, source in enumerate(inputs if self.peer.weighted else ()):
            choices = self._choices_of(source, "weight")
            if not holds_everywhere(choices):
                some = " for tensors that no filter meets" if choices else ""
                message = f"'{source.reference}' has no weight{some}"
                raise RecipeError(message, where=f"{source.where}.weight", found="nothing", expected="a number")
            for choice in choices:
                weights: list[Any] = [None] * len(inputs)
                weights[position] = choice.in_recipe
                yield {"match": choice.match, "weights": weights}

    def _shared(self) -> Iterator[Data]:
        for theirs, ours in self.peer.shared.items():
            for choice in self._choices(theirs) if ours not in ("per", "normalize") else ():
                yield parameter_rule(choice, self.peer.ours, ours, self._value(theirs, ours, choice))
        if self.peer.ours in ("slerp", "nearswap") and not holds_everywhere(self._choices("t")):
            message = f"{self.method} needs t for every tensor"
            raise RecipeError(message, where=self._place("t"), found="nothing", expected="a number")

    def _value(self, theirs: str, ours: str, choice: Choice) -> Any:
        if ours == "per_row":
            return _truth(choice, self._place(theirs))
        return _count(choice, self._place(theirs)) if ours == "max_iter" else choice.in_recipe

    def _flags(self) -> Data:
        """Parameters that are the same for all tensors."""
        if self.peer.ours == "nuslerp":
            row_wise, flat = self._flag("nuslerp_row_wise", False), self._flag("nuslerp_flatten", True)
            return {"per": "tensor" if flat else ("column" if row_wise else "row")}
        flag = next((theirs for theirs, ours in self.peer.shared.items() if ours == "normalize"), None)
        # One model comes back from mergekit's multislerp as it is, whatever its weight.
        is_alone = self.peer.ours == "multislerp" and len(self._inputs()) == 1
        return {} if flag is None else {"normalize": self._flag(flag, True) or is_alone}

    def _flag(self, name: str, usual: bool) -> bool:
        choices = self._choices(name)
        if not choices:
            return usual
        if len(choices) > 1 or not isinstance(choices[0].value, (bool, int, float)) or choices[0].substring is not None:
            message = f"{name} by tensor or layer is not supported"
            raise UnsupportedError(message, where=self._place(name), expected="true or false for all")
        return _truth(choices[0], self._place(name))

    def _place(self, name: str) -> str:
        return f"{self.where}.parameters.{name}".removeprefix(".")

    def _choices(self, name: str) -> Choices:
        return renumbered(choices_of(self.levels, name), self.shift, self._place(name))

    def _choices_of(self, source: Source, name: str) -> Choices:
        """What holds for one input's tensors, by their names there."""
        return renumbered(choices_of(self._levels(source), name), -source.shift, f"{source.where}.{name}")

    def _levels(self, source: Source) -> Levels:
        return [(source.where, source.parameters), *self.levels]

    def _check_names(self, notes: list[str]) -> None:
        """Refuse parameters that the method does not have, and note those that have no effect."""
        peer = self.peer
        known = [*(("weight",) if peer.weighted else ()), *peer.shared, *peer.each, *peer.idle]
        own = [(source.where, source.parameters, source) for source in self.sources]
        for where, parameters, source in [*own, *((where, parameters, None) for where, parameters in self.levels)]:
            for name in parameters:
                if name not in known:
                    message, place = f"{self.method} has no such parameter", f"{where}.{name[:80]}"
                    raise RecipeError(message, where=place, found=repr(name[:80]), expected=nearest(name, known))
                if source is not None and (name in peer.shared):
                    place = f"{where}.{name}"
                    message = f"{self.method} has one {name} for all inputs"
                    raise RecipeError(
                        message, where=place, found="a value for one input", expected="it in `parameters`"
                    )
                if name in peer.idle or (source is not None and self._is_base_of_deltas(source)):
                    notes.append(f"{where}.{name} has no effect in {self.method}")

    def _is_base_of_deltas(self, source: Source) -> bool:
        return self.peer.base in ("needed", "delta") and source.reference == self.base


def _truth(choice: Choice, where: str) -> bool:
    if choice.value not in (0, 1):
        raise RecipeError("not true or false", where=where, found=choice.value, expected="true or false")
    return bool(choice.value)


def _count(choice: Choice, where: str) -> int:
    value = choice.value
    if isinstance(value, tuple) or (isinstance(value, float) and not value.is_integer()):
        raise RecipeError("not a whole number", where=where, found=value, expected="a whole number")
    return int(value)


def _tidy(data: Data) -> Data:
    """The same recipe with what rules say of every tensor said by the recipe itself, and without empty fields."""
    method, ingredients = dict(data["method"]), [dict(entry) for entry in data["ingredients"]]
    tidy = {**data, "method": method, "ingredients": ingredients, "tensors": []}
    settled: set[str] = set()
    for rule in data["tensors"]:
        if not _settles(rule, method, ingredients, tidy, settled):
            tidy["tensors"].append(rule)
    return {key: value for key, value in tidy.items() if value not in (None, [])}


def _settles(rule: Data, method: Data, ingredients: list[Data], data: Data, settled: set[str]) -> bool:
    """Move a rule for every tensor into the recipe's own fields, which hold where no rule does; later ones are idle."""
    values = {f"weight {place}": value for place, value in enumerate(rule.get("weights", ())) if value is not None}
    values |= rule.get("parameters", {}) | ({"scale of delta": rule["scale"]} if "scale" in rule else {})
    if rule["match"] != "*" or any(isinstance(value, dict) for value in values.values()):
        return False
    for name, value in values.items():
        if name not in settled:
            target = data if name == "scale of delta" else method
            key = "scale" if name == "scale of delta" else name
            if name.startswith("weight "):
                target, key = ingredients[int(name.removeprefix("weight "))], "weight"
            target[key] = value
            settled.add(name)
    return True
