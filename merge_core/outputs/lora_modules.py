"""What PEFT's LoRA can hold of each module: factors of a weight, a bias, or a trained copy of the whole module."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from merge_core.errors import RecipeError
from merge_core.outputs.contract import Wish
from merge_core.outputs.lora_factors import PREFIX, FactorPlanner, merge_to_hold
from merge_core.plan_factors import Factors, leaves_base
from merge_core.plan_tensors import Copy, TensorPlan
from merge_core.stored import StoredTensor, same_values
from merge_core.tensors import TensorSpec
from merge_core.tied_head import HEAD, has_head, is_tied

_EMBEDS_INPUT = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings)\.weight$")


@dataclass(frozen=True, slots=True)
class Held:
    """What the adapter has: factors by module, whole tensors by name with their slots, and the modules copied."""

    factors: Mapping[str, Factors]
    whole: Mapping[str, TensorPlan]
    slots: Mapping[str, tuple[str, ...]]
    copied: tuple[str, ...]
    modules: frozenset[str]
    has_biases: bool
    notes: tuple[str, ...]

    def specs(self) -> list[TensorSpec]:
        """Of every tensor in the file."""
        pairs = [spec for factors in self.factors.values() for spec in (factors.a, factors.b)]
        copies = [replace(self.whole[name].spec, name=slot) for name, slots in self.slots.items() for slot in slots]
        return pairs + copies


def hold(wish: Wish, base: Mapping[str, StoredTensor], config: Mapping[str, object]) -> Held:
    """Sorts what differs from the base. Raises RecipeError for a tensor that fits nowhere, and names it."""
    sorting = _Sorting(wish, base, config)
    for name, plan in wish.tensors.items():
        if not _is_kept(plan, base.get(name)):
            sorting.place(name, plan)
    sorting.widen()
    return sorting.held()


def _is_kept(plan: TensorPlan, base: StoredTensor | None) -> bool:
    """Whether the result has the base's own tensor. Of a copy this may read it: a fine-tune repeats what it froze."""
    if isinstance(plan, Copy):
        return base is not None and (plan.stored is base or same_values(plan.stored, base))
    return base is not None and leaves_base(plan)


class _Sorting:
    """The tensors of one wish, as they are given their places."""

    def __init__(self, wish: Wish, base: Mapping[str, StoredTensor], config: Mapping[str, object]) -> None:
        self._tensors, self._base, self._config = wish.tensors, base, config
        self._planner = FactorPlanner(wish.recipe.output.rank, config)
        self._modules = frozenset(_ancestors([*base, *wish.tensors]))
        self._factors: dict[str, Factors] = {}
        self._biases: list[str] = []
        self._causes: dict[str, str] = {}
        self._notes: list[str] = []

    def place(self, name: str, plan: TensorPlan) -> None:
        """Factors where the weight can have them, the bias as it is, else a copy of the module."""
        module, _, part = name.rpartition(".")
        stored = self._base.get(name)
        if not module:
            raise _unplaced(name, "a tensor outside of all modules")
        merge = merge_to_hold(plan, stored) if part == "weight" else None
        factors = None if merge is None else self._planner.plan(module, merge)
        if factors is not None:
            self._factors[module] = factors
        elif part == "bias" and stored is not None and stored.spec.shape == plan.spec.shape:
            self._biases.append(name)
        else:
            self._causes[module] = name

    def widen(self) -> None:
        """Take in the modules that PEFT copies as well: every one whose name ends like one that is copied."""
        if _is_headless(self._base, self._config) and any(map(_EMBEDS_INPUT.search, self._copied_tensors())):
            self._causes[HEAD.rpartition(".")[0]] = HEAD
        found = {
            module: cause for module in self._modules for end, cause in self._causes.items() if module.endswith(end)
        }
        self._causes |= {module: cause for module, cause in found.items() if module not in self._causes}
        for module, cause in self._causes.items():
            if any(other.startswith(f"{module}.") for other in self._modules):
                raise _unplaced(cause, f"a part of '{module}', which has modules inside")
            self._factors.pop(module, None)

    def held(self) -> Held:
        copies = self._copied_tensors()
        biases = [name for name in self._biases if name not in copies]
        slots: dict[str, tuple[str, ...]] = {name: (PREFIX + name,) for name in copies}
        slots |= {name: (self._bias_slot(name),) for name in biases}
        self._tie(slots)
        for name in slots:
            self._check_shape(name)
        return Held(
            self._factors,
            {name: self._tensors[name] for name in slots},
            slots,
            tuple(sorted(self._causes)),
            self._modules,
            bool(biases),
            tuple(self._notes),
        )

    def _copied_tensors(self) -> list[str]:
        return [name for name in self._tensors if name.rpartition(".")[0] in self._causes]

    def _bias_slot(self, name: str) -> str:
        """PEFT wraps a module that has factors, and its own tensors lie one level deeper then."""
        module = name.rpartition(".")[0]
        return f"{PREFIX}{module}.base_layer.bias" if module in self._factors else PREFIX + name

    def _tie(self, slots: dict[str, tuple[str, ...]]) -> None:
        """A head that is tied to embeddings which are copied is no longer, so it gets a copy of its own."""
        if not _is_headless(self._base, self._config):
            return
        for name in filter(_EMBEDS_INPUT.search, slots):
            slots[name] = (*slots[name], PREFIX + HEAD)
        for module in self._factors:
            if _EMBEDS_INPUT.search(f"{module}.weight"):
                note = f"'{module}' has factors, and the head that is tied to it has them once they are merged"
                self._notes.append(note)

    def _check_shape(self, name: str) -> None:
        stored, spec = self._base.get(name), self._tensors[name].spec
        if stored is not None and stored.spec.shape != spec.shape:
            raise _unplaced(name, f"{list(spec.shape)}, where the base has {list(stored.spec.shape)}")
        if stored is None and any(other.rpartition(".")[0] == name.rpartition(".")[0] for other in self._base):
            raise _unplaced(name, "a tensor that the base's module lacks")


def _is_headless(base: Mapping[str, StoredTensor], config: Mapping[str, object]) -> bool:
    return HEAD not in base and has_head(config) and is_tied(config)


def _ancestors(names: Iterable[str]) -> Iterator[str]:
    """The modules around the tensors."""
    for name in names:
        module = name.rpartition(".")[0]
        while module:
            yield module
            module = module.rpartition(".")[0]


def _unplaced(name: str, found: str) -> RecipeError:
    expected = f"output kind checkpoint or patch, or a rule in `tensors` such as {{match: '{name}', take: base}}"
    message = "PEFT's LoRA cannot hold this change"
    return RecipeError(message, where=f"tensor '{name}'", found=found, expected=expected)
