"""`stockpot serve`: the whole service on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; beyond loopback a token must exist.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for records, blobs and the queue.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, max=256, help="Worker processes on this machine.")] = None,
) -> None:
    """Start API, queue and workers, and keep them running until SIGTERM or Ctrl-C."""
    from app.settings import Settings
    from app.supervisor import serve as run

    sys.exit(run(Settings.from_environment(host=host, port=port, data=data, workers=workers)))
