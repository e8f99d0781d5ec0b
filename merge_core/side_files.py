"""The files that go along with the weights: config, tokenizer, index, and a card that says what was made of what."""

import json
from collections.abc import Mapping

from merge_core.errors import FileError
from merge_core.formats.safetensors_file import read_json
from merge_core.recipe import Recipe
from merge_core.sources import Source

CARRIED = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab", ".merges")
"""Endings of configs and tokenizers; code (`.py`) and pickles stay behind."""
LEFT = ("README.md", "adapter_config.json")
MOST_BYTES = 200_000_000


def carried_files(donor: Source, dtype: str) -> dict[str, bytes]:
    """The donor's config and tokenizer files by name; `config.json` gets the output's dtype.

    Raises FileError for a file too large to be one of these, or a config that is not a JSON object.
    """
    names = [name for name in donor.files if name.endswith(CARRIED) and not _is_left(name)]
    return {name: _content(donor, name, dtype) for name in sorted(names)}


def _is_left(name: str) -> bool:
    return name in LEFT or name.endswith((".safetensors.index.json", ".bin.index.json"))


def _content(donor: Source, name: str, dtype: str) -> bytes:
    size = donor.files[name].stat().st_size
    if size > MOST_BYTES:
        raise FileError(
            "too large for a config or tokenizer file",
            where=name,
            found=f"{size} bytes",
            expected=f"at most {MOST_BYTES}",
        )
    if name != "config.json" or dtype == "same":
        return donor.files[name].read_bytes()
    config = read_json(donor.files[name], name)
    config.update({key: dtype for key in ("dtype", "torch_dtype") if key in config})
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def card(recipe: Recipe, notes: tuple[str, ...]) -> bytes:
    """README.md of a composition: base, method, ingredients, and the recipe to make it again."""
    lines = ["---", *_front_matter(recipe), "---", "", "# Composition", "", *_made_of(recipe), ""]
    if notes:
        lines += ["## Notes", "", *[f"- {_plain(note)}" for note in notes], ""]
    lines += [
        "## Recipe",
        "",
        "```json",
        json.dumps(recipe.model_dump(mode="json"), indent=2, ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join(lines).encode()


def _front_matter(recipe: Recipe) -> list[str]:
    base = [] if recipe.base is None else [f"base_model: {json.dumps(recipe.base.split('@')[0])}"]
    return [*base, "library_name: transformers", "tags:", "- merge", "- stockpot", f"- {recipe.method.name}"]


def _made_of(recipe: Recipe) -> list[str]:
    rows = [f"| base | {_code(recipe.base)} | |"] if recipe.base else []
    for ingredient, weight in zip(recipe.ingredients, recipe.weights(), strict=True):
        source = "a nested recipe" if isinstance(ingredient.source, Recipe) else _code(ingredient.source)
        rows.append(f"| ingredient | {source} | {weight:g} |")
    return [
        f"Made by Stockpot with `{recipe.method.name}`, scale {recipe.scale:g}.",
        "",
        "| | source | weight |",
        "|---|---|---|",
        *rows,
    ]


def _code(name: str) -> str:
    return "`" + _plain(name).replace("`", "'").replace("|", "\\|") + "`"


def _plain(text: str) -> str:
    """One line, so that a hostile name cannot break out of its place in the card."""
    return " ".join(text.split()).replace("<", "&lt;")


def all_side_files(recipe: Recipe, donor: Source, index: bytes | None, notes: tuple[str, ...]) -> Mapping[str, bytes]:
    """Everything beside the weights, by name."""
    files = carried_files(donor, recipe.dtype)
    if index is not None:
        files["model.safetensors.index.json"] = index
    files["README.md"] = card(recipe, notes)
    return files
