"""`stockpot jobs`: what a service is doing."""

from typing import Annotated, Any

import typer

from app.command.output import print_json
from app.command.remote import DEFAULT_URL, Secret, Url, connect

group = typer.Typer(help="Jobs of a running service.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID")]


@group.command(name="list")
def list_(
    state: Annotated[str | None, typer.Option(help="queued, running, done, failed or cancelled.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20,
    url: Url = DEFAULT_URL,
    token: Secret = None,
    json: AsJson = False,
) -> None:
    """Show the newest jobs."""
    wanted = {"limit": limit} | ({"state": state} if state else {})
    with connect(url, token) as remote:
        items = remote.ask("GET", "/v1/jobs", params=wanted)["items"]
    if json:
        print_json(items)
    for job in () if json else items:
        typer.echo(_line(job))


@group.command()
def show(job_id: Id, url: Url = DEFAULT_URL, token: Secret = None, json: AsJson = False) -> None:
    """Show one job."""
    with connect(url, token) as remote:
        job = remote.ask("GET", f"/v1/jobs/{job_id}")
    if json:
        print_json(job)
    else:
        typer.echo(_line(job))


@group.command()
def cancel(job_id: Id, url: Url = DEFAULT_URL, token: Secret = None) -> None:
    """Stop a job; nothing happens when it is over."""
    with connect(url, token) as remote:
        typer.echo(_line(remote.ask("POST", f"/v1/jobs/{job_id}/cancel")))


def _line(job: dict[str, Any]) -> str:
    share = f"{100 * job['done'] / job['total']:.0f} %" if job["total"] else "-"
    return f"{job['id']}  {job['kind']:<12} {job['state']:<10} {share:>5}  {job['subject_id']}"
