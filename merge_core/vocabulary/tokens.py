"""The tokens of one source by number, read from its tokenizer's files; nothing of a tokenizer is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.safetensors_file import read_json
from merge_core.sources import Source

FAST = "tokenizer.json"
CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"
WORDS = "vocab.txt"
PAIRS = "vocab.json"
COMPILED = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
MOST_BYTES = 200_000_000

LARGEST = 1 << 22
"""No vocabulary has so many tokens; a table of rows is made for each number up to the largest."""

PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
"""How a token is added that nothing else is said of."""

Entry = Mapping[str, Any]
"""A token that was added to a tokenizer, as `tokenizer.json` has it: its text, number, and how it is matched."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Every token with its number, and of those the ones that were added beside the model of words."""

    numbers: Mapping[str, int]
    added: Mapping[str, Entry]

    def below(self, rows: int) -> "Tokens":
        """Without the tokens that have no row among so many embeddings."""
        numbers = {token: number for token, number in self.numbers.items() if number < rows}
        return Tokens(numbers, {token: entry for token, entry in self.added.items() if token in numbers})

    def in_order(self) -> list[str]:
        """The tokens by number."""
        return sorted(self.numbers, key=lambda token: (self.numbers[token], token))


def read_tokens(source: Source) -> Tokens | None:
    """The source's tokens; None for one without a tokenizer.

    Raises FileError for files that make no sense, UnsupportedError for a tokenizer that is only compiled.
    """
    try:
        return _read(source)
    except FileError as error:
        raise error.within(f"source '{source.name}'") from error


def _read(source: Source) -> Tokens | None:
    try:
        content = fast_tokenizer(source) if FAST in source.files else None
        words = _slow_words(source) if content is None else words_of(content)
        if words is None:
            return None
        added = _added(source, content or {})
        numbers = words | {token: int(entry["id"]) for token, entry in added.items()}
        if min(numbers.values(), default=0) < 0 or max(numbers.values(), default=0) > LARGEST:
            raise ValueError("a number out of range")
        "".join(numbers).encode()  # raises for what is no text, and for half a surrogate pair
        return Tokens(numbers, added)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        found, expected = type(error).__name__, f"tokens with numbers from 0 to {LARGEST}"
        raise FileError("not a vocabulary", where="tokenizer", found=found, expected=expected) from None


def fast_tokenizer(source: Source) -> dict[str, Any]:
    """The content of `tokenizer.json`. Raises UnsupportedError for a source without one."""
    if FAST not in source.files:
        message = "tokens are added to a tokenizer.json and to nothing else"
        hint = "it; `save_pretrained` of transformers' fast tokenizers writes it"
        raise UnsupportedError(message, where=f"source '{source.name}'", found="none", expected=hint)
    return dict(read_json(source.files[FAST], FAST, most_bytes=MOST_BYTES))


def _slow_words(source: Source) -> dict[str, int] | None:
    """The words of a tokenizer that has no `tokenizer.json`."""
    if PAIRS in source.files:
        return _numbers(read_json(source.files[PAIRS], PAIRS, most_bytes=MOST_BYTES))
    if WORDS in source.files:
        # splitlines would also split at characters that are words themselves.
        lines = source.files[WORDS].read_text(encoding="utf-8").removesuffix("\n").split("\n")
        return {line: number for number, line in enumerate(lines)}
    compiled = next((name for name in COMPILED if name in source.files), None)
    if compiled is not None:
        message = "the tokens of a compiled tokenizer are not read"
        raise UnsupportedError(message, where=f"source '{source.name}'", found=compiled, expected=FAST)
    return None


def words_of(content: Mapping[str, Any]) -> dict[str, int]:
    """The model's own words in a `tokenizer.json`, without the tokens that were added."""
    words = content["model"].get("vocab")
    if isinstance(words, list):
        return {str(word): number for number, (word, _) in enumerate(words)}
    return _numbers(words or {})


def _numbers(words: Mapping[str, Any]) -> dict[str, int]:
    if not all(isinstance(number, int) for number in words.values()):
        raise TypeError("a number that is none")
    return dict(words)


def _added(source: Source, content: Mapping[str, Any]) -> dict[str, Entry]:
    """What was added, from wherever it is written; `tokenizer.json` has the last word."""
    found: dict[str, Entry] = {}
    if ADDED in source.files:
        found |= {token: {**PLAIN, "id": number} for token, number in _numbers(_object(source, ADDED)).items()}
    if CONFIG in source.files:
        decoder = _object(source, CONFIG).get("added_tokens_decoder") or {}
        found |= {entry["content"]: {**PLAIN, **entry, "id": int(number)} for number, entry in decoder.items()}
    found |= {entry["content"]: {**PLAIN, **entry} for entry in content.get("added_tokens") or []}
    return dict(sorted(found.items(), key=lambda pair: pair[1]["id"]))


def _object(source: Source, name: str) -> dict[str, Any]:
    return dict(read_json(source.files[name], name))
