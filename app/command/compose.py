"""`stockpot compose RECIPE NAMESPACE/NAME`: ask a service to build a composition, and follow it."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.command.output import Progress, print_json, progress_bar, warn
from app.command.recipes import read_recipe
from app.command.remote import DEFAULT_URL, OPEN, POLL_S, Remote, RemoteError, Secret, Url, connect


def compose(
    recipe: Annotated[Path, typer.Argument(help="The recipe, YAML or JSON; its sources are the service's repos.")],
    repo: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME")],
    wait: Annotated[bool, typer.Option(help="Follow the job until it is over.")] = True,
    lazy: Annotated[
        bool, typer.Option("--lazy", help="List the files now, and build them when one is first downloaded.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Secret = None,
    json: Annotated[bool, typer.Option("--json", help="Print the composition as JSON.")] = False,
) -> None:
    """Build RECIPE under the name; the same recipe is never built twice."""
    with connect(url, token) as remote:
        wish = {"name": repo, "recipe": read_recipe(recipe).recipe.model_dump(mode="json"), "lazy": lazy}
        composition = remote.ask("POST", "/v1/compositions", json=wish)
        warn(composition["plan"].get("warnings", []))
        if wait and not lazy:
            with progress_bar(f"composing {repo}", shown=not json) as progress:
                composition = _follow(remote, composition, progress)
    if json:
        print_json(composition)
    else:
        typer.echo(f"{composition['name']}: {composition['state']}, job {composition['job']}")


def _follow(remote: Remote, composition: dict[str, Any], progress: Progress) -> dict[str, Any]:
    while composition["state"] in OPEN:
        job = remote.ask("GET", f"/v1/jobs/{composition['job']}")
        progress(job["done"], job["total"])
        if job["state"] in OPEN:
            time.sleep(POLL_S)
        composition = remote.ask("GET", composition["links"]["self"])
    if composition["state"] != "done":
        error = composition["error"] or {}
        raise RemoteError(
            error.get("detail") or f"the composition was {composition['state']}", where=composition["name"]
        )
    return composition
