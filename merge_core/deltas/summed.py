"""Several deltas of one tensor that add up, such as a low-rank and a sparse part."""

from dataclasses import dataclass

import numpy as np

from merge_core.deltas.contract import Delta, Loader, Reads, Rows, reads_of


@dataclass(frozen=True, slots=True, eq=False)
class Summed:
    """W = base + the sum of what the parts add to it; the parts are of one shape."""

    parts: tuple[Delta, ...]
    kind = "summed"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parts[0].shape

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def open_bytes(self) -> int:
        return sum(part.open_bytes for part in self.parts)

    @property
    def reads(self) -> Reads:
        reads: tuple[Reads, ...] = tuple(reads_of(part) for part in self.parts)
        return "matrix" if "matrix" in reads else "row" if "row" in reads else "element"

    def open(self) -> "SummedLoader":
        return SummedLoader(tuple(part.open() for part in self.parts))


@dataclass(frozen=True, slots=True, eq=False)
class SummedLoader:
    """Adds the parts' chunks in float32, in their order."""

    parts: tuple[Loader, ...]

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a sum of deltas without a base"
        self.load_delta(out, start, base)
        out += base

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        self.parts[0].load_delta(out, start, base)
        one = np.empty_like(out)
        for part in self.parts[1:]:
            part.load_delta(one, start, base)
            out += one
