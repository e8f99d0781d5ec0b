"""`stockpot tokens`: make, list and revoke tokens, directly in the service's records."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.command.output import print_json

if TYPE_CHECKING:
    from app.store.store import Store

group = typer.Typer(
    help="Tokens of the service whose records are on this machine or in DATABASE_URL.", no_args_is_help=True
)

Data = Annotated[Path | None, typer.Option(help="The service's data folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@group.command()
def create(
    name: Annotated[str, typer.Option(help="What the token is for.")],
    scope: Annotated[list[str], typer.Option(help="read, write or admin; may be given several times.")],
    namespace: Annotated[list[str] | None, typer.Option(help="A namespace it may act in; all when not given.")] = None,
    data: Data = None,
    json: AsJson = False,
) -> None:
    """Make a token and print its secret, once."""
    token, secret = _store(data).create_token(name, frozenset(scope), frozenset(namespace or ["*"]))
    if json:
        print_json({"id": token.id, "name": token.name, "secret": secret})
    else:
        typer.echo(secret)


@group.command(name="list")
def list_(data: Data = None, json: AsJson = False) -> None:
    """Show every token, without its secret."""
    rows = [
        {"id": token.id, "name": token.name, "scopes": sorted(token.scopes), "namespaces": sorted(token.namespaces)}
        for token in _store(data).list_tokens()
    ]
    if json:
        print_json(rows)
    for row in () if json else rows:
        typer.echo(f"{row['id']}  {row['name']}  {','.join(row['scopes'])}  {','.join(row['namespaces'])}")


@group.command()
def revoke(token_id: Annotated[str, typer.Argument(metavar="ID")], data: Data = None) -> None:
    """Make a token worthless at once."""
    _store(data).revoke_token(token_id)


def _store(data: Path | None) -> "Store":
    from app.settings import Settings
    from app.store.store import open_store

    settings = Settings.from_environment(data=data)
    settings.data.mkdir(parents=True, exist_ok=True)
    return open_store(settings)
