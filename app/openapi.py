"""The service's description: `python -m app.openapi` prints it as YAML, a test compares openapi.yaml with it."""

import sys
from typing import Any

import yaml
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from app.api import ROUTERS
from app.api.bodies import DOCUMENTED
from app.problems import MEDIA_TYPE, catalogue
from merge_core.recipe import Recipe

TITLE = "Stockpot"
SUMMARY = "Stores fine-tuning deltas and builds composed models from them on request"
VERSION = "0.1.0"
REFERENCE = "#/components/schemas/{model}"

PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "one for each kind of error"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "the whole sentence, for a person"},
        "where": {"type": "string", "description": "a field's path, a header, a tensor or a file"},
        "found": {"description": "what was there"},
        "expected": {"description": "what would have been right; for an unknown name, the nearest known ones"},
        "errors": {"type": "array", "items": {"type": "object"}, "description": "when several fields are wrong"},
    },
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`."""
    if app.openapi_schema is None:
        document = get_openapi(title=TITLE, version=VERSION, summary=SUMMARY, description=_text(), routes=app.routes)
        _add_bodies(document)
        _add_problems(document)
        app.openapi_schema = document
    return app.openapi_schema


def text() -> str:
    """The document as openapi.yaml has it."""
    app = FastAPI(generate_unique_id_function=operation_id)
    for router in ROUTERS:
        app.include_router(router)
    return yaml.safe_dump(describe(app), sort_keys=False, allow_unicode=True, width=120)


def _text() -> str:
    rows = "\n".join(f"| `{kind['type']}` | {kind['status']} | {kind['title']} |" for kind in catalogue())
    return (
        "Every error is `application/problem+json`: its `type` says which kind, `where` names the field, tensor or "
        f"file, `found` and `expected` say why.\n\n| type | status | meaning |\n|---|---|---|\n{rows}\n"
    )


def _add_bodies(document: dict[str, Any]) -> None:
    """Schemas of the bodies that routes read by themselves, and of the recipe inside some of them."""
    models = [(model, "validation") for model in (*sorted(DOCUMENTED, key=lambda body: body.__name__), Recipe)]
    _, schemas = models_json_schema(models, ref_template=REFERENCE)  # type: ignore[arg-type]
    for model in DOCUMENTED:
        if "recipe" in model.model_fields:  # a plain object there, so that Recipe.parse finds the errors
            schemas["$defs"][model.__name__]["properties"]["recipe"] = {"$ref": REFERENCE.format(model="Recipe")}
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])


def _add_problems(document: dict[str, Any]) -> None:
    """Every operation may answer with a problem; FastAPI's own shape of validation errors is never sent."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    content = {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(model="Problem")}}}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["4XX"] = {"description": "The request is at fault", "content": content}
            operation["responses"]["5XX"] = {"description": "The service is at fault", "content": content}


def operation_id(route: APIRoute) -> str:
    """A route's name in generated clients: `compositions_events`."""
    return "_".join((*map(str, route.tags), route.name))


if __name__ == "__main__":
    sys.stdout.write(text())
