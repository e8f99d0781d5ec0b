"""The files that go along with the weights: config, tokenizer, index, and a card that says what was made of what."""

import json
import re
from collections.abc import Mapping

from merge_core.errors import FileError
from merge_core.formats.safetensors_file import read_json
from merge_core.layer_config import set_layers
from merge_core.recipe import Recipe
from merge_core.sources import Source

CARRIED = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab", ".merges")
"""Endings of configs and tokenizers; code (`.py`) and pickles stay behind."""
LEFT = ("README.md", "adapter_config.json")
MOST_BYTES = 200_000_000


def carried_files(donor: Source, recipe: Recipe) -> dict[str, bytes]:
    """The donor's config and tokenizer files by name; `config.json` gets the output's dtype and layers.

    Raises FileError for more bytes than these ever have, or a config that is not a JSON object.
    """
    names = sorted(name for name in donor.files if name.endswith(CARRIED) and not _is_left(name))
    size = 0
    for name in names:
        size += donor.files[name].stat().st_size
        if size > MOST_BYTES:
            message, found = "too large for config and tokenizer files", f"{size} bytes up to this one"
            raise FileError(message, where=name, found=found, expected=f"at most {MOST_BYTES}")
    return {name: _content(donor, name, recipe) for name in names}


def _is_left(name: str) -> bool:
    """Files that speak of other weights; and folders that are named like a file that is written here."""
    written = (".safetensors", "README.md", "config.json", ".index.json")
    folder, slash, _ = name.partition("/")
    return name in LEFT or name.endswith(".index.json") or bool(slash and folder.endswith(written))


def _content(donor: Source, name: str, recipe: Recipe) -> bytes:
    origins = recipe.restacked()
    if name != "config.json" or (recipe.dtype == "same" and origins is None):
        return donor.files[name].read_bytes()
    config = read_json(donor.files[name], name)
    if recipe.dtype != "same":
        _set_dtype(config, recipe.dtype)
    if origins is not None:
        set_layers(config, origins)
    try:
        return (json.dumps(config, indent=2) + "\n").encode()
    except RecursionError as error:
        raise FileError("the config is nested too deep", where=name, found="too many levels") from error


def _set_dtype(config: dict[str, object], dtype: str, levels: int = 3) -> None:
    """Put `dtype` in place of the config's own, and of those of the configs inside it (`text_config`)."""
    for key, value in config.items():
        if key in ("dtype", "torch_dtype"):
            config[key] = dtype
        elif levels > 0 and key.endswith("_config") and key != "quantization_config" and isinstance(value, dict):
            _set_dtype(value, dtype, levels - 1)


def card(recipe: Recipe, notes: tuple[str, ...]) -> bytes:
    """README.md of a composition: base, method, ingredients, and the recipe to make it again."""
    lines = ["---", *_front_matter(recipe), "---", "", "# Composition", "", *_made_of(recipe), ""]
    if notes:
        lines += ["## Notes", "", *[f"- {_escaped(note)}" for note in notes], ""]
    lines += ["## Recipe", "", "```json", _fenced(recipe), "```", ""]
    return "\n".join(lines).encode()


def _fenced(recipe: Recipe) -> str:
    """The recipe as JSON in plain ASCII without a backtick, so that nothing in it can end the fence around it."""
    return json.dumps(recipe.model_dump(mode="json"), indent=2).replace("`", "\\u0060")


def _front_matter(recipe: Recipe) -> list[str]:
    base = [] if recipe.base_name is None else [f"base_model: {_quoted(recipe.base_name.split('@')[0])}"]
    return [*base, "library_name: transformers", "tags:", "- merge", "- stockpot", f"- {recipe.method.name}"]


def _quoted(name: str) -> str:
    """A YAML string; characters that do not print are not allowed in one."""
    return json.dumps(_one_line(name), ensure_ascii=False)


def _made_of(recipe: Recipe) -> list[str]:
    rows = [f"| base | {_code(recipe.base_name) if recipe.base_name else 'a recipe'} | |"] if recipe.base else []
    for ingredient, weight in zip(recipe.ingredients, recipe.weights(), strict=True):
        source = "a nested recipe" if not isinstance(ingredient.source, str) else _code(ingredient.source)
        rows.append(f"| ingredient | {source} | {weight:g} |")
    return [
        f"Made by Stockpot with `{recipe.method.name}`, scale {recipe.scale:g}.",
        "",
        "| | source | weight |",
        "|---|---|---|",
        *rows,
    ]


def _code(name: str) -> str:
    """A name as code in a table's cell; what would end either stands as a dot. The recipe below has it exactly."""
    return "`" + _one_line(name).translate(dict.fromkeys(map(ord, "`|\\"), "·")) + "`"


def _escaped(text: str) -> str:
    """Plain text in Markdown: no link, picture, tag or emphasis comes of it."""
    return re.sub(r"([\\`*\[\]<>|!#~&])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    """Printable characters and single spaces only."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def all_side_files(recipe: Recipe, donor: Source, index: bytes | None, notes: tuple[str, ...]) -> Mapping[str, bytes]:
    """Everything beside the weights, by name."""
    files = carried_files(donor, recipe)
    if index is not None:
        files["model.safetensors.index.json"] = index
    files["README.md"] = card(recipe, notes)
    return files
