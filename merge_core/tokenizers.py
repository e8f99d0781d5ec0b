"""Whose tokenizer goes along with a result, and whether it speaks of the same tokens as the weights."""

from collections.abc import Iterable, Mapping
from typing import Any

from merge_core.errors import FileError, NotFoundError, RecipeError, UnsupportedError
from merge_core.formats.safetensors_file import read_json
from merge_core.sources import Source

FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""What a tokenizer consists of, in one model or another."""
VOCABULARIES = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
FAST = "tokenizer.json"


def with_tokenizer(donor: Source, tokenizer: Source, others: Iterable[Source]) -> Source:
    """The donor with the tokenizer of another source.

    Raises NotFoundError where that has none, RecipeError where one of the `others`, whose weights go into the result,
    numbers its tokens in another way: its embeddings would be merged with those of other tokens.
    """
    own = {name: path for name, path in tokenizer.files.items() if name in FILES}
    if not own:
        expected = f"{FAST} or another of a tokenizer's files"
        raise NotFoundError("no tokenizer", where=f"source '{tokenizer.name}'", found="none", expected=expected)
    for other in others:
        _check_same(tokenizer, other)
    rest = {name: path for name, path in donor.files.items() if name not in FILES}
    return Source(donor.name, rest | own, donor.hashes)


def _check_same(tokenizer: Source, other: Source) -> None:
    if not any(name in other.files for name in (FAST, *VOCABULARIES)):
        return
    if FAST in tokenizer.files and FAST in other.files:
        ours, theirs = vocabulary(tokenizer), vocabulary(other)
        token = next((token for token in {**ours, **theirs} if ours.get(token) != theirs.get(token)), None)
        if token is not None:
            pair = f"{theirs.get(token)} in '{other.name}', {ours.get(token)} in '{tokenizer.name}'"
            found = f"token {token[:80]!r} has number {pair}"
            expected = "inputs that number their tokens alike"
            raise RecipeError("the vocabularies differ", where="tokenizer", found=found, expected=expected)
        return
    shared = [name for name in VOCABULARIES if name in tokenizer.files and name in other.files]
    if not shared:
        found = f"no file of the same kind in '{tokenizer.name}' and '{other.name}'"
        raise UnsupportedError("the vocabularies cannot be compared", where="tokenizer", found=found, expected=FAST)
    for name in shared:
        if tokenizer.files[name].read_bytes() != other.files[name].read_bytes():
            found = f"another {name} in '{other.name}' than in '{tokenizer.name}'"
            raise RecipeError("the vocabularies differ", where="tokenizer", found=found, expected="equal files")


def vocabulary(source: Source) -> Mapping[str, int]:
    """Every token with its number, added ones included, from `tokenizer.json`."""
    content: dict[str, Any] = dict(read_json(source.files[FAST], FAST, most_bytes=200_000_000))
    model, added = content.get("model"), content.get("added_tokens") or []
    words = model.get("vocab") if isinstance(model, dict) else None
    try:
        if isinstance(words, list):
            found = {str(token): number for number, (token, _) in enumerate(words)}
        else:
            found = {str(token): int(number) for token, number in (words or {}).items()}
        return found | {str(entry["content"]): int(entry["id"]) for entry in added}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        where = f"source '{source.name}': {FAST}"
        raise FileError(
            "not a vocabulary", where=where, found=type(error).__name__, expected="token to number"
        ) from None
