"""`stockpot worker`: one more worker, on this machine or another."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def worker(data: Annotated[Path | None, typer.Option(help="Folder for work in progress.")] = None) -> None:
    """Work on the jobs of the service that REDIS_URL, DATABASE_URL and BLOB_URL name."""
    from app.settings import Settings
    from app.supervisor import worker as run

    sys.exit(run(Settings.from_environment(data=data)))
