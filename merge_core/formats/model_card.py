"""The base that a repo's README names: `base_model` in its front matter, as the Hub has it."""

from typing import Any

from merge_core.documents import parse_yaml
from merge_core.errors import MalformedError
from merge_core.sources import FileTree

CARD = "README.md"
FENCE = b"---"
MOST_BYTES = 1 << 16


def base_in_card(files: FileTree) -> str | None:
    """The one base that the card names; None where there is no card, none is named or several are."""
    if CARD not in files:
        return None
    with files[CARD].open("rb") as stream:
        named = front_matter(stream.read(MOST_BYTES)).get("base_model")
    names = named if isinstance(named, list) else [named]
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None


def front_matter(text: bytes) -> dict[str, Any]:
    """What a card says to machines; empty where that cannot be read: a card is for people."""
    if not text.startswith(FENCE):
        return {}
    try:
        front = parse_yaml(text[len(FENCE) :].split(b"\n" + FENCE, 1)[0])
    except MalformedError:
        return {}
    return front if isinstance(front, dict) else {}
