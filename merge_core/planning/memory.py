"""What a build holds in memory however many threads it has: the plan itself, and what surveys lay end to end."""

from collections.abc import Iterable

from merge_core.planning.factors import Built, merge_of
from merge_core.planning.tensors import Merge

PLANNED_BYTES = 1 << 10
"""For each input of each tensor: its spec, its view of a file and its place. 650 to 750 bytes were measured."""


def blocks_bytes(merge: Merge) -> int:
    """What a survey of the tensor keeps of its blocks; chunks of whole rows, of more than 8 blocks, end within some."""
    rows = merge.method.blocks(merge.spec.shape, merge.spec.size)
    return (rows + rows // 8 + 1) * merge.method.block_bytes(len(merge.inputs))


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
