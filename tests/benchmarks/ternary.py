"""Ternary experts: what their code costs against the entropy, how fast they are added, and eight of them on a base."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from kernels.gap_code import BLOCK, Decoder, encode, entropy_bits
from kernels.ternary import Planes, pack, signed_sum
from tests.benchmarks.contest import Contestant, Task
from tests.benchmarks.measure import BenchmarkError
from tests.benchmarks.merges import COPY, OURS, Bench, stockpot
from tests.benchmarks.models import WEIGHTS_NAME

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
EXPERT_DENSITIES = (0.1, 0.2)
BLOCKS = 16
ROUNDS = 15
TABLE_BYTES = 2
"""A block's entry in the table of sizes."""
FP16_BITS = 16

METHODS: dict[str, Any] = {
    "8 experts, sum": {"name": "task_arithmetic"},
    "8 experts, ties": {"name": "ties", "density": 1.0},
}


def code_lines() -> Iterator[str]:
    """A line for each density, and one for a hot expert: bytes against the bound, and speed on one core."""
    for density in DENSITIES:
        planes = [_draw(density, seed) for seed in range(BLOCKS)]
        blocks = [encode(one, BLOCK) for one in planes]
        coded = sum(8 * (block.size + TABLE_BYTES) for block in blocks)
        bound = sum(entropy_bits(_count(one), BLOCK) for one in planes)
        above, smaller = coded / bound - 1, FP16_BITS * BLOCK * BLOCKS / coded
        speed = _base_bytes_per_s(_decoding(blocks[0]))
        yield (
            f"cold ternary at density {density:.2f}: {above:.2%} above the entropy, {smaller:.1f} times smaller than "
            f"fp16, decoded and added to {speed / 1e9:.2f} GB/s of bfloat16 base"
        )
    hot = _draw(0.2, 0)
    yield f"hot ternary: added to {_base_bytes_per_s(lambda: hot) / 1e9:.2f} GB/s of bfloat16 base"


def _draw(density: float, seed: int) -> Planes:
    random = np.random.default_rng(seed)
    signs = np.where(random.random(BLOCK) < 0.5, 1.0, -1.0)
    return pack(np.where(random.random(BLOCK) < density, signs, 0.0).astype(np.float32))


def _count(planes: Planes) -> int:
    return int(sum(np.unpackbits(plane).sum() for plane in planes[:2]))


def _decoding(block: np.ndarray) -> Callable[[], Planes]:
    decoder = Decoder()

    def decode() -> Planes:
        planes = decoder.decode(block, BLOCK)
        assert not isinstance(planes, str), "a block that was just coded is sound"
        return planes

    return decode


def _base_bytes_per_s(read: Callable[[], Planes]) -> float:
    base, out, one = np.full(BLOCK, 0x3C00, np.uint16), np.empty(BLOCK, np.uint16), np.ones(1, np.float32)

    def add() -> None:
        signed_sum((base, "bfloat16"), [read()], one, one, "bfloat16", 1.0, out)

    add()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(10):
            add()
        times.append((time.perf_counter() - started) / 10)
    return base.nbytes / median(times)


def expert_tasks(bench: Bench, say: Callable[[str], None]) -> Iterator[Task]:
    """Eight hot experts of the fine-tunes put on their base, beside a copy of the base."""
    base, *tuned = bench.models
    say(f"compressing {len(tuned)} fine-tunes of {bench.shape.name} at {len(EXPERT_DENSITIES)} densities")
    experts = [_compressed(bench, base, model, density) for density in EXPERT_DENSITIES for model in tuned]
    moved = 2 * bench.shape.file_bytes + sum((expert / "ternary.safetensors").stat().st_size for expert in experts)
    for name, method in METHODS.items():
        ingredients = [{"source": str(expert), "weight": 0.5} for expert in experts]
        recipe = bench.work / f"{bench.shape.name}-{method['name']}-experts.yaml"
        recipe.write_text(json.dumps({"base": str(base), "method": method, "ingredients": ingredients}))
        out, copy = bench.work / "out", bench.work / "copy.safetensors"
        contestants = (
            Contestant(OURS, (stockpot(), "merge", str(recipe), str(out), "--no-fsync"), out),
            Contestant(COPY, ("cp", str(base / WEIGHTS_NAME), str(copy)), copy),
        )
        yield Task(name, f"{len(experts)} × {bench.shape.name}", "bf16", moved, contestants)


def _compressed(bench: Bench, base: Path, model: Path, density: float) -> Path:
    out = bench.work / f"{bench.shape.name}-{model.name}-{density}"
    options = ("--density", str(density), "--form", "hot", "--no-fsync")
    command = [stockpot(), "compress", str(model), str(out), "--base", str(base), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"stockpot compress: {done.stderr.strip()[-300:]}")
    return out
