"""What the first operation loads: time that a process may spend before it forks, once for all children."""

import numpy as np

from kernels.storage import widen


def load_operations() -> None:
    """Load what compiled operations need. Starts no thread."""
    widen(np.zeros(1, dtype=np.float32), "float32")
