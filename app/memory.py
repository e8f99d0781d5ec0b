"""How much of a budget of memory is left for merging, and how many threads it is enough for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever only asks for the number loads nothing
    from merge_core.plan import Plan

PROCESS_BYTES = 112 << 20
"""The interpreter, libraries and compiled kernels of a process that merges. 57 to 100 MiB were measured."""


def threads_within(plan: "Plan", wanted: int, memory_bytes: int | None) -> int:
    """As many threads as the budget is enough for, at most `wanted`; one for a plan that was checked against it."""
    if memory_bytes is None:
        return wanted
    return max(min(wanted, (memory_bytes - PROCESS_BYTES) // max(plan.memory_bytes, 1)), 1)
