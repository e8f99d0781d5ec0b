"""What the first operation waits for: code that is loaded in each process, and compiled once on a machine."""

import numpy as np

from kernels.compiled import is_compiling
from kernels.storage import widen

__all__ = ["is_compiling", "load_operations"]


def load_operations() -> None:
    """Load what compiled operations need, before a process forks: once for all children. Starts no thread."""
    widen(np.zeros(1, dtype=np.float32), "float32")
