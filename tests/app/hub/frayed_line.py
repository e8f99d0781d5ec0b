"""A line to a service that breaks: each connection carries so many bytes of answers, then it is cut or goes silent."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

PIECE = 1 << 16


class FrayedLine:
    """A proxy. `cuts` are the bytes of each connection's answers that come through, one by one; later ones hold."""

    def __init__(self, url: str, cuts: list[int], *, silent: bool = False) -> None:
        address = urlsplit(url)
        self._target = (str(address.hostname), int(address.port or 80))
        self._cuts, self._silent = list(cuts), silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = b""
        self.broken = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._open: list[socket.socket] = []

    def start(self) -> None:
        """Begin to listen."""
        self._threads[0].start()

    def stop(self) -> None:
        """End all connections."""
        for connection in (self._listener, *self._open):
            _close(connection)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            service = socket.create_connection(self._target)
            self._open += [caller, service]
            thread = threading.Thread(target=self._carry, args=(caller, service), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, caller: socket.socket, service: socket.socket) -> None:
        with suppress(OSError):  # either side has left
            self._exchange(caller, service)
        _close(caller)
        _close(service)

    def _exchange(self, caller: socket.socket, service: socket.socket) -> None:
        left = None
        while left is None or left > 0:
            readable, _, _ = select.select([caller, service], [], [])
            if caller in readable:
                data = caller.recv(PIECE)
                self.asked += data
                left = self._next_cut(data) if data.startswith(b"GET") else left
                service.sendall(data)
            else:
                data = service.recv(PIECE if left is None else min(PIECE, left))
                left = None if left is None else left - len(data)
                caller.sendall(data)
            if not data:
                return
        self.broken.set()
        if self._silent:
            caller.recv(1)  # until the caller gives up

    def _next_cut(self, request: bytes) -> int | None:
        return self._cuts.pop(0) if self._cuts and b"/resolve/" in request.split(b"\r\n", 1)[0] else None


@contextmanager
def frayed(url: str, cuts: list[int], *, silent: bool = False) -> Iterator[FrayedLine]:
    """Such a line to the service at `url`."""
    line = FrayedLine(url, cuts, silent=silent)
    line.start()
    try:
        yield line
    finally:
        line.stop()


def _close(connection: socket.socket) -> None:
    with suppress(OSError):  # it is closed
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
