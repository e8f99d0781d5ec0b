"""`stockpot methods`: the merge methods there are."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from app.command.output import print_json
from merge_core.methods import catalogue


def methods(json: Annotated[bool, typer.Option("--json", help="Print the catalogue as JSON.")] = False) -> None:
    """List the merge methods with formula, parameters, defaults, source, and whether they stream."""
    if json:
        print_json(catalogue())
        return
    for entry in catalogue():
        for line in _lines(entry):
            typer.echo(line)


def _lines(entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"{entry['name']}: {entry['formula']}"
    for field, schema in entry["parameters"].items():
        values = _values(schema)
        yield f"    {field} = {_value(schema.get('default'))}{f'  ({values})' if values else ''}"
    yield f"    {'streams' if entry['streams'] else 'needs whole matrices in memory'}"
    if entry["statistic"]:
        yield f"    reads {entry['statistic']} beside each input, see docs/statistics.md"
    yield f"    {entry['source']}"


def _values(schema: Mapping[str, Any]) -> str:
    """What a parameter may be: its choices, or its range."""
    if "anyOf" in schema:
        return " or ".join(filter(None, map(_values, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    found = [f"{word} {schema[key]:g}" for key, word in bounds.items() if key in schema]
    return " ".join(found) or {"boolean": "true, false", "null": "none"}.get(schema.get("type", ""), "")


def _value(default: object) -> str:
    """As a recipe writes it."""
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)
