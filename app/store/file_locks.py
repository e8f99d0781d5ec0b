"""Locks on files that may go: whoever works with one keeps it, and the kernel lets go when the process ends."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path


def held(path: Path) -> int:
    """A descriptor whose lock keeps the file. Raises FileNotFoundError where the file went before it had the lock."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def touch(path: Path) -> None:
    """Say that the file is used now; one of another user's cannot be told, and nobody but they would remove it."""
    with suppress(PermissionError):
        os.utime(path, (time.time(), path.stat().st_mtime))


def forgotten(path: Path, unused_s: float | None = None) -> bool:
    """True when nobody held the file, nor has touched it for so long, and it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if unused_s is not None and time.time() - os.fstat(file.fileno()).st_atime < unused_s:
                return False
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
