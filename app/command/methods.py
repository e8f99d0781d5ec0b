"""`stockpot methods`: the merge methods there are."""

from typing import Annotated

import typer

from app.command.output import print_json
from merge_core.methods import catalogue


def methods(json: Annotated[bool, typer.Option("--json", help="Print the catalogue as JSON.")] = False) -> None:
    """List the merge methods with formula, parameters, defaults and source."""
    if json:
        print_json(catalogue())
        return
    for entry in catalogue():
        typer.echo(f"{entry['name']}: {entry['formula']}")
        for field, schema in entry["parameters"].items():
            typer.echo(f"    {field} = {schema.get('default')}")
        typer.echo(f"    {entry['source']}{'' if entry['streams'] else ' (needs whole matrices in memory)'}")
