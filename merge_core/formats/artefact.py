"""What a reader makes of a repo's files: deltas by the name of the weight they touch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from merge_core.deltas import Delta
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True)
class Artefact:
    """One published thing. `deltas` are keyed by weight names as the artefact spells them.

    A `complete` artefact (a full checkpoint) speaks of every tensor; anything else leaves what it does not
    name as the base has it. `new_tensors` are names that may be missing from the base (a trained head);
    `optional` ones say nothing where the base lacks them (what scales a bias).
    """

    format: str
    kind: Literal["base", "delta"]
    deltas: Mapping[str, Delta]
    tensors: Mapping[str, StoredTensor]
    new_tensors: frozenset[str] = frozenset()
    declared_base: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    settle: "Callable[[Mapping[str, StoredTensor]], Artefact] | None" = None
    """Makes the artefact that only the base's tensors show: which weight a position means, or what a mask keeps."""

    @property
    def complete(self) -> bool:
        return self.kind == "base"
