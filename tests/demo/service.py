"""The service as a process of its own, the way a user starts it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import httpx

Found = TypeVar("Found")

LOG = "service.log"
START_S = 60.0
STOP_S = 30.0
POLL_S = 0.1


class DemoError(Exception):
    """What the demo waited for did not come; the message says what it saw instead."""


@contextmanager
def running_service(data: Path) -> Iterator[str]:
    """The address of `stockpot serve` over `data`; on leaving it has stopped cleanly and left no child behind."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "address").unlink(missing_ok=True)
    with (data.parent / LOG).open("wb") as log:
        process = _start(data, log.fileno())
        try:
            yield _address(process, data)
            _stop(process)
        finally:
            _end(process)


def _start(data: Path, log: int) -> subprocess.Popen[bytes]:
    command = Path(sys.executable).with_name("stockpot")
    if not command.exists():
        raise DemoError(f"no command at {command}: install the package with pip first")
    line = [str(command), "serve", "--data", str(data), "--port", "0"]
    return subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)


def _address(process: subprocess.Popen[bytes], data: Path) -> str:
    def ready() -> str | None:
        if process.poll() is not None:
            raise DemoError(f"the service ended with {process.returncode}, saying: {_last_words(data)}")
        address = data / "address"
        url = address.read_text().strip() if address.exists() else ""
        return url if url and _answers(url) else None

    return wait_for(ready, START_S, "the service to be ready")


def _last_words(data: Path) -> str:
    return (data.parent / LOG).read_text(errors="replace")[-2000:]


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM; the exit code must be 0, and every process that the service had started must be gone."""
    started = _descendants(process.pid)
    process.terminate()
    code = wait_for(process.poll, STOP_S, "the service to stop")
    if code != 0:
        raise DemoError(f"the service stopped with exit code {code}, expected 0")
    wait_for(lambda: None if started & _parents().keys() else True, 5.0, f"processes {sorted(started)} to end")


def _end(process: subprocess.Popen[bytes]) -> None:
    """After a failure: SIGTERM, then SIGKILL; the service's children end with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _descendants(pid: int) -> set[int]:
    parents, found = _parents(), {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def _parents() -> dict[int, int]:
    """The parent of every living process; empty where there is no /proc."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name stands in brackets and may hold anything; state and parent follow the last bracket.
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


def wait_for(look: Callable[[], Found | None], limit_s: float, what: str) -> Found:
    """The first answer of `look` that is not None; DemoError when `limit_s` have passed."""
    deadline = time.monotonic() + limit_s
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise DemoError(f"waited {limit_s:.0f} s for {what}")
        time.sleep(POLL_S)
    return found
