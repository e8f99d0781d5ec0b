"""What PEFT's LoRA can hold of each module: factors of a weight, a bias, or a trained copy of the whole module."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from merge_core.errors import RecipeError
from merge_core.outputs.contract import Wish
from merge_core.outputs.lora_factors import PREFIX, FactorPlanner, merge_to_hold
from merge_core.planning.factors import Factors, leaves_base, without_repeats
from merge_core.planning.tensors import Copy, TensorPlan
from merge_core.stored import StoredTensor, same_values
from merge_core.tensors import TensorSpec
from merge_core.tied_head import HEAD, has_head, is_tied

_EMBEDS_INPUT = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings)\.weight$")


@dataclass(frozen=True, slots=True)
class Held:
    """What the adapter has: factors by module, whole tensors by name with their slots, and the modules copied."""

    factors: Mapping[str, Factors]
    whole: Mapping[str, TensorPlan]
    slots: Mapping[str, str]
    copied: tuple[str, ...]
    modules: frozenset[str]
    has_biases: bool
    notes: tuple[str, ...]

    def specs(self) -> list[TensorSpec]:
        """Of every tensor in the file."""
        pairs = [spec for factors in self.factors.values() for spec in (factors.a, factors.b)]
        copies = [replace(self.whole[name].spec, name=slot) for name, slot in self.slots.items()]
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
    return base is not None and leaves_base(without_repeats(plan, base))


class _Sorting:
    """The tensors of one wish, as they are given their places."""

    def __init__(self, wish: Wish, base: Mapping[str, StoredTensor], config: Mapping[str, object]) -> None:
        self._tensors, self._base, self._config = wish.tensors, base, config
        self._planner = FactorPlanner(wish.recipe.output.rank, config)
        self._modules = frozenset(_ancestors([*base, *wish.tensors]))
        self._factors: dict[str, Factors] = {}
        self._plain: list[str] = []
        self._causes: dict[str, str] = {}

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
        elif stored is not None and (part == "bias" or self._is_tied(name)):
            self._plain.append(name)
        else:
            self._causes[module] = name

    def widen(self) -> None:
        """Take in the modules that PEFT copies as well: every one whose name ends like one that is copied."""
        found = {
            module: cause for module in self._modules for end, cause in self._causes.items() if module.endswith(end)
        }
        self._causes |= {module: cause for module, cause in found.items() if module not in self._causes}
        for module, cause in self._causes.items():
            if any(other.startswith(f"{module}.") for other in self._modules):
                raise _unplaced(cause, f"a part of '{module}', which has modules inside")
            self._factors.pop(module, None)

    def held(self) -> Held:
        copies = [name for name in self._tensors if name.rpartition(".")[0] in self._causes]
        plain = [name for name in self._plain if name not in copies]
        slots = {name: PREFIX + name for name in copies} | {name: self._plain_slot(name) for name in plain}
        for name in slots:
            self._check_shape(name)
        return Held(
            self._factors,
            {name: self._tensors[name] for name in slots},
            slots,
            tuple(sorted(self._causes)),
            self._modules,
            any(name.endswith(".bias") for name in plain),
            tuple(self._notes()),
        )

    def _plain_slot(self, name: str) -> str:
        """PEFT wraps a module that has factors, and its own tensors lie one level deeper then."""
        module, _, part = name.rpartition(".")
        return f"{PREFIX}{module}.base_layer.{part}" if module in self._factors else PREFIX + name

    def _is_tied(self, name: str) -> bool:
        """Whether a head is tied to the tensor: PEFT would tie it to the base's copy, and no longer to this one.

        Without a wrapper PEFT loads it in the base's place, as it does with embeddings that were resized.
        """
        is_headless = HEAD not in self._base and has_head(self._config) and is_tied(self._config)
        return is_headless and _EMBEDS_INPUT.search(name) is not None

    def _notes(self) -> Iterator[str]:
        for module in self._factors:
            if self._is_tied(f"{module}.weight"):
                yield f"'{module}' has factors, and the head that is tied to it has them once they are merged"

    def _check_shape(self, name: str) -> None:
        stored, spec = self._base.get(name), self._tensors[name].spec
        if stored is not None and stored.spec.shape != spec.shape:
            raise _unplaced(name, f"{list(spec.shape)}, where the base has {list(stored.spec.shape)}")
        if stored is None and any(other.rpartition(".")[0] == name.rpartition(".")[0] for other in self._base):
            raise _unplaced(name, "a tensor that the base's module lacks")


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
