"""What a child process of the supervisor does: `python -m app.roles worker|reconcile|http [FD]`."""

import socket
import sys

from app import logs
from app.settings import Settings


def main(arguments: list[str]) -> int:
    """Run one role until told to stop. What a role needs is imported when it is known which it is."""
    logs.configure()
    settings = Settings.from_environment()
    role = arguments[0]
    if role == "worker":
        from app.jobs.worker import run_worker

        return run_worker(settings)
    if role == "reconcile":
        from app.jobs.reconcile import run_reconciler

        return run_reconciler(settings)
    return _serve_http(settings, int(arguments[1]))


def _serve_http(settings: Settings, descriptor: int) -> int:
    """The HTTP side, on a socket that the supervisor holds: a restart refuses no connection."""
    import uvicorn

    from app.main import create_app

    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
