"""`stockpot plan RECIPE`: what would be built, without reading a weight."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.command.output import human_size, print_json, warn
from app.command.recipes import memory_option, plan_file
from app.memory import PROCESS_BYTES
from merge_core.plan import Plan


def plan(
    recipe: Annotated[Path, typer.Argument(help="The recipe, YAML or JSON.")],
    memory: Annotated[
        str | None, typer.Option(help="Most anonymous memory, such as 1GiB; mapped inputs do not count.")
    ] = None,
    tensors: Annotated[bool, typer.Option(help="Show every tensor.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the whole plan as JSON.")] = False,
) -> None:
    """Show layout, sizes, memory and warnings of RECIPE, or what is wrong with it."""
    planned = plan_file(recipe, memory_option(memory))
    if json:
        print_json(planned.describe())
        return
    _print(planned, tensors=tensors)
    warn(planned.warnings)


def _print(planned: Plan, *, tensors: bool) -> None:
    description = planned.describe()
    rows = description["tensors"]
    copied = sum(row["action"] == "copy" for row in rows)
    for file in description["files"]:
        typer.echo(f"{human_size(file['size']):>10}  {file['path']}")
    merged = f"{len(rows) - copied} tensors merged by {planned.recipe.method.title()}, {copied} copied"
    typer.echo(f"{human_size(planned.total_bytes)} of weights: {merged}")
    least = human_size(PROCESS_BYTES + planned.memory_bytes)
    typer.echo(f"{human_size(planned.memory_bytes)} of memory for each thread, {least} with the process itself")
    for row in rows if tensors else ():
        typer.echo(_line(row))


def _line(row: dict[str, Any]) -> str:
    shape = "×".join(map(str, row["shape"])) or "scalar"
    inputs = " ".join(row["inputs"])
    how = f"  factors {row['factors']}" if "factors" in row else ""
    line = f"{human_size(row['bytes']):>10}  {row['dtype']:<9} {shape:<16} {row['action']:<16} {row['name']}  {inputs}"
    return line + how
