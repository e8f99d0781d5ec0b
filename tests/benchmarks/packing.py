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

Tensors = dict[str, torch.Tensor]


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
        random = torch.Generator().manual_seed(0)
        weights = SPREAD * torch.randn(elements, generator=random)
        moved = weights.to(dtype) + STEP * torch.randn(elements, generator=random)
        yield packing_line("a drawn fine-tune", {"weight": weights.to(dtype)}, {"weight": moved.to(dtype)}, work)


def packing_line(label: str, base: Tensors, fine: Tensors, work: Path) -> str:
    """What keeping `fine` against `base` takes; all tensors are of one type, which the line names."""
    stored = _stored(base, fine, work)
    raw = stored.fine.read_bytes()
    general = len(raw) / len(zstandard.compress(raw, ZSTD_LEVEL))
    speed = _bytes_per_s(stored)
    return (
        f"packed {label} in {str(next(iter(fine.values())).dtype).removeprefix('torch.')}: "
        f"{len(raw) / stored.found.stored:.2f} times smaller, zstd -{ZSTD_LEVEL} {general:.2f} times, "
        f"decoded at {speed / 1e9:.2f} GB/s"
    )


def _stored(base: Tensors, fine: Tensors, work: Path) -> _Stored:
    before, after, packed = (work / name for name in ("base.safetensors", "fine.safetensors", "fine.packed"))
    save_file(base, before)
    save_file(fine, after)
    digest = sha256(after.read_bytes()).hexdigest()
    return _Stored(before, after, packed, pack(after, packed, digest, Known(_like(before))))


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
