"""Fisher merging: each entry averaged by how much the data says of it."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from merge_core.errors import FileError
from merge_core.methods.contract import Chunk, Method, Rows, Space, State, Weights
from merge_core.methods.shares import refuse_negative_weights
from merge_core.statistics import Statistic

STEP = 1 << 13
"""Elements computed at a time, so that what is kept in float64 stays in the first-level caches."""


class Fisher(Method):
    """Σ w_t F_t W_t / Σ w_t F_t, entry by entry, with F_t = E_x Σ_y p(y|x) (∇ log p(y|x))², at least `floor`.

    F_t is read from `fisher.safetensors` beside each ingredient's weights (docs/statistics.md), for every tensor
    that is merged; a tensor that no ingredient changes is the base's. In float64, rounded once. One input comes
    back bit for bit; where all F are under `floor` the result is the weighted mean. Weights may not be negative. Matena
    and Raffel, "Merging models with Fisher-weighted averaging", 2022, https://arxiv.org/abs/2111.09832, section 3.
    """

    name: Literal["fisher"] = "fisher"
    floor: float = Field(default=1e-6, gt=0.0, le=1.0)
    space: ClassVar[Space] = "weight"
    statistic: ClassVar[Statistic | None] = Statistic.FISHER
    formula: ClassVar[str] = "Σ w_t F_t W_t / Σ w_t F_t, F_t = max(E_x Σ_y p(y|x) (∇ log p)², floor)"
    source: ClassVar[str] = (
        "Matena and Raffel 2022, Merging models with Fisher-weighted averaging, https://arxiv.org/abs/2111.09832"
    )

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_negative_weights(weights, tensor)

    def work_bytes(self, shape: tuple[int, ...], count: int) -> int:
        return 8 * 8 * STEP

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        merged = np.empty(chunk.rows.shape[1], dtype=np.float32)
        for start in range(0, merged.size, STEP):
            part = slice(start, start + STEP)
            merged[part] = self._mean(chunk, weights, part)
        return merged

    def _mean(self, chunk: Chunk, weights: Weights, part: slice) -> Rows:
        above = np.zeros(chunk.rows[0, part].size)
        below = np.zeros_like(above)
        for position, (row, fisher) in enumerate(zip(chunk.rows, chunk.statistics, strict=True)):
            shares = fisher[part].astype(np.float64)
            _refuse_unsound(shares, chunk.tensor, position)
            np.maximum(shares, self.floor, out=shares)
            shares *= float(weights[position])
            below += shares
            shares *= row[part]
            above += shares
        return (above / below).astype(np.float32)


def _refuse_unsound(fisher: np.ndarray[tuple[int], np.dtype[np.float64]], tensor: str, position: int) -> None:
    # NaN fails both comparisons.
    if not ((fisher >= 0.0) & (fisher < np.inf)).all():
        found = f"a negative value, NaN or infinity in ingredient {position}"
        where = f"{Statistic.FISHER.file}: tensor '{tensor}'"
        raise FileError("no Fisher information", where=where, found=found, expected="finite values of 0 or more")
