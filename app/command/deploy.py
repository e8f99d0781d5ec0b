"""`stockpot deploy REPO DEPLOYMENT --base-model NAME`: an adapter for a server that knows its base by NAME."""

from typing import Annotated

import typer

from app.command.output import print_json
from app.command.remote import DEFAULT_URL, Secret, Url, connect


def deploy(
    repo: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="An adapter of PEFT's.")],
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="The branch to make or to bring up to date.")],
    base_model: Annotated[str, typer.Option(help="What the server calls the base.")],
    revision: Annotated[str, typer.Option(help="Of the adapter.")] = "main",
    url: Url = DEFAULT_URL,
    token: Secret = None,
    json: Annotated[bool, typer.Option("--json", help="Print the commit as JSON.")] = False,
) -> None:
    """Keep a branch of an adapter whose config names the base as an inference server does."""
    wish = {"base_model": base_model, "revision": revision}
    with connect(url, token) as remote:
        commit = remote.ask("PUT", f"/v1/repos/{repo}/deployments/{deployment}", json=wish)
    if json:
        print_json(commit)
    else:
        typer.echo(f"{repo}@{deployment}: commit {commit['id']}, for a base called {base_model}")
