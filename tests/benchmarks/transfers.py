"""Files to and from the service beside plain servers of the same file: `python -m tests.benchmarks.transfers`.

All contestants answer the same bare client on the loopback, in turns. Before and beside that: the memory of the process
that answers HTTP, while it has many transfers at once.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread

import httpx
import psutil

from tests.benchmarks.machine import this_machine
from tests.benchmarks.raw_http import fetch, fill, send
from tests.demo.service import running_service, wait_for

REPO = "bench/large"
AT_ONCE = 8
LOOK_S = 0.02
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{}}
http {{
  access_log off; sendfile on; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""

Act = Callable[[], object]


def main() -> int:
    """Print one line for each measurement."""
    options = _options()
    print(this_machine().describe())
    options.data.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="transfers-", dir=options.data) as folder:
        for line in measured(Path(folder).absolute(), int(options.gigabytes * 1e9), options.rounds):
            print(line, flush=True)
    return 0


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server and what it is asked to do."""

    name: str
    act: Act
    process: psutil.Process


@dataclass(frozen=True, slots=True)
class Turn:
    """One of them took so long, and its process so much of a core."""

    wall_s: float
    cpu_s: float


def measured(folder: Path, size: int, rounds: int) -> Iterator[str]:
    """Lines: download, upload, memory."""
    file = folder / "large.dat"
    fill(file, size)
    with ExitStack() as stack:
        service = stack.enter_context(running_service(folder / "data"))
        ours = _http_process(folder / "data")
        idle = int(ours.memory_info().rss)
        plain, other = stack.enter_context(_plain_server(folder))
        send(f"{service}/v1/repos/{REPO}/files/large.dat", file)
        ours_url = f"{service}/{REPO}/resolve/main/large.dat"
        downloads = [Contestant("stockpot", _fetching(ours_url), ours)]
        downloads.append(Contestant("plain FileResponse", _fetching(f"{plain}/large.dat"), other))
        if shutil.which("nginx"):
            nginx, third = stack.enter_context(_nginx(folder))
            downloads.append(Contestant("nginx", _fetching(f"{nginx}/large.dat"), third))
        yield from _lines("download", size, rounds, downloads)
        uploads = [Contestant("stockpot, which hashes", _sending(service, folder, size), ours)]
        uploads.append(Contestant("plain, which does not", lambda: send(f"{plain}/received.dat", file), other))
        yield from _lines("upload", size, rounds, uploads)
        yield _memory(f"{AT_ONCE} downloads at once", ours, idle, lambda: _all([_fetching(ours_url)] * AT_ONCE))
        parts = [_sending(service, folder, size // AT_ONCE, number) for number in range(AT_ONCE)]
        yield _memory(f"{AT_ONCE} uploads at once", ours, idle, lambda: _all(parts))


def _fetching(url: str) -> Act:
    return lambda: fetch(url)


def _sending(service: str, folder: Path, size: int, number: int = 0) -> Act:
    """What sends a file by the LFS protocol, to an address that was given out when it was not here."""
    file = folder / f"new-{number}.dat"
    fill(file, size)
    address = lfs_address(service, file)
    return lambda: send(address, file)


def lfs_address(service: str, file: Path) -> str:
    """Where a client is told to put a file."""
    with file.open("rb") as stream:
        oid = file_digest(stream, "sha256").hexdigest()
    objects = [{"oid": oid, "size": file.stat().st_size}]
    wish = {"operation": "upload", "transfers": ["basic"], "objects": objects}
    answer = httpx.post(f"{service}/{REPO}.git/info/lfs/objects/batch", json=wish).raise_for_status().json()
    return str(answer["objects"][0]["actions"]["upload"]["href"])


def _lines(what: str, size: int, rounds: int, contestants: list[Contestant]) -> Iterator[str]:
    """By turns, so that what else the machine does hits all alike; the first round warms up."""
    turns = [[_timed(contestant) for contestant in contestants] for _ in range(rounds + 1)][1:]
    first = median(taken[0].wall_s for taken in turns)
    for place, contestant in enumerate(contestants):
        wall_s = median(taken[place].wall_s for taken in turns)
        cpu_s = median(taken[place].cpu_s for taken in turns)
        yield (
            f"{what} of {size / 1e9:.1f} GB, {contestant.name}: {size / wall_s / 1e9:.2f} GB/s, "
            f"{cpu_s / size * 1e9:.2f} s of a core for each GB, {wall_s / first:.2f} × stockpot's time"
        )


def _timed(contestant: Contestant) -> Turn:
    before, begun = _cpu_s(contestant.process), time.perf_counter()
    contestant.act()
    return Turn(time.perf_counter() - begun, _cpu_s(contestant.process) - before)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory(what: str, process: psutil.Process, idle: int, act: Act) -> str:
    """What is said of the largest resident memory of the HTTP process while `act` goes on."""
    over, most = Event(), [0]

    def watch() -> None:
        while not over.wait(LOOK_S):
            most[0] = max(most[0], process.memory_info().rss)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        act()
    finally:
        over.set()
        watcher.join()
    return f"{what}: the HTTP process takes {most[0] / 1e6:.0f} MB, {idle / 1e6:.0f} MB of them before anything is sent"


def _all(acts: list[Act]) -> None:
    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(act) for act in acts]:
            done.result()


def _http_process(data: Path) -> psutil.Process:
    """The one of the service over `data`: told by the variable that the supervisor gave it."""
    for process in psutil.Process().children(recursive=True):
        line = process.cmdline()
        if "app.roles" in line and "http" in line and process.environ().get("STOCKPOT_DATA") == str(data):
            return process
    raise LookupError("the service has no HTTP process")


@contextmanager
def _plain_server(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", "tests.benchmarks.plain_server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}", psutil.Process(process.pid)
        finally:
            process.terminate()


@contextmanager
def _nginx(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port))
    command = ["nginx", "-c", str(configuration), "-p", str(folder), "-e", str(folder / "nginx.log")]
    with subprocess.Popen(command) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: _answers(url), 10.0, "nginx to answer")
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()


def _answers(url: str) -> bool | None:
    try:
        return bool(httpx.get(url))
    except httpx.TransportError:
        return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.transfers", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("var/bench"), help="where files are written")
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3, help="after one that warms up")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
