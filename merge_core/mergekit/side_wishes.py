"""What a document says of tokenizer, tokens and chat template, as a recipe says it."""

from typing import Any

from merge_core.errors import RecipeError, UnsupportedError
from merge_core.mergekit.document import Document, Token, TokenFrom, Tokenizer
from merge_core.mergekit.group import Data
from merge_core.mergekit.reference import Reference


def side_wishes(document: Document, data: Data) -> Data:
    """The fields `tokenizer` and `chat_template` of the recipe `data`. Raises RecipeError where they contradict."""
    template = {} if document.chat_template is None else {"chat_template": document.chat_template}
    if document.tokenizer is not None and document.tokenizer_source is not None:
        message = "tokenizer and tokenizer_source say the same"
        raise RecipeError(message, where="tokenizer_source", found="both", expected="one of them")
    wish = document.tokenizer
    if document.tokenizer_source is not None:
        wish = Tokenizer(source=document.tokenizer_source)
    return template if wish is None else {**template, "tokenizer": _vocabulary(document, wish, data)}


def _vocabulary(document: Document, wish: Tokenizer, data: Data) -> Data:
    tokens = [_rule(token, said) for token, said in (wish.tokens or {}).items()]
    vocabulary: Data = {"source": wish.source.model, "tokens": tokens}
    if wish.pad_to_multiple_of is not None:
        vocabulary["pad_to_multiple_of"] = wish.pad_to_multiple_of
    base = document.base_model
    if base is not None and data.get("base") != base.model:
        vocabulary["base"] = base.model
    _check_slices(document)
    return vocabulary


def _rule(token: str, said: Token) -> Data:
    where = f"tokenizer.tokens.{token[:80]}"
    if said.force and said.source is None:
        raise RecipeError("what is forced has a source", where=where, found="nothing", expected="source")
    source = {} if said.source is None else {"source": _source(said.source, f"{where}.source")}
    return {"token": token, "force": said.force, **source}


def _source(source: TokenFrom | Reference, where: str) -> Any:
    if isinstance(source, Reference):
        return source.model
    if source.kind == "zero":
        return {"kind": "zero"}
    if source.model is None:
        raise RecipeError("a token is a model's", where=where, found="no model", expected="model")
    if (source.token is None) == (source.token_id is None):
        found = "neither" if source.token is None else "both"
        raise RecipeError("a token is named in one way", where=where, found=found, expected="token or token_id")
    named = {"token": source.token} if source.token is not None else {"token_id": source.token_id}
    return {"kind": "model_token", "model": source.model.model, **named}


def _check_slices(document: Document) -> None:
    """Only a merge with deltas knows a slice's own base, and gaps in embeddings are filled from it."""
    for position, part in enumerate(document.slices or ()):
        if part.base_model is not None and part.base_model != document.base_model:
            message = "a slice with a base of its own, and a tokenizer, is not supported"
            where, expected = f"slices[{position}].base_model", "the document's base_model"
            raise UnsupportedError(message, where=where, found=str(part.base_model), expected=expected)
