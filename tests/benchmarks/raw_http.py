"""The least that a client can do: one request on a socket, the answer's bytes counted and dropped."""

import os
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.measure import BenchmarkError

PIECE = 1 << 20
PATIENCE_S = 300.0


def fetch(url: str) -> int:
    """Bytes of the body of a GET."""
    with closing(_connected(url)) as connection:
        _say(connection, "GET", url, 0)
        buffer = bytearray(PIECE)
        length, received = _head(connection, buffer)
        while received < length and (count := connection.recv_into(buffer)):
            received += count
    if received != length:
        raise BenchmarkError(f"{url}: {received} bytes of {length}")
    return received


def send(url: str, file: Path) -> None:
    """A PUT of a file, which the kernel reads."""
    with closing(_connected(url)) as connection, file.open("rb") as stream:
        _say(connection, "PUT", url, file.stat().st_size)
        connection.sendfile(stream)
        _head(connection, bytearray(PIECE))


def _connected(url: str) -> socket.socket:
    address = urlsplit(url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 80), timeout=PATIENCE_S)


def _say(connection: socket.socket, method: str, url: str, length: int) -> None:
    address = urlsplit(url)
    path = address.path + (f"?{address.query}" if address.query else "")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address.netloc}", "Connection: close"]
    lines += [f"Content-Length: {length}"] if method == "PUT" else []
    connection.sendall("\r\n".join([*lines, "", ""]).encode())


def _head(connection: socket.socket, buffer: bytearray) -> tuple[int, int]:
    """The length of the body that an answer announces, and how much of it came with the head."""
    received = b""
    while b"\r\n\r\n" not in received:
        count = connection.recv_into(buffer)
        if not count:
            raise BenchmarkError(f"no answer: {received[:200]!r}")
        received += buffer[:count]
    head, _, body = received.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    if status.split()[1][0] != "2":
        raise BenchmarkError(f"{status}: {body[:400]!r}")
    named = dict(field.lower().split(": ", 1) for field in fields)
    return int(named.get("content-length", len(body))), len(body)


def fill(path: Path, size: int) -> None:
    """A file of random bytes."""
    with path.open("wb") as stream:
        for start in range(0, size, PIECE):
            stream.write(os.urandom(min(PIECE, size - start)))
