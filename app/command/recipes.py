"""A recipe file on disk, with sources that are paths."""

from collections.abc import Iterable, Iterator
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
        return marked(folder_source(name, _folder_of(name, path.parent)))

    wish = read_recipe(path)
    plan = make_plan(wish.recipe, resolve, memory_bytes, PROCESS_BYTES)
    return replace(plan, warnings=(*wish.notes, *plan.warnings))


def input_paths(sources: Iterable[str], folder: Path) -> Iterator[Path]:
    """Where the sources of a recipe in `folder` lie, and each of their files."""
    for name in sources:
        relative_to = _folder_of(name, folder)
        yield relative_to / Path(name).expanduser()
        yield from folder_source(name, relative_to).files.values()


def _folder_of(name: str, recipe_folder: Path) -> Path:
    try:
        return Path() if Path(name).expanduser().exists() else recipe_folder
    except (OSError, RuntimeError):  # no name for a file: `folder_source` says why
        return recipe_folder


def memory_option(text: str | None) -> int | None:
    """What `--memory` says, in bytes. Raises InputError."""
    return None if text is None else parse_size(text, "--memory")
