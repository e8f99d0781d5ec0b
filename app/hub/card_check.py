"""What is wrong with a card's front matter, found before the card is sent."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from merge_core.documents import parse_yaml
from merge_core.errors import MalformedError
from merge_core.formats.model_card import MOST_BYTES

FRONT = re.compile(r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
MODEL_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
EMPTY = "empty or missing yaml metadata in the card"

Rule = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


RULES: Mapping[str, tuple[Rule, str]] = {
    **dict.fromkeys(("library_name", "pipeline_tag", "license_name", "model_name"), (_is_text, "text")),
    **dict.fromkeys(
        ("base_model", "tags", "language", "datasets", "metrics", "license"), (_is_texts, "text, or a list of texts")
    ),
    "model-index": (_is_list_of_mappings, "a list of mappings"),
}


def findings(content: str) -> tuple[list[str], list[str]]:
    """The errors, for which no client sends the card, and the warnings."""
    match = FRONT.match(content)
    if match is None or not match[1].strip():
        return [], [EMPTY]
    if len(match[1]) > MOST_BYTES:
        return [f"the metadata is longer than {MOST_BYTES} bytes"], []
    try:
        front = parse_yaml(match[1].encode(errors="surrogatepass"))
    except MalformedError as error:
        return [error.message], []
    if not isinstance(front, dict):
        return ["the metadata is not a mapping"], []
    given = {name: value for name, value in front.items() if value is not None and name in RULES}
    wrong = [f'"{name}" must be {RULES[name][1]}' for name, value in given.items() if not RULES[name][0](value)]
    return wrong, [] if wrong else _doubts(front)


def _doubts(front: Mapping[str, Any]) -> list[str]:
    base = front.get("base_model") or []
    named = base if isinstance(base, list) else [base]
    strange = [name for name in named if not MODEL_NAME.fullmatch(name)]
    return [f'"base_model" with value "{name[:200]}" is not the name of a model' for name in strange]
