"""A delta that only the base's tensors complete: counted and listed, and settled in planning before it is read."""

from dataclasses import dataclass

from merge_core.deltas.contract import Loader


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Its `kind` and bytes are known, its shape is not."""

    kind: str
    nbytes: int
    shape: tuple[int, ...] = ()
    open_bytes = 0

    def open(self) -> Loader:
        raise AssertionError("planning settles a delta on its base before it is opened")
