"""One contestant as a whole process: how long it ran, how much CPU it used, how much memory was its own."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_EVERY_MS = 10


class BenchmarkError(Exception):
    """What keeps a measurement from being made, as a sentence for the reader."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used. `anon_bytes` is its peak of anonymous memory: mapped files, which the kernel can
    drop at any time, are not in it (VmHWM and ru_maxrss count them)."""

    wall_s: float
    cpu_s: float
    anon_bytes: int


def measure(command: Sequence[str], log: Path, timeout_s: float) -> Usage:
    """Run `command` to its end, its output in `log`. Raises BenchmarkError when it fails or takes too long."""
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, process_group=0)
        try:
            anon_bytes = _watch(process.pid, timeout_s)
            wall_s = time.perf_counter() - started
        finally:
            # Does nothing to a group that is gone; an interrupted benchmark must leave nobody running.
            _end_group(process.pid)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == -signal.SIGKILL and wall_s >= timeout_s:
        raise BenchmarkError(f"stopped after {timeout_s:.0f} s")
    if process.returncode:
        raise BenchmarkError(f"exit code {process.returncode}: {_last_line(log)}")
    return Usage(wall_s, used.ru_utime + used.ru_stime, anon_bytes)


def _watch(pid: int, timeout_s: float) -> int:
    """The peak of anonymous memory until the process ends or the time is up."""
    peak, deadline = 0, time.perf_counter() + timeout_s
    descriptor = os.pidfd_open(pid)
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        while not ended.poll(SAMPLE_EVERY_MS) and time.perf_counter() < deadline:
            peak = max(peak, sum(_anon_bytes(member) for member in _family(pid)))
    finally:
        os.close(descriptor)
    return peak


def _family(pid: int) -> Iterator[int]:
    """The process and those it has started."""
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = " ".join((thread / "children").read_text() for thread in threads).split()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from _family(int(child))


def _anon_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1][:300]} (all of it in {log})" if lines else f"it printed nothing ({log})"
