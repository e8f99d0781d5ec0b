"""An ingredient that leaves a tensor as the base has it: the delta is zero."""

from dataclasses import dataclass

from merge_core.deltas.contract import Rows


@dataclass(frozen=True, slots=True)
class Absent:
    """No change; doubles as its own loader, since it holds no bytes."""

    shape: tuple[int, ...]
    kind = "absent"
    count = 0
    value = 0.0
    nbytes = 0
    open_bytes = 0

    def open(self) -> "Absent":
        return self

    def place_of(self, rank: int) -> int:
        raise AssertionError("there is no entry")

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses an absent tensor without a base"
        out[:] = base

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        out[:] = 0.0
