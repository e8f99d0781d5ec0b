"""One input, taken as it is."""

from typing import ClassVar, Literal

import numpy as np

from merge_core.methods.contract import Chunk, Method, Rows, Space, State, Weights, refuse_weights


class Passthrough(Method):
    """W, or `scale` · W. Without `scale` the stored bytes are copied, of any dtype, NaN included.

    (An adapter is still added to its base, and a `dtype` of the recipe still converts.) Takes one ingredient,
    without a weight. The recipe's own `scale` is of merged deltas and is refused. mergekit's passthrough, 2023.
    """

    name: Literal["passthrough"] = "passthrough"
    scale: float | None = None
    space: ClassVar[Space] = "weight"
    most_inputs: ClassVar[int | None] = 1
    formula: ClassVar[str] = "scale · W"
    source: ClassVar[str] = "mergekit's passthrough, 2023, https://github.com/arcee-ai/mergekit"

    @property
    def copies(self) -> bool:
        return self.scale is None

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        row: Rows = chunk.rows[0]
        return row if self.scale is None else row * np.float32(self.scale)
