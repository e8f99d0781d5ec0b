"""The whole service as a process, as `stockpot serve` runs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import psutil

START = """
import sys
from app.settings import Settings
from app.supervisor import serve, worker
sys.exit(globals()[sys.argv[1]](Settings.from_environment()))
"""
READY_S = 60.0
FAMILY_S = 5.0


class Service:
    """A service on a port of its own choice."""

    def __init__(self, data: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data = data
        self._settings = {"STOCKPOT_DATA": str(data), "STOCKPOT_PORT": "0", **(settings or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> httpx.Client:
        """Start it and wait until it is ready; a client of its."""
        self.process = subprocess.Popen([sys.executable, "-c", START, "serve"], env={**os.environ, **self._settings})
        address = self.data / "address"
        wait(lambda: address.exists() or self.process is None or self.process.poll() is not None, READY_S)
        return httpx.Client(base_url=address.read_text().strip(), timeout=30)

    def start_worker(self) -> None:
        """Start workers alone, as `stockpot worker` does."""
        self.process = subprocess.Popen([sys.executable, "-c", START, "worker"], env={**os.environ, **self._settings})

    def family(self) -> list[psutil.Process]:
        """Every process below the service's own."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def member(self, part: str) -> psutil.Process:
        """The process whose command line has this part."""
        family = [child for child in self.family() if is_alive(child)]
        return next(child for child in family if any(part in word for word in child.cmdline()))

    def kill(self) -> None:
        """As a power cut does: the service's own process, which takes the others with it."""
        assert self.process is not None
        family = self.family()
        self.process.kill()
        self.process.wait()
        (self.data / "address").unlink()
        assert_gone(family)

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        assert self.process is not None
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(30)
        assert_gone(family)
        return status


def assert_gone(family: list[psutil.Process]) -> None:
    wait(lambda: not any(is_alive(child) for child in family), FAMILY_S)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait(reached: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.01)
