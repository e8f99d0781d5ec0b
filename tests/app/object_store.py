"""An S3 server for tests, and the variables that lead to it."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
from moto.server import ThreadedMotoServer


@contextmanager
def object_store() -> Iterator[str]:
    """The server's URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def bucket(endpoint: str, name: str) -> Mapping[str, str]:
    """A new bucket; the variables under which it is reached."""
    httpx.put(f"{endpoint}/{name}").raise_for_status()
    return {
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
