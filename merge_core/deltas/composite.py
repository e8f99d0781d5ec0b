"""A whole tensor with a delta on top: an adapter that carries its own copy of the weight it adapts."""

from dataclasses import dataclass

import numpy as np

from merge_core.deltas.contract import Delta, Loader, Reads, Rows, reads_of


@dataclass(frozen=True, slots=True, eq=False)
class Composite:
    """W = whole + added, whatever the base has; PEFT saves embeddings that it adapts so."""

    whole: Delta
    added: Delta
    kind = "composite"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.whole.shape

    @property
    def nbytes(self) -> int:
        return self.whole.nbytes + self.added.nbytes

    @property
    def open_bytes(self) -> int:
        return self.whole.open_bytes + self.added.open_bytes

    @property
    def reads(self) -> Reads:
        return reads_of(self.added)

    def open(self) -> "CompositeLoader":
        return CompositeLoader(self.whole.open(), self.added.open())


@dataclass(frozen=True, slots=True, eq=False)
class CompositeLoader:
    """Fills chunks with the whole, and adds the rest in float32."""

    whole: Loader
    added: Loader

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        self.whole.load_weight(out, start, base)
        out += self._added(out, start)

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        self.whole.load_weight(out, start, base)
        added = self._added(out, start)
        self.whole.load_delta(out, start, base)
        out += added

    def _added(self, whole: Rows, start: int) -> Rows:
        """What is added to the chunk's weights in the copy, which is what it is a delta of."""
        added = np.empty(whole.size, dtype=np.float32)
        self.added.load_delta(added, start, whole)
        return added
