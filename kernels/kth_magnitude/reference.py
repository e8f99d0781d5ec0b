"""The search for a magnitude in plain torch: the definition."""

import numpy as np
import torch
from torch import Tensor

from kernels.gram import BLOCK
from kernels.kth_magnitude import ABOVE, BETWEEN, INSIDE, NEAR_COUNTS, NOT_FINITE
from kernels.kth_magnitude.bins import BINS, UNCUT, WINDOW, Threshold
from kernels.kth_magnitude.guesses import Near
from kernels.kth_magnitude.near import SAMPLE, STARTS
from kernels.stored_rows import STRETCH


def magnitude_bits(values: Tensor) -> Tensor:
    return values.view(torch.int32) & 0x7FFFFFFF


def magnitude_histogram(
    rows: Tensor,
    round_: int,
    prefixes: Tensor | None = None,
    out: Tensor | None = None,
    edges: Tensor | None = None,
) -> Tensor:
    """Bins counted by torch; `edges` is how many entries of each block fall into bin 0 of round 1."""
    counts = torch.zeros(len(rows), BINS[round_], dtype=torch.int64, device=rows.device) if out is None else out
    for model, bits in enumerate(magnitude_bits(rows)):
        if prefixes is not None:
            bits = bits[bits >> 15 == prefixes[model]] & 0x7FFF
        counts[model] += torch.bincount(bits >> 15 if prefixes is None else bits, minlength=BINS[round_])
    if edges is not None and prefixes is not None:
        edges.copy_(_ties(magnitude_bits(rows) == prefixes[:, None] << 15))
    return counts


def sample_histogram(rows: Tensor, start: int, out: Tensor | None = None) -> Tensor:
    """Round 0 over a few elements of each stretch."""
    index = torch.arange(rows.shape[1], device=rows.device)
    within, stretch = index % STRETCH, (start + index // STRETCH * STRETCH) // STRETCH
    place = ((stretch * 2654435761) % (1 << 32) >> 27) * SAMPLE
    return magnitude_histogram(rows[:, (within >= place) & (within < place + SAMPLE)], 0, out=out)


def near_histogram(rows: Tensor, guess: Near, out: Tensor | None = None, edges: Tensor | None = None) -> Tensor:
    """The same counts from the sums of comparisons."""
    bits, width, edge_bits = magnitude_bits(rows).long(), WINDOW * BINS[1], torch.as_tensor(guess.firsts) << 15
    counts = torch.zeros(len(rows), NEAR_COUNTS, dtype=torch.int64, device=rows.device) if out is None else out
    for model, (low, high) in enumerate(edge_bits.tolist()):
        counts[model, ABOVE] += (bits[model] >= high + width).sum()
        counts[model, BETWEEN] += ((bits[model] >= low + width) & (bits[model] < high)).sum()
        counts[model, NOT_FINITE] += (~rows[model].isfinite()).sum()
        for window, begin in enumerate((low, high)):
            inside = bits[model][(bits[model] >= begin) & (bits[model] < begin + width)] - begin
            own = counts[model, INSIDE + window * width : INSIDE + (window + 1) * width]
            own += torch.bincount(inside, minlength=width)
    if edges is not None:
        starts = edge_bits[:, :, None] + (torch.arange(WINDOW) << 15)
        is_start = bits[:, None, :] == starts.reshape(len(rows), STARTS, 1)
        edges.copy_(_ties(is_start.reshape(STARTS * len(rows), -1)).reshape(edges.shape))
    return counts


def tie_counts(rows: Tensor, magnitudes: Tensor) -> Tensor:
    return _ties(magnitude_bits(rows) == magnitude_bits(magnitudes)[:, None])


def _ties(is_tie: Tensor) -> Tensor:
    """How many of each BLOCK of [models, elements]: [blocks, models]."""
    models, size = is_tie.shape
    blocks = -(-size // BLOCK)
    padded = torch.nn.functional.pad(is_tie, (0, blocks * BLOCK - size))
    return padded.reshape(models, blocks, BLOCK).sum(dim=2).T.contiguous()


def chunk_cuts(rows: Tensor, start: int, magnitudes: Tensor, firsts: Tensor, ranks: Tensor) -> Tensor:
    """Before the chunk nothing more is kept, after it everything, within it the rank-th tie of the block decides."""
    cuts = torch.empty_like(firsts)
    for model, first in enumerate(firsts.tolist()):
        lo = first - start
        if lo < 0:
            cuts[model] = -1
        elif lo >= rows.shape[1]:
            cuts[model] = UNCUT
        else:
            is_tie = magnitude_bits(rows[model, lo:]) == magnitude_bits(magnitudes[model : model + 1])
            cuts[model] = first + int(is_tie.nonzero()[int(ranks[model]) - 1])
    return cuts


def kth_magnitude(x: Tensor, k: int) -> Threshold:
    if k == 0 or len(x) == 0:
        return Threshold(np.float32(np.inf), -1)
    bits = magnitude_bits(x)
    order = torch.sort(bits, descending=True, stable=True).indices[:k]
    last = order[-1:]
    is_last = bits[order] == bits[last]
    return Threshold(np.float32(x[last].abs().cpu().numpy()[0]), int(order[is_last].max()))
