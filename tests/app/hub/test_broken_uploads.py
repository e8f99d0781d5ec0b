"""A large file on its way up, over a line that breaks: the client goes on with the part that broke."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi

from tests.app.api.conftest import Pot, running, settings_for
from tests.app.hub.conftest import BY_LFS

MIB = 1 << 20
PIECE = 1 << 16
REPO = "team/large"

pytestmark = BY_LFS


@pytest.fixture
def pot(tmp_path: Path, queue_url: str) -> Iterator[Pot]:
    """A service that takes larger files than those of other tests."""
    settings = settings_for(tmp_path / "data", queue_url).model_copy(update={"max_file_bytes": 1 << 30})
    with running(settings) as pot:
        yield pot


class BreakingLine:
    """A way to a service that is cut once it has carried so many bytes up; what comes later gets through."""

    def __init__(self, url: str, cuts: list[int]) -> None:
        address = urlsplit(url)
        self._target = (str(address.hostname), int(address.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = cuts
        self.carried = 0

    def serve(self) -> None:
        """Accept connections until the end."""
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                service = socket.create_connection(self._target)
                threading.Thread(target=self._up, args=(caller, service), daemon=True).start()
                threading.Thread(target=_down, args=(service, caller), daemon=True).start()

    def close(self) -> None:
        """No more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _up(self, caller: socket.socket, service: socket.socket) -> None:
        with suppress(OSError):
            while data := caller.recv(PIECE):
                self.carried += len(data)
                if self.cuts and self.carried > self.cuts[0]:
                    self.cuts.pop(0)
                    break
                service.sendall(data)
        _end(caller)
        _end(service)


def _down(service: socket.socket, caller: socket.socket) -> None:
    with suppress(OSError):
        while data := service.recv(PIECE):
            caller.sendall(data)
    _end(caller)


def _end(connection: socket.socket) -> None:
    """Closing it too tells a client that is still writing; the other thread may be reading, which shutdown ends."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def breaking(url: str, cuts: list[int]) -> Iterator[BreakingLine]:
    """Such a line to the service at `url`."""
    line = BreakingLine(url, cuts)
    thread = threading.Thread(target=line.serve)
    thread.start()
    try:
        yield line
    finally:
        line.close()
        thread.join(10)


def test_more_than_a_hundred_megabytes_arrive_over_a_line_that_breaks(pot: Pot, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(MIB) * 110
    (tmp_path / "w.bin").write_bytes(content)
    HfApi(endpoint=pot.url, token=False).create_repo(REPO)
    with breaking(pot.url, [30 * MIB, 120 * MIB]) as line:
        api = HfApi(endpoint=line.url, token=False)
        api.upload_file(path_or_fileobj=tmp_path / "w.bin", path_in_repo="w.bin", repo_id=REPO)
        assert line.cuts == []
        again = line.carried
        api.upload_file(path_or_fileobj=tmp_path / "w.bin", path_in_repo="w.bin", repo_id=REPO)
        assert line.carried - again < MIB
    store = pot.inside.store
    (entry,) = store.tree(store.head(store.require_repo(REPO)))
    assert (entry.sha256, entry.size) == (sha256(content).hexdigest(), len(content))
    assert list((pot.data / "uploads").glob("*")) == []
