"""`stockpot deltas`: what was published to a service, and what it is of which base."""

from typing import Annotated, Any

import typer

from app.command.output import human_size, print_json
from app.command.remote import DEFAULT_URL, Secret, Url, connect

group = typer.Typer(help="Deltas that a running service stores.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID")]
HEADER = (
    f"{'id':<32}  {'repo':<32} {'format':<14} {'state':<8} {'tensors':>7} {'rank':>5} {'density':>8} "
    f"{'norm':>9} {'bytes':>8} {'dense':>8}  base"
)


@group.command(name="list")
def list_(
    base: Annotated[str | None, typer.Option(help="Only of this base: namespace/name.")] = None,
    repo: Annotated[str | None, typer.Option(help="Only of this repo: namespace/name.")] = None,
    kind: Annotated[str, typer.Option(help="delta, base, files or any.")] = "delta",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 100,
    url: Url = DEFAULT_URL,
    token: Secret = None,
    json: AsJson = False,
) -> None:
    """Show the newest deltas."""
    wanted = {"limit": limit, "kind": kind} | {
        name: value for name, value in (("base", base), ("repo", repo)) if value is not None
    }
    with connect(url, token) as remote:
        items = remote.ask("GET", "/v1/deltas", params=wanted)["items"]
    if json:
        print_json(items)
        return
    typer.echo(HEADER)
    for delta in items:
        typer.echo(_line(delta))


@group.command()
def show(delta_id: Id, url: Url = DEFAULT_URL, token: Secret = None, json: AsJson = False) -> None:
    """Show one delta, tensor by tensor."""
    with connect(url, token) as remote:
        delta = remote.ask("GET", f"/v1/deltas/{delta_id}")
    if json:
        print_json(delta)
        return
    typer.echo(HEADER)
    typer.echo(_line(delta))
    for text in _remarks(delta):
        typer.echo(text)
    for row in delta["by_tensor"]:
        shape = "×".join(map(str, row["shape"])) or "-"
        typer.echo(f"{_numbers(row)}  {human_size(row['bytes']):>8}  {row['kind']:<12} {shape:<12} {row['name']}")


def _line(delta: dict[str, Any]) -> str:
    facts = delta["facts"]
    tensors, sizes = _shown(facts["tensors"], "d"), [facts["bytes"], facts["dense_bytes"]]
    small, dense = ("-" if size is None else human_size(size) for size in sizes)
    return (
        f"{delta['id']}  {delta['repo']:<32} {delta['format']:<14} {delta['state']:<8} {tensors:>7} "
        f"{_numbers(facts)} {small:>8} {dense:>8}  {_base(delta)}"
    )


def _numbers(facts: dict[str, Any]) -> str:
    rank, density, norm = _shown(facts["rank"], "d"), _shown(facts["density"], ".2%"), _shown(facts["norm"], ".3g")
    return f"{rank:>5} {density:>8} {norm:>9}"


def _base(delta: dict[str, Any]) -> str:
    if delta["base_repo"] is not None:
        return f"{delta['base_repo']}@{delta['base_commit'][:12]}"
    return f"'{delta['base']}', not known here" if delta["base"] else "not known"


def _remarks(delta: dict[str, Any]) -> list[str]:
    reason, candidates = delta["reason"], delta["facts"]["candidates"]
    remarks = [] if reason is None else [f"{delta['state']}: {reason}"]
    remarks += [f"fits alike: {name}" for name in candidates]
    return remarks + [f"{file['sha256']}  {file['path']}" for file in delta["facts"]["files"]]


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
