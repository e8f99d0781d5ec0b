"""The tokenizer of a result: one source's, with the tokens of others added to it.

As in mergekit, a word that only another model knows becomes an added token: it is matched as a whole, before
the tokenizer's own rules are asked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.safetensors_file import read_json
from merge_core.recipe_vocabulary import UNION, Vocabulary
from merge_core.sources import Source
from merge_core.tokenizers import FILES
from merge_core.vocabulary.tokens import ADDED, CONFIG, FAST, PLAIN, Entry, Tokens, fast_tokenizer, words_of


@dataclass(frozen=True, slots=True)
class Known:
    """A source, its tokens, and how many rows its embeddings have: tokens beyond have no meaning."""

    source: Source
    tokens: Tokens
    rows: int


@dataclass(frozen=True, slots=True)
class Result:
    """The tokenizer of the result: its tokens, and its files beside the weights."""

    tokens: Tokens
    files: Mapping[str, bytes]


def merged_tokenizer(wish: Vocabulary, donor: Known, models: Sequence[Known], *, strip: bool) -> Result:
    """The donor's tokenizer, for `union` with the tokens of `models`, and with those of the wish's own rules.

    With `strip`, tokens of the donor that no embedding speaks of are taken out.
    """
    grown = _Growing(donor.tokens.below(donor.rows) if strip else donor.tokens)
    if wish.source == UNION:
        grown.unite([model.tokens.below(model.rows) for model in models])
    for rule in wish.tokens:
        grown.add_word(rule.token)
    after = Tokens(grown.numbers, grown.added)
    is_same = after.numbers == donor.tokens.numbers and after.added == donor.tokens.added
    files = {name: path.read_bytes() for name, path in donor.source.files.items() if name in FILES}
    return Result(after, files if is_same else files | _rewritten(donor, after))


class _Growing:
    """A tokenizer's tokens while others are added behind them."""

    def __init__(self, tokens: Tokens) -> None:
        self.numbers, self.added = dict(tokens.numbers), dict(tokens.added)
        self._next = 1 + max(self.numbers.values(), default=-1)

    def unite(self, models: Sequence[Tokens]) -> None:
        """First what the models have for words, then what was added to them; of two accounts the first counts."""
        added: dict[str, Entry] = {}
        for model in models:
            added |= {token: entry for token, entry in model.added.items() if token not in added}
        for model in models:
            for token in model.in_order():
                if token not in added:
                    self.add_word(token)
        for token, entry in added.items():
            self._add(token, entry)

    def add_word(self, token: str) -> None:
        if token not in self.numbers:
            self._add(token, PLAIN)

    def _add(self, token: str, entry: Entry) -> None:
        """One more added token; one that is a word already keeps its number."""
        if token in self.added:
            return
        if token not in self.numbers:
            self.numbers[token] = self._next
            self._next += 1
        self.added[token] = {**entry, "id": self.numbers[token], "content": token}


def _rewritten(donor: Known, tokens: Tokens) -> dict[str, bytes]:
    """The files that say which tokens there are."""
    content = fast_tokenizer(donor.source)
    gone = donor.tokens.numbers.keys() - tokens.numbers.keys()
    if gone:
        _take_out(content, gone, donor.source.name)
    ordered = sorted(tokens.added.items(), key=lambda pair: pair[1]["id"])
    content["added_tokens"] = [_spelt(entry) for _, entry in ordered]
    files = {FAST: as_json(content, FAST)}
    config = dict(read_json(donor.source.files[CONFIG], CONFIG)) if CONFIG in donor.source.files else {}
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] = {str(entry["id"]): _spelt(entry, "content") for _, entry in ordered}
        files[CONFIG] = as_json(config, CONFIG)
    if ADDED in donor.source.files:
        files[ADDED] = as_json({token: entry["id"] for token, entry in ordered}, ADDED)
    return files


def _spelt(entry: Entry, first: str = "id") -> dict[str, Any]:
    keys = ("id", "content", *PLAIN)
    return {key: entry[key] for key in keys[keys.index(first) :]}


def _take_out(content: dict[str, Any], gone: set[str], name: str) -> None:
    model = content["model"]
    if model.get("type", "BPE") != "BPE" and gone & words_of(content).keys():
        message = "tokens without embeddings are taken out of BPE tokenizers only"
        found = f"{model.get('type')}, and {len(gone)} such tokens"
        raise UnsupportedError(message, where=f"source '{name}': {FAST}", found=found, expected="BPE")
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = {word: number for word, number in model["vocab"].items() if word not in gone}
        model["merges"] = [pair for pair in model.get("merges") or [] if not _words(pair) & gone]


def _words(pair: Any) -> set[str]:
    """The two words that a rule of BPE joins, and what comes of them."""
    parts = pair.split(" ") if isinstance(pair, str) else pair
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        found = type(pair).__name__
        raise FileError("a rule of BPE joins two words", where=f"{FAST}: merges", found=found, expected="two texts")
    return {*parts, "".join(parts)}


def as_json(content: Mapping[str, Any], name: str, indent: int | None = None) -> bytes:
    """The file's bytes; an indent takes Python four seconds for a vocabulary of usual size.

    Raises FileError for what is nested deeper than anything sensible, and for half a surrogate pair.
    """
    try:
        return (json.dumps(content, ensure_ascii=False, indent=indent) + "\n").encode()
    except (RecursionError, UnicodeEncodeError) as error:
        raise FileError("the file cannot be written anew", where=name, found=type(error).__name__) from error
