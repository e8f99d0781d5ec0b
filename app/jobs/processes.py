"""Processes that end with their parent, however that one ends, and whose end their neighbours can see."""

import ctypes
import os
import secrets
import signal
import socket
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` is gone; at once when it is gone already.

    Linux only: elsewhere a worker's processes notice by losing their lease.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def new_worker_name() -> str:
    """A name that says where the worker runs and as which process."""
    return f"{_place()}-{os.getpid()}-{secrets.token_hex(4)}"


def is_known_dead(worker_name: str) -> bool:
    """True when a worker of this machine has no process any more. Of other machines nothing is known: False."""
    place, _, rest = worker_name.partition("-")
    pid = rest.partition("-")[0]
    if place != _place() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # alive, and another user's
        return False
    return False


@cache
def _place() -> str:
    """Where process ids mean the same: one boot of one machine, and one container of it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = [boot.read_text(), str(namespace.readlink())] if boot.exists() else [socket.gethostname()]
    return sha256("".join(parts).encode()).hexdigest()[:12]
