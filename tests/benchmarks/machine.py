"""What the timings were taken on, and what speaks against them."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

BUSY_SHARE = 0.25
"""Of the cores, taken by others before anything starts: from here on timings say little."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Taken before anything is run."""

    processor: str
    cores: int
    load: float
    available_bytes: int
    python: str
    torch: str

    def describe(self) -> str:
        memory = f"{self.available_bytes / 1e9:.0f} GB of memory free"
        software = f"Python {self.python}, torch {self.torch}"
        return f"{self.processor}, {self.cores} cores, load average {self.load:.2f}, {memory}, {software}"

    def warnings(self, needed_bytes: int) -> Iterator[str]:
        """What a reader must know of a run that wants `needed_bytes` of files in the page cache."""
        if self.load > BUSY_SHARE * self.cores:
            yield f"the machine is busy (load {self.load:.2f} on {self.cores} cores): believe ratios, not seconds"
        if self.available_bytes < needed_bytes:
            needed, free = needed_bytes / 1e9, self.available_bytes / 1e9
            yield f"{needed:.0f} GB of files do not stay in {free:.0f} GB of free memory: this measures the disk"


def this_machine() -> Machine:
    cores = len(os.sched_getaffinity(0))
    return Machine(
        _processor(), cores, os.getloadavg()[0], _available_bytes(), platform.python_version(), version("torch")
    )


def _processor() -> str:
    return _field(Path("/proc/cpuinfo"), "model name") or platform.machine()


def _available_bytes() -> int:
    return int(_field(Path("/proc/meminfo"), "MemAvailable").split()[0]) * 1024


def _field(path: Path, name: str) -> str:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")
