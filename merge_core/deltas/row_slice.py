"""Some rows of a delta, as a delta of those rows of the weight."""

from dataclasses import dataclass
from math import prod

from merge_core.deltas.contract import Delta, Loader, Reads, Rows, reads_of


@dataclass(frozen=True, slots=True, eq=False)
class RowSlice:
    """Rows [first, end) of the whole, read from it as they are asked for."""

    whole: Delta
    first: int
    end: int

    def __post_init__(self) -> None:
        rows = self.whole.shape[0] if self.whole.shape else 0
        if not 0 <= self.first <= self.end <= rows:
            raise ValueError(f"rows: found [{self.first}, {self.end}), expected a range within {rows}")
        if reads_of(self.whole) == "matrix" and self.end - self.first != rows:
            raise ValueError(f"a {self.whole.kind} delta is read whole, so it has no slices")

    @property
    def kind(self) -> str:
        return self.whole.kind

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.end - self.first, *self.whole.shape[1:])

    @property
    def nbytes(self) -> int:
        """The share of the rows: what a slice adds to the bytes read."""
        return self.whole.nbytes * (self.end - self.first) // max(self.whole.shape[0], 1)

    @property
    def open_bytes(self) -> int:
        return self.whole.open_bytes

    @property
    def reads(self) -> Reads:
        return reads_of(self.whole)

    def open(self) -> "RowSliceLoader":
        return RowSliceLoader(self.whole.open(), self.first * prod(self.whole.shape[1:]))


@dataclass(frozen=True, slots=True, eq=False)
class RowSliceLoader:
    """Asks the whole for elements further on; the base it is given is that of the slice's elements."""

    whole: Loader
    offset: int

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        self.whole.load_weight(out, start + self.offset, base)

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        self.whole.load_delta(out, start + self.offset, base)
