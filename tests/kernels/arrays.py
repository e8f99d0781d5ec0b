"""What the kernel tests share: the odd sizes, awkward values and comparison by bits."""

import numpy as np

SIZES = [0, 1, 63, 1000, 16385]
LABELS = ["bfloat16", "float16", "float32", "float64"]
AWKWARD = np.array(
    [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 65504.0, 65519.99, 65520.0, 3.4e38, 1e-8], np.float32
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def dirty(shape, dtype=np.float32):
    """A buffer as an allocator may hand it out: all NaN, or all ones in its bits."""
    array = np.empty(shape, dtype)
    array.view(np.uint8)[...] = 0xFF
    return array


def same_bits(left, right):
    """Equal bit for bit, except that any NaN equals any other: torch and LLVM choose different ones."""
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    nan = (np.isnan(left) & np.isnan(right)) if left.dtype.kind == "f" else np.zeros(left.shape, bool)
    whole = f"u{left.dtype.itemsize}"
    return bool(((left.view(whole) == right.view(whole)) | nan).all())


def relative_rms(found, expected):
    scale = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64)))) if expected.size else 0.0
    if scale == 0.0:
        return float(np.abs(found).max(initial=0.0))
    return float(np.sqrt(np.mean(np.square(np.float64(found) - expected)))) / scale
