"""JSON and YAML from outside, as plain values: whatever could mean two things, or nothing, is refused."""

import json
import math
import re
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

import yaml

from merge_core.errors import MalformedError

DEEPEST = 64
MOST_VALUES = 1_000_000
MOST_LETTERS = 1 << 24
"""In one text, with what its aliases repeat: a hundred bytes of YAML can mean more than any memory holds."""

Place = str | tuple["Place", str | int]
"""A value's key or index in what is at another place; the outermost is the title of the document."""

Placed = tuple[object, Place]


def parse_json(raw: bytes) -> object:
    """The JSON value in `raw`; a key that is there twice, NaN, infinity and deep nesting are refused."""
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not valid JSON: {_reason(error)}", where="document") from None
    _check_values(value, most_letters=len(text))
    return value


def parse_yaml(raw: bytes) -> object:
    """The YAML value in `raw`, as plain JSON types; aliases, tags and repeated keys are refused."""
    try:
        value = yaml.load(raw.decode("utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MalformedError(f"not valid YAML: {_reason(error)}", where="document") from None
    _check_values(value)
    return value


def parse_yaml_documents(raw: bytes) -> list[object]:
    """The YAML values in `raw`, one for each document, aliases included; empty documents are left out."""
    try:
        documents = yaml.load_all(raw.decode("utf-8"), Loader=_SharingLoader)
        values = [value for value in documents if value is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MalformedError(f"not valid YAML: {_reason(error)}", where="document") from None
    _check_values(*values)
    return values


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without aliases, which can make a small file enormous, and without repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name) is not read here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        return _without_repeats(self.construct_pairs(node, deep=True))


# YAML 1.2, section 10.3.2; by YAML 1.1 the text `1e-4` is no number, as it has no dot and `1.5e3` has no sign.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


class _SharingLoader(_StrictLoader):
    """With aliases, and keys merged by `<<`: what is repeated is counted."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._merged = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        return yaml.SafeLoader.compose_node(self, parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merged = [pair for pair in node.value if pair[0].tag == "tag:yaml.org,2002:merge"]
        own = yaml.MappingNode(node.tag, [pair for pair in node.value if pair not in merged])
        result = super().construct_mapping(own, deep)
        for _, value in merged:
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                result = {**self._to_merge(part), **result}
                self._count(len(result))
        return result

    def _to_merge(self, part: yaml.Node) -> dict[Any, Any]:
        if not isinstance(part, yaml.MappingNode):
            raise yaml.YAMLError("<< merges mappings and nothing else")
        found: dict[Any, Any] = self.construct_object(part, deep=True)
        return found

    def _count(self, values: int) -> None:
        """Each merge copies what was merged before it."""
        self._merged += values
        if self._merged > MOST_VALUES:
            raise yaml.YAMLError(f"<< merges more than {MOST_VALUES} values")


def _without_repeats(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise ValueError(f"the key {key!r} is not a text")
        if key in result:
            raise ValueError(f"the key {key!r} is there twice")
        result[key] = value
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is too large for a number")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"nested deeper than {DEEPEST}"
    return str(error).replace("\n", " ")[:300]


def _check_values(*documents: object, most_letters: int = MOST_LETTERS) -> None:
    """Raises MalformedError for what the parsers let through and no field can mean."""
    titles = [f"document {n}: " for n in range(1, len(documents) + 1)] if len(documents) > 1 else [""]
    level: list[Placed] = list(zip(documents, titles, strict=True)) if documents else []
    depth = count = letters = 0
    while level:
        count += len(level)
        letters += sum(len(value) for value, _ in level if isinstance(value, str))
        if depth > DEEPEST:
            raise MalformedError(f"nested deeper than {DEEPEST}", where="document")
        if count > MOST_VALUES:
            raise MalformedError(f"more than {MOST_VALUES} values", where="document")
        if letters > most_letters:
            raise MalformedError(f"texts of more than {most_letters} letters", where="document")
        inside = chain.from_iterable(map(_inside, level))
        level, depth = list(islice(inside, MOST_VALUES + 1)), depth + 1


def _inside(placed: Placed) -> Iterable[Placed]:
    value, place = placed
    if isinstance(value, dict):
        return [*((key, place) for key in value), *((inner, (place, key)) for key, inner in value.items())]
    if isinstance(value, list):
        return [(inner, (place, index)) for index, inner in enumerate(value)]
    if isinstance(value, str):
        _check_text(value, place)
    elif not (value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))):
        raise MalformedError(
            "a value is neither text, finite number, list nor mapping", where=_named(place), found=repr(value)
        )
    return []


def _check_text(text: str, place: Place) -> None:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise MalformedError("a text holds NUL or half a surrogate pair", where=_named(place), found=ascii(text[:80]))


def _named(place: Place) -> str:
    keys: list[str] = []
    while isinstance(place, tuple):
        place, key = place
        keys.append(f"[{key}]" if isinstance(key, int) else f".{key[:80]}")
    return (place + "".join(reversed(keys)).removeprefix(".")).removesuffix(": ") or "document"
