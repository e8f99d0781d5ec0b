"""`stockpot serve`: the whole service on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.command.remote import DEFAULT_URL


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; beyond loopback a token must exist.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for records, blobs and the queue.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, max=256, help="Worker processes on this machine.")] = None,
) -> None:
    """Start API, queue and workers, and keep them running until SIGTERM or Ctrl-C."""
    from app.settings import Settings
    from app.supervisor import serve as run

    sys.exit(run(Settings.from_environment(host=host, port=port, data=data, workers=workers), on_ready=_greet))


def _greet(url: str) -> None:
    command = sys.argv[0]
    address = "" if url == DEFAULT_URL else f" --url {url}"
    lines = (
        f"Stockpot is at {url}",
        "",
        "What to try next, in another terminal:",
        f"  {command} push FOLDER team/math{address}        # publish a checkpoint, or a LoRA adapter as PEFT saves it",
        f"  {command} compose RECIPE.yaml soups/mix{address}  # build a composition",
        f"  {command} pull soups/mix ./mix{address}          # download it",
        "",
        "Ctrl-C stops it.",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
