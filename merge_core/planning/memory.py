"""What a build holds in memory however many threads it has: the plan itself, and what surveys lay end to end."""

from collections.abc import Iterable

from kernels.gram import BLOCK
from merge_core.planning.factors import Built, merge_of
from merge_core.planning.tensors import Merge

PLANNED_BYTES = 1 << 10
"""For each input of each tensor: its spec, its view of a file and its place. 650 to 750 bytes were measured."""


def blocks_bytes(merge: Merge) -> int:
    """The rows that a survey keeps for each block of the tensor, as they come and once more in one array."""
    return 2 * -(-merge.spec.size // BLOCK) * merge.method.block_bytes(len(merge.inputs))


def shared_need(tensors: Iterable[Built]) -> int:
    """Bytes beside what each thread needs; of a survey of the whole model, the blocks of all its tensors."""
    return sum(_shared(tensor) for tensor in tensors)


def _shared(tensor: Built) -> int:
    merge = merge_of(tensor)
    if merge is None:
        return PLANNED_BYTES
    inner = sum(_shared(entry) for entry in merge.read if isinstance(entry, Merge))
    own = blocks_bytes(merge) if merge.method.surveys == "model" else 0
    return inner + own + PLANNED_BYTES * (len(merge.inputs) + 2)
