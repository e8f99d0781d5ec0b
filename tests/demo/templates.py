"""Plain sentences from the sentence templates of the home-assistant-intents package.

Grammar: `(a|b)` one of, `(a;b)` all in any order, `[a]` perhaps, `<rule>` a named template, `{list:slot}` a value.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r"[()\[\]|;]|<\w+>|\{[^}]*\}|[^()\[\]|;<{]+")
_CLOSING = {"(": ")", "[": "]"}


@dataclass(frozen=True, slots=True)
class Language:
    """What templates of one language may refer to: named rules, and lists of values."""

    rules: Mapping[str, str]
    lists: Mapping[str, Mapping[str, Any]]


def expand(template: str, language: Language, rng: random.Random) -> str:
    """One random sentence of the template, lower case, single spaces."""
    sentence = _Writer(template, language, rng).write()
    return " ".join(sentence.split()).lower()


def lists_used(template: str, language: Language) -> frozenset[str]:
    """Names of every list the template can draw a value from, through its rules too."""
    found = set(re.findall(r"\{(\w+)", template))
    for rule in re.findall(r"<(\w+)>", template):
        found |= lists_used(language.rules[rule], language)
    return frozenset(found)


class _Writer:
    def __init__(self, template: str, language: Language, rng: random.Random) -> None:
        self.tokens = _TOKEN.findall(template)
        self.language = language
        self.rng = rng

    def write(self, closing: str = "") -> str:
        """Read up to `closing`, give one of the alternatives (each of them drawn, to keep the reader simple)."""
        parts, separator = [""], ""
        while self.tokens and (token := self.tokens.pop(0)) != closing:
            if token in "|;":
                separator = token
                parts.append("")
            else:
                parts[-1] += self._one(token)
        if separator == ";":
            return " ".join(self.rng.sample(parts, len(parts)))
        return self.rng.choice(parts)

    def _one(self, token: str) -> str:
        if token in _CLOSING:
            inner = self.write(_CLOSING[token])
            return inner if token == "(" or self.rng.random() < 0.5 else ""
        if token.startswith("<"):
            return expand_raw(self.language.rules[token[1:-1]], self.language, self.rng)
        if token.startswith("{"):
            return self._value(token[1:-1].partition(":")[0])
        return token

    def _value(self, name: str) -> str:
        values = self.language.lists[name]
        if "range" in values:
            return str(self.rng.randint(max(1, values["range"]["from"]), values["range"]["to"]))
        choice = self.rng.choice(_texts(values["values"]))
        return expand_raw(choice, self.language, self.rng)


def expand_raw(template: str, language: Language, rng: random.Random) -> str:
    """One random sentence with the template's own spacing, as parts of a larger one need it."""
    return _Writer(template, language, rng).write()


def _texts(values: Sequence[str | Mapping[str, str]]) -> list[str]:
    return [value if isinstance(value, str) else value["in"] for value in values]
