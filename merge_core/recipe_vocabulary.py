"""Which tokens a result has, and where the embeddings of those come from that some model lacks."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from merge_core.recipe_errors import misfit
from merge_core.recipe_rules import Record, listed

MOST_TOKENS = 100_000
UNION, BASE = "union", "base"

SourceName = Annotated[str, Field(strict=True, min_length=1, max_length=4096)]
Content = Annotated[str, Field(strict=True, min_length=1, max_length=4096)]


class NoEmbedding(Record):
    """Zeros."""

    kind: Literal["zero"]


class TokenEmbedding(Record):
    """The embedding that `model` has for one of its tokens, named by its text or by its number."""

    kind: Literal["model_token"]
    model: SourceName
    token: Content | None = None
    token_id: Annotated[int, Field(strict=True, ge=0, lt=2**31)] | None = None

    @model_validator(mode="after")
    def _one_name(self) -> "TokenEmbedding":
        if (self.token is None) == (self.token_id is None):
            found = "neither" if self.token is None else "both"
            raise misfit("a token is named in one way", found=found, expected="token or token_id")
        return self


EMBEDDINGS: Mapping[str, type[Record]] = {"<TokenEmbedding>": TokenEmbedding, "<NoEmbedding>": NoEmbedding}
"""What a token's source can be beside a name, by the tag of its form."""


def _form(value: object) -> str:
    if isinstance(value, Record):
        return f"<{type(value).__name__}>"
    is_token = isinstance(value, dict) and value.get("kind") != "zero"
    return "<TokenEmbedding>" if is_token else "<NoEmbedding>" if isinstance(value, dict) else "<model>"


Embedding = Annotated[
    Annotated[SourceName, Tag("<model>")]
    | Annotated[TokenEmbedding, Tag("<TokenEmbedding>")]
    | Annotated[NoEmbedding, Tag("<NoEmbedding>")],
    Discriminator(_form),
]


class TokenRule(Record):
    """A token of the result, added where no tokenizer has it.

    `source` is whose embedding the models get that lack the token: a model's own for it, that of another token,
    or zeros. With `force` every model gets it, also where it has one of its own.
    """

    token: Content
    source: Embedding | None = None
    force: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _has_source(self) -> "TokenRule":
        if self.force and self.source is None:
            raise misfit("what is forced has a source", "source", found="nothing", expected="whose embedding it is")
        return self


class Vocabulary(Record):
    """The tokens of the result: those of all models (`union`), of the `base`, or of one source by name.

    Rows of embeddings and heads are put in the order of these tokens for every full model, before anything is
    merged. A token that a model lacks gets the `base`'s row, else the mean of those that have it, else zeros.
    `base` is the recipe's unless it is given; without any, the first model's tokenizer is added to.
    """

    source: SourceName = UNION
    base: SourceName | None = None
    tokens: Annotated[tuple[TokenRule, ...], *listed(0, MOST_TOKENS)] = ()
    pad_to_multiple_of: Annotated[int, Field(strict=True, ge=1, le=1 << 20)] = 1

    @model_validator(mode="after")
    def _each_once(self) -> "Vocabulary":
        seen: set[str] = set()
        for position, rule in enumerate(self.tokens):
            if rule.token in seen:
                raise misfit("a token is there twice", f"tokens[{position}].token", found=rule.token, expected="once")
            seen.add(rule.token)
        return self

    def places(self) -> Iterator[tuple[str, str]]:
        """Every source named, with the path of its field."""
        if self.source not in (UNION, BASE):
            yield "source", self.source
        if self.base is not None:
            yield "base", self.base
        for position, rule in enumerate(self.tokens):
            if isinstance(rule.source, TokenEmbedding):
                yield f"tokens[{position}].source.model", rule.source.model
            elif isinstance(rule.source, str):
                yield f"tokens[{position}].source", rule.source

    def with_sources(self, names: Mapping[str, str]) -> "Vocabulary":
        """The same with each source renamed; a name that `names` lacks stays."""
        source = self.source if self.source in (UNION, BASE) else names.get(self.source, self.source)
        base = None if self.base is None else names.get(self.base, self.base)
        tokens = tuple(rule.model_copy(update={"source": _renamed(rule.source, names)}) for rule in self.tokens)
        return self.model_copy(update={"source": source, "base": base, "tokens": tokens})


def _renamed(source: Any, names: Mapping[str, str]) -> Any:
    if isinstance(source, TokenEmbedding):
        return source.model_copy(update={"model": names.get(source.model, source.model)})
    return names.get(source, source) if isinstance(source, str) else source


def _tokenizer_form(value: object) -> str:
    return "<vocabulary>" if isinstance(value, (dict, Vocabulary)) else "<name>"


Tokenizer = Annotated[
    Annotated[SourceName, Tag("<name>")] | Annotated[Vocabulary, Tag("<vocabulary>")], Discriminator(_tokenizer_form)
]
"""Whose tokenizer goes along, where all models number their tokens alike; or which tokens the result has."""
