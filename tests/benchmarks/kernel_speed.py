"""Each kernel against its definition in plain torch: one core each, 65536 elements a model, in turn."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from kernels.kth_magnitude import WINDOW, Near
from kernels.selection import Beyond

ELEMENTS = 1 << 16
MODELS = 4
RANK = 8
COLUMNS = 2048
BF16 = "bfloat16"
ROUNDS = 15
KERNELS = Path(__file__).resolve().parents[2] / "kernels"

Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Speed:
    """One operation's time for a call and its reference's; `elements` and `moved_bytes` of that call."""

    operation: str
    shape: str
    dtype: str
    elements: int
    moved_bytes: int
    kernel_s: float
    reference_s: float


def kernel_speeds(rounds: int = ROUNDS) -> list[Speed]:
    """A row for each operation. Both sides get one thread, as the engine gives each of its threads one chunk."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_speed(folder, name, arguments, rounds) for folder, name, arguments in _operations()]
    finally:
        torch.set_num_threads(threads)


def not_measured() -> list[str]:
    """The kernels that have a definition and no row here."""
    measured = {folder for folder, _, _ in _operations()}
    return sorted({path.parent.name for path in KERNELS.glob("*/reference.py")} - measured)


def copy_speed(rounds: int = ROUNDS) -> float:
    """Bytes read and written per second by a copy of that many float32 elements on one core."""
    source, target = np.ones((MODELS, ELEMENTS), np.float32), np.empty((MODELS, ELEMENTS), np.float32)
    return 2 * source.nbytes / _times([lambda: np.copyto(target, source)], rounds)[0]


def _operations() -> list[tuple[str, str, Arguments]]:
    random = np.random.default_rng(0)
    rows = random.standard_normal((MODELS, ELEMENTS), dtype=np.float32)
    row, base, weights = rows[0], rows[1], np.full(MODELS, 0.25, np.float32)
    stored = (row.view(np.uint32) >> 16).astype(np.uint16)
    magnitudes = np.full(MODELS, 1.2815516, np.float32)
    prefixes = magnitudes.view(np.int32).astype(np.int64) >> 15
    near, cuts = Near(np.stack([prefixes - WINDOW, prefixes], axis=1)), np.full(MODELS, ELEMENTS, np.int64)
    factors = random.standard_normal((ELEMENTS // COLUMNS, RANK), dtype=np.float32), rows.ravel()[: RANK * COLUMNS]
    lower, upper = (magnitudes, cuts), (2 * magnitudes, cuts)
    return [
        ("weighted_sum", "weighted_sum", (rows, weights)),
        ("gram", "gram", (rows,)),
        ("kth_magnitude", "kth_magnitude", (row, ELEMENTS // 5)),
        ("kth_magnitude", "magnitude_histogram", (rows, 0)),
        ("kth_magnitude", "magnitude_histogram", (rows, 1, prefixes)),
        ("kth_magnitude", "tie_counts", (rows, magnitudes)),
        ("trim_elect", "trim_elect", (rows, weights, magnitudes, cuts, 0)),
        ("trim_elect", "sign_balance", (rows, weights, magnitudes, cuts, 0)),
        ("keep_band", "keep_band", (rows, lower, upper, 0)),
        ("random_drop", "random_drop", (rows, 0, "layer.weight", 0, 0.5)),
        ("rank_drop", "rank_drop", (rows, COLUMNS, 0, "layer.weight", 0, (0.4, 0.6))),
        ("random_drop", "drop_merge", (rows, weights, 0, "layer.weight", 0, 0.5)),
        ("rank_drop", "rank_merge", (rows, weights, COLUMNS, 0, "layer.weight", 0, (0.4, 0.6))),
        ("kth_magnitude", "sample_histogram", (rows, 0)),
        ("kth_magnitude", "near_histogram", (rows, near)),
        ("spread", "spread", (rows,)),
        ("spread", "near_histogram", (rows, Near(near.firsts[:1]))),
        ("selection", "squares_beyond", (rows, np.float32(4.0))),
        ("selection", "selected_merge", (rows, Beyond(np.float32(4.0), -1), 0, weights)),
        ("consensus", "consensus", (rows, weights, weights, 2)),
        ("changed_mean", "changed_mean", (rows, 1e-5)),
        ("stitch", "stitch", (rows, weights, magnitudes, cuts, 0)),
        ("competition", "balance", (rows, (magnitudes / 100, 2 * magnitudes))),
        ("competition", "compete", (rows, weights, (magnitudes / 100, 2 * magnitudes), (weights - 1, weights))),
        ("low_rank_add", "low_rank_add", (row.copy(), COLUMNS, 0, factors[0], factors[1].reshape(RANK, COLUMNS), 0.5)),
        ("philox", "uniform", (0, "layer.weight", 0, 0, row.copy())),
        ("all_finite", "all_finite", (stored, BF16)),
        ("moments", "moments", (row, 1.0)),
        ("ternary", "pack", (row, 1.2815516)),
        ("ternary", "ternarize", (row, 1.2815516, 0, 0.5)),
        ("storage", "widen", (stored, BF16)),
        ("storage", "widen_difference", (stored, BF16, base)),
        ("storage", "narrow", (row, BF16)),
        ("storage", "add_scaled_narrow", (base, row, 0.5, BF16)),
    ]


def _speed(folder: str, name: str, arguments: Arguments, rounds: int) -> Speed:
    kernel = getattr(import_module(f"kernels.{folder}"), name)
    reference = getattr(import_module(f"kernels.{folder}.reference"), name)
    tensors = _as_tensors(arguments)
    result = kernel(*arguments)
    kernel_s, reference_s = _times([lambda: kernel(*arguments), lambda: reference(*tensors)], rounds)
    largest = max((value for value in arguments if isinstance(value, np.ndarray)), key=lambda value: value.size)
    moved = sum(value.nbytes for value in (*arguments, result) if isinstance(value, np.ndarray))
    shape = "×".join(map(str, largest.shape))
    label = f"{name} ({arguments[1]})" if name == "magnitude_histogram" else name
    dtype = "bf16" if any(value is BF16 for value in arguments) else "fp32"
    return Speed(label, shape, dtype, largest.size, moved, kernel_s, reference_s)


def _as_tensors(arguments: Arguments) -> Arguments:
    """The same memory for the reference; some operations take pairs of arrays."""
    return tuple(_as_tensors(value) if type(value) is tuple else _as_tensor(value) for value in arguments)


def _as_tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _times(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median time of each, taken in turn, with as many calls at once as take about a millisecond."""
    repeats = [max(1, int(1e-3 / _time(call, 2))) for call in calls]
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, repeat, taken in zip(calls, repeats, times, strict=True):
            taken.append(_time(call, repeat))
    return [median(taken) for taken in times]


def _time(call: Callable[[], object], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats
