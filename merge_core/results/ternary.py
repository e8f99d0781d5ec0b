"""Merges of ternary deltas straight from their bitplanes: nothing dense is made of any of them.

To the bit what the dense path gives. Deltas of other forms beside them are left to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.kth_magnitude import UNCUT
from kernels.stored_elements import Stored, part
from kernels.ternary import Places, Planes, plane_bytes, signed_election, signed_sum
from merge_core.deltas import Absent, TernaryLoader
from merge_core.methods import Method, State, Weights
from merge_core.methods.ties import Ties, Trim
from merge_core.planning.tensors import Merge
from merge_core.results.contract import Ready
from merge_core.stored import StoredTensor

Read = Callable[[int, int], Planes]
"""The bitplanes of a chunk by its start and size."""

Experts = Sequence[Planes] | Places


@dataclass(frozen=True, slots=True)
class TernaryResult:
    """One tensor's merge on one thread; `combine` is the sum or election that the method comes to."""

    merge: Merge
    base: Stored
    experts: Callable[[int, int], Experts]
    combine: Callable[[Stored, Experts, NDArray[Any]], NDArray[Any]]
    room: NDArray[Any]

    def stored(self, start: int, size: int) -> NDArray[Any]:
        """As `Reader.stored`, to the bit."""
        return self.combine(part(self.base, start, size), self.experts(start, size), self.room[:size])


def result(ready: Ready) -> TernaryResult | None:
    """None where an input is not ternary, or the method does not come to a sum or an election of them."""
    merge, loaders = ready.merge, ready.loaders
    ternary = [loader for loader in loaders if isinstance(loader, TernaryLoader)]
    absent = sum(isinstance(loader, Absent) for loader in loaders)
    # An absent tensor leaves −0 in the base as it is; adding nothing makes it 0.
    is_fit = len(ternary) + absent == len(loaders) and ternary and not (absent and merge.space == "weight")
    if not is_fit or not isinstance(merge.base, StoredTensor) or merge.method.bare:
        return None
    values = np.array([getattr(loader, "value", 0.0) for loader in loaders], dtype=np.float32)
    combine = _sum(ready, values) or _election(merge, ready.weights, ready.state, values)
    if combine is None:
        return None
    return TernaryResult(merge, merge.base.labelled(), _experts(ready, _cuts(ready.state)), combine, ready.room())


def _cuts(state: State) -> list[int]:
    """The last of equal entries that a trim keeps of each expert, if it leaves out any."""
    if not isinstance(state, Trim):
        return []
    cuts = state.searches[0].fixed
    assert cuts is not None, "an election of bitplanes is settled"
    return [] if (cuts == UNCUT).all() else list(map(int, cuts))


def _experts(ready: Ready, cuts: list[int]) -> Callable[[int, int], Experts]:
    """What reads a chunk of every expert. Planes that lie in files are checked once, which takes a while."""
    wholes = [loader.whole for loader in ready.loaders if isinstance(loader, TernaryLoader)]
    found = [whole for whole in wholes if whole is not None]
    if len(found) == len(ready.loaders) and not cuts:
        places = Places.of(found)
        return lambda start, size: places.moved(start)
    nothing = np.zeros(plane_bytes(ready.elements), dtype=np.uint8)
    reads: list[Read] = [
        loader.planes if isinstance(loader, TernaryLoader) else lambda start, size: Planes(nothing, nothing)
        for loader in ready.loaders
    ]
    kept = [partial(_read_to, read, cut) for read, cut in zip(reads, cuts, strict=True)] if cuts else reads
    return lambda start, size: [read(start, size) for read in kept]


def _read_to(read: Read, cut: int, start: int, size: int) -> Planes:
    planes = read(start, size)
    if cut == UNCUT or start + size <= cut + 1:
        return planes
    first, lead = divmod(planes.start, 8)
    end, lead_bit = divmod(lead + max(cut + 1 - start, 0), 8)
    kept = np.zeros((2, plane_bytes(lead + size)), dtype=np.uint8)
    for row, plane in zip(kept, planes[:2], strict=True):
        row[: end + 1] = plane[first : first + end + 1]
        row[end] &= (1 << lead_bit) - 1
    return Planes(kept[0], kept[1], lead)


def _sum(ready: Ready, values: Weights) -> Any:
    coefficients, merge, label = ready.coefficients(), ready.merge, ready.merge.spec.dtype.label
    if coefficients is None:
        return None
    scale = merge.scale if merge.space == "delta" else None
    return lambda base, planes, out: signed_sum(base, planes, values, coefficients, label, scale, out)


def _election(merge: Merge, weights: Weights, state: State, values: Weights) -> Any:
    election, label = _choices(merge.method, state), merge.spec.dtype.label
    if election is None:
        return None
    how, elect, zero_vote_sign = election
    return lambda base, planes, out: signed_election(
        base, planes, values, weights, label, merge.scale, how, elect, zero_vote_sign, out
    )


def _choices(method: Method, state: State) -> Any:
    """How the election is held, where no survey was needed for its trim."""
    if not isinstance(method, Ties) or state is None or not state.is_settled or method.aggregate == "max":
        return None
    return method.choices(state)
