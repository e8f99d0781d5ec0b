"""What configs say of tokens, for a model whose tokens are numbered anew."""

from collections.abc import Mapping
from typing import Any

from merge_core.formats.safetensors_file import parse_json_object
from merge_core.layer_config import INNER
from merge_core.tokenizers import FILES
from merge_core.vocabulary.alignment import Alignment
from merge_core.vocabulary.embeddings import SIZE
from merge_core.vocabulary.tokenizer import as_json

CONFIG, GENERATION = "config.json", "generation_config.json"
NUMBERS = ("_token_id", "_token_ids", "_token_index")
"""Endings of the keys that name a token by its number."""


def with_vocabulary(files: Mapping[str, bytes], alignment: Alignment, donor: str) -> dict[str, bytes]:
    """The side files of model `donor` with the result's tokenizer, number of embeddings and numbers of tokens."""
    kept = {name: content for name, content in files.items() if name not in FILES}
    translated = _translation(alignment, donor)
    for name in (CONFIG, GENERATION):
        if name in kept:
            config = parse_json_object(kept[name], name)
            _change(config, alignment.numbering.rows, translated)
            kept[name] = as_json(config, name, indent=2)
    return kept | dict(alignment.result.files)


def _translation(alignment: Alignment, donor: str) -> dict[int, int | None]:
    """Each number of a token of the donor, and the token's number in the result."""
    if donor not in alignment.known:
        return {}
    numbers = alignment.numbering.numbers
    return {number: numbers.get(token) for token, number in alignment.known[donor].tokens.numbers.items()}


def _change(config: dict[str, Any], rows: int, translated: Mapping[int, int | None]) -> None:
    if SIZE in config:
        config[SIZE] = rows
    for key, value in config.items():
        if key.endswith(NUMBERS):
            config[key] = _renumbered(value, translated)
        elif key in INNER and isinstance(value, dict):
            _change(value, rows, translated)


def _renumbered(value: Any, translated: Mapping[int, int | None]) -> Any:
    if isinstance(value, list):
        return [number for number in (_renumbered(one, translated) for one in value) if number is not None]
    return translated.get(value, value) if isinstance(value, int) else value
