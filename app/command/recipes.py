"""A recipe file on disk, with sources that are paths."""

from dataclasses import replace
from pathlib import Path

from app.command.surveys import marked
from app.memory import PROCESS_BYTES
from app.sizes import parse_size
from merge_core.documents import parse_json
from merge_core.errors import CapacityError, NotFoundError
from merge_core.mergekit import Translation, read_yaml
from merge_core.plan import Plan, make_plan
from merge_core.recipe import Recipe
from merge_core.sources import Source, folder_source

MOST_BYTES = 1 << 20


def read_recipe(path: Path) -> Translation:
    """The recipe in a YAML or JSON file, ours or mergekit's. Raises NotFoundError, MalformedError or RecipeError."""
    if not path.is_file():
        raise NotFoundError("no such recipe", where=str(path), expected="a YAML or JSON file")
    if path.stat().st_size > MOST_BYTES:
        raise CapacityError(
            "the recipe is too large",
            where=str(path),
            found=f"{path.stat().st_size} bytes",
            expected=f"at most {MOST_BYTES}",
        )
    if path.suffix == ".json":
        return Translation(Recipe.parse(parse_json(path.read_bytes())))
    return read_yaml(path.read_bytes())


def plan_file(path: Path, memory_bytes: int | None = None) -> Plan:
    """The plan of a recipe file; a source is looked for from here, then from the recipe's folder."""

    def resolve(name: str) -> Source:
        is_here = Path(name).expanduser().exists()
        return marked(folder_source(name) if is_here else folder_source(name, path.parent))

    wish = read_recipe(path)
    plan = make_plan(wish.recipe, resolve, memory_bytes, PROCESS_BYTES)
    return replace(plan, warnings=(*wish.notes, *plan.warnings))


def memory_option(text: str | None) -> int | None:
    """What `--memory` says, in bytes. Raises InputError."""
    return None if text is None else parse_size(text, "--memory")
