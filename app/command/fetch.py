"""`stockpot fetch NAMESPACE/NAME[@REVISION]`: have a service bring a repo from its upstream hub."""

from typing import Annotated

import typer

from app.command.output import print_json, progress_bar
from app.command.remote import DEFAULT_URL, Secret, Url, connect, followed


def fetch(
    repo: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME[@REVISION]")],
    private: Annotated[bool, typer.Option(help="Hide it from tokens of other namespaces.")] = False,
    wait: Annotated[bool, typer.Option(help="Follow the job until it is over.")] = True,
    url: Url = DEFAULT_URL,
    token: Secret = None,
    json: Annotated[bool, typer.Option("--json", help="Print the job as JSON.")] = False,
) -> None:
    """Bring a repo, usually a base, from the hub that the service's STOCKPOT_UPSTREAM names."""
    name, _, revision = repo.partition("@")
    wish = {"repo": name, "revision": revision or "main", "private": private}
    with connect(url, token) as remote:
        job = remote.ask("POST", "/v1/pulls", json=wish)
        if wait:
            with progress_bar(f"fetching {repo}", shown=not json) as progress:
                job = followed(remote, job, progress)
    if json:
        print_json(job)
    else:
        commit = (job["result"] or {}).get("commit")
        typer.echo(f"{name}@{commit}" if commit else f"{name}: {job['state']}, job {job['id']}")
