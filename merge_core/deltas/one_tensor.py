"""What deltas have in common that are one stored tensor of the weight's own shape."""

from dataclasses import dataclass

from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class OneTensor:
    """A stored tensor, entry for entry as the weight; nothing is allocated to read it."""

    stored: StoredTensor
    open_bytes = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.spec.shape

    @property
    def nbytes(self) -> int:
        return self.stored.spec.nbytes
