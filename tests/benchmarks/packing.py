"""Checkpoints kept against their base: bytes against a general compressor, and how fast they come back."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median

import torch
import zstandard
from safetensors.torch import save_file

from merge_core.formats.safetensors_file import open_tensors
from merge_core.packing import Known, Origin, Packed, Packing, Plain, pack
from merge_core.packing.pack import Alike
from merge_core.tensors import TensorSpec

ELEMENTS = 1 << 24
DTYPES = (torch.bfloat16, torch.float32)
SPREAD, STEP = 0.02, 1e-4
"""Of the weights, and of what a fine-tune adds to each: 100 steps of AdamW at a rate of 1e-5 that mostly disagree."""
ROUNDS = 5
ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True)
class _Stored:
    """One fine-tune in its forms."""

    base: Path
    fine: Path
    packed: Path
    found: Packing


def packing_lines(work: Path, elements: int = ELEMENTS) -> Iterator[str]:
    """A line for each type of weights: how many times smaller, beside zstd on the file, and GB/s on one core."""
    for dtype in DTYPES:
        stored = _stored(work, dtype, elements)
        raw = stored.fine.read_bytes()
        general = len(raw) / len(zstandard.compress(raw, ZSTD_LEVEL))
        speed = _bytes_per_s(stored)
        yield (
            f"packed fine-tune in {str(dtype).removeprefix('torch.')}: {len(raw) / stored.found.stored:.2f} times "
            f"smaller, zstd -{ZSTD_LEVEL} {general:.2f} times, decoded at {speed / 1e9:.2f} GB/s"
        )


def _stored(work: Path, dtype: torch.dtype, elements: int) -> _Stored:
    random = torch.Generator().manual_seed(0)
    weights = SPREAD * torch.randn(elements, generator=random)
    moved = weights.to(dtype) + STEP * torch.randn(elements, generator=random)
    base, fine, packed = (work / name for name in ("base.safetensors", "fine.safetensors", "fine.packed"))
    save_file({"weight": weights.to(dtype)}, base)
    save_file({"weight": moved.to(dtype)}, fine)
    digest = sha256(fine.read_bytes()).hexdigest()
    return _Stored(base, fine, packed, pack(fine, packed, digest, Known(_like(base))))


def _like(base: Path) -> Callable[[TensorSpec], Alike | None]:
    tensors = open_tensors(base)

    def like(spec: TensorSpec) -> Alike | None:
        return Origin(sha256="0" * 64, begin=tensors[spec.name].begin), tensors[spec.name].data

    return like


def _bytes_per_s(stored: _Stored) -> float:
    base, times = Plain(stored.base), []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        packed = Packed(stored.packed, lambda digest: base)
        for _ in packed.pieces(0, packed.size):
            pass
        times.append(time.perf_counter() - started)
    return stored.found.size / median(times)
