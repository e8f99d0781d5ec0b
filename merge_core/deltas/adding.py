"""Adding a multiple of a delta to a chunk that is there, without a dense copy of the delta where its form allows."""

import numpy as np

from kernels.low_rank_add import low_rank_add
from merge_core.deltas.contract import Loader, Rows
from merge_core.deltas.low_rank import LowRankLoader
from merge_core.deltas.sparse_sum import SparseSumLoader
from merge_core.deltas.summed import SummedLoader


def add_to(loader: Loader, out: Rows, start: int, scale: float, base: Rows | None = None) -> None:
    """out += scale · delta over the flat elements [start, start + len(out)); `base` as for `load_delta`."""
    if isinstance(loader, LowRankLoader):
        low_rank_add(out, loader.down.shape[1], start, loader.up, loader.down, loader.scale * scale)
    elif isinstance(loader, SparseSumLoader):
        first, end = np.searchsorted(loader.indices, (start, start + out.size))
        out[loader.indices[first:end] - start] += np.float32(scale) * loader.values[first:end]
    elif isinstance(loader, SummedLoader):
        for part in loader.parts:
            add_to(part, out, start, scale, base)
    else:
        added = np.empty_like(out)
        loader.load_delta(added, start, base)
        added *= np.float32(scale)
        out += added
