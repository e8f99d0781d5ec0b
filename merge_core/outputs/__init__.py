"""The forms of a result: one file each, and one line here. Each decides in planning what is computed and written."""

from collections.abc import Callable, Mapping

from merge_core.outputs import checkpoint, dense, lora, patch, ternary
from merge_core.outputs.contract import Arranged, OpenSink, OutputSink, Wish

ARRANGE: Mapping[str, Callable[[Wish], Arranged]] = {
    "checkpoint": checkpoint.arrange,
    "dense": dense.arrange,
    "lora": lora.arrange,
    "patch": patch.arrange,
    "ternary": ternary.arrange,
}

__all__ = ["ARRANGE", "Arranged", "OpenSink", "OutputSink", "Wish"]
