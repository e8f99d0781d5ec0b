"""Child processes that are started again when they die, and that die with their parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

SETTLED_S = 5.0
LONGEST_PAUSE_S = 5.0
# Runs in place of the child for a moment: the kernel's promise to kill it with its parent outlives the exec.
# Not preexec_fn, which is not safe beside threads.
TETHER = (
    "import ctypes, os, sys; parent = int(sys.argv[1]); "
    "sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); "
    "os.getppid() == parent or os._exit(1); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)

log = structlog.get_logger("stockpot.supervisor")


@dataclass
class Child:
    """A process that is to be running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    descriptors: Collection[int] = ()
    process: "subprocess.Popen[bytes] | None" = None
    _failures: int = 0
    _started_at: float = field(default=0.0)
    _not_before: float = field(default=0.0)

    def start(self) -> None:
        """Start it now, in a session of its own: Ctrl-C is for the parent, which ends its children in order."""
        tethered = [sys.executable, "-I", "-S", "-c", TETHER, str(os.getpid()), *self.command]
        self.process = subprocess.Popen(
            tethered,
            env=dict(self.environment),
            pass_fds=tuple(self.descriptors),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._started_at = time.monotonic()

    def keep_alive(self) -> None:
        """Start it again when it has died, more slowly when it dies at once each time."""
        if self.process is None or self.process.poll() is None:
            return
        if not self._not_before:
            quick = time.monotonic() - self._started_at < SETTLED_S
            self._failures = self._failures + 1 if quick else 0
            pause = min(0.1 * 2**self._failures, LONGEST_PAUSE_S) if quick else 0.0
            self._not_before = time.monotonic() + pause
            log.warning("died, starts again", child=self.name, status=self.process.returncode)
        if time.monotonic() >= self._not_before:
            self._not_before = 0.0
            self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is running."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


def stop(children: Sequence[Child], grace_s: float) -> None:
    """Ask all of them to end, wait, and kill what is left."""
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    for child in children:
        if child.process is not None:
            try:
                child.process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
