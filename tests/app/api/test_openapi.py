"""openapi.yaml is generated: this fails when it is stale. `make openapi` writes it anew."""

from pathlib import Path

import httpx
import yaml

from app import openapi

FILE = Path(__file__).parents[3] / "openapi.yaml"


def test_the_committed_description_is_the_current_one() -> None:
    assert FILE.read_text() == openapi.text(), "run `make openapi`"


def test_the_service_shows_the_same_description(reader: httpx.Client) -> None:
    assert reader.get("/openapi.json").json() == yaml.safe_load(FILE.read_text())


def test_every_operation_says_what_it_does_and_that_it_may_fail() -> None:
    document = yaml.safe_load(FILE.read_text())
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert "4XX" in operation["responses"]


def test_every_reference_leads_somewhere() -> None:
    document = yaml.safe_load(FILE.read_text())
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(_references(document)) <= names


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    return [found for value in node for found in _references(value)] if isinstance(node, list) else []
