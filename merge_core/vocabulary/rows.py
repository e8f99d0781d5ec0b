"""Which row of which model each row of a result's embeddings is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merge_core.deltas.gathered import FILLED, PADDING, Fills, Numbers, RowTable
from merge_core.errors import RecipeError
from merge_core.recipe_vocabulary import TokenEmbedding, TokenRule, Vocabulary
from merge_core.vocabulary.tokenizer import Known

NONE = -1

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Numbering:
    """The rows of a result: its tokens by number, and how many rows there are with the padding."""

    numbers: Mapping[str, int]
    rows: int

    @classmethod
    def of(cls, numbers: Mapping[str, int], multiple: int) -> "Numbering":
        used = 1 + max(numbers.values(), default=-1)
        return cls(numbers, -(-used // multiple) * multiple)

    def places(self, model: Known) -> Numbers:
        """For each row of the result the model's row for that token; NONE where it has none, or its row is missing."""
        places = np.full(self.rows, NONE, dtype=np.int64)
        for token, number in self.numbers.items():
            row = model.tokens.numbers.get(token, NONE)
            places[number] = row if row < model.rows else NONE
        return places

    def padding(self) -> Mask:
        """True for the rows of no token."""
        is_padding = np.ones(self.rows, dtype=np.bool_)
        is_padding[list(self.numbers.values())] = False
        return is_padding


@dataclass(frozen=True, slots=True)
class Tables:
    """The row tables of models that are merged with each other. Donors are numbered as `names` lists them."""

    names: tuple[str, ...]
    by_model: Mapping[str, RowTable]


def make_tables(
    wish: Vocabulary, numbering: Numbering, models: Sequence[str], base: str | None, known: Mapping[str, Known]
) -> Tables:
    """The tables of `models`, which are `known` by name; of those a name that is there twice counts twice.

    Raises RecipeError for a rule whose source does not have the token.
    """
    filling = _Filling(numbering, tuple(known), {name: numbering.places(model) for name, model in known.items()})
    forced = np.zeros(numbering.rows, dtype=np.bool_)
    lacking = np.logical_or.reduce([filling.places[name] == NONE for name in models]) & ~numbering.padding()
    ruled: dict[int, list[tuple[int, int]]] = {}
    for position, rule in enumerate(wish.tokens):
        number = numbering.numbers[rule.token]
        if rule.source is not None and (rule.force or lacking[number]):
            ruled[number] = filling.by_rule(rule, known, f"tokenizer.tokens[{position}].source")
            forced[number] = rule.force
    fills = filling.fills(np.flatnonzero(lacking | forced), ruled, models, base if base in models else None)
    return Tables(
        filling.names,
        {name: RowTable(_own(filling.places[name], forced, numbering.padding()), fills) for name in models},
    )


def _own(places: Numbers, forced: Mask, padding: Mask) -> Numbers:
    return np.where(padding, PADDING, np.where(forced | (places == NONE), FILLED, places))


@dataclass(frozen=True, slots=True)
class _Filling:
    """Where the rows come from that a model lacks."""

    numbering: Numbering
    names: tuple[str, ...]
    places: Mapping[str, Numbers]

    def by_rule(self, rule: TokenRule, known: Mapping[str, Known], where: str) -> list[tuple[int, int]]:
        """The one row that a rule names, or none for zeros."""
        source = rule.source
        if isinstance(source, str):
            token, model, row = rule.token, source, int(self.places[source][self.numbering.numbers[rule.token]])
        elif isinstance(source, TokenEmbedding):
            token, model = source.token or f"number {source.token_id}", source.model
            numbers = known[model].tokens.numbers
            row = numbers.get(source.token, NONE) if source.token is not None else source.token_id or 0
        else:
            return []
        if not 0 <= row < known[model].rows:
            found, expected = f"none for {token[:80]!r} in '{model}'", f"one of its {known[model].rows} rows"
            raise RecipeError("there is no such embedding", where=where, found=found, expected=expected)
        return [(self.names.index(model), row)]

    def fills(
        self, rows: Numbers, ruled: Mapping[int, list[tuple[int, int]]], models: Sequence[str], base: str | None
    ) -> Fills:
        """A rule's row, else the base's, else those of all models that have the token."""
        counts = np.zeros(self.numbering.rows + 1, dtype=np.int64)
        entries: list[tuple[int, int]] = []
        for number in rows.tolist():
            found = ruled[number] if number in ruled else self._usual(number, models, base)
            entries += found
            counts[number + 1] = len(found)
        pairs = np.array(entries, dtype=np.int64).reshape(-1, 2)
        return Fills(np.cumsum(counts), pairs[:, 0].copy(), pairs[:, 1].copy())

    def _usual(self, number: int, models: Sequence[str], base: str | None) -> list[tuple[int, int]]:
        chosen = [base] if base is not None and self.places[base][number] != NONE else models
        pairs = [(self.names.index(name), int(self.places[name][number])) for name in chosen]
        return [pair for pair in pairs if pair[1] != NONE]
