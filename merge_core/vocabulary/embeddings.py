"""Which tensors of a checkpoint have a row for each token, read off names and shapes: there is no table of models."""

import re
from collections.abc import Mapping
from math import prod

from merge_core.layer_config import INNER
from merge_core.layers import layer_of
from merge_core.stored import StoredTensor

_INPUT = re.compile(r"(^|\.)(embed_tokens|word_embeddings|wte|tok_embeddings|embed_in|embeddings|shared)\.weight$")
_TOKENWISE = re.compile(r"emb|wte|shared|head|output|vocab|predictions|decoder|generator|logits")
_OTHERWISE = re.compile(r"pos|wpe|type|norm|ln_|dense|transform|score|classif|visi|patch|proj_")

SIZE = "vocab_size"


def embedding_rows(tensors: Mapping[str, StoredTensor], config: Mapping[str, object]) -> int | None:
    """How many tokens a model has embeddings for: by its input embeddings, else by its config."""
    found = [stored.spec.shape for name, stored in tensors.items() if _INPUT.search(name)]
    sizes = [shape[0] for shape in found if len(shape) == 2]
    stated = [holder[SIZE] for holder in holders(config) if isinstance(holder.get(SIZE), int)]
    return sizes[0] if sizes else next((size for size in stated if isinstance(size, int)), None)


def is_tokenwise(stored: StoredTensor, name: str, rows: int) -> bool:
    """True for an embedding, a head or its bias: `rows` long, and called like one of them."""
    shape = stored.spec.shape
    if not shape or shape[0] != rows or not prod(shape) or not stored.spec.dtype.mergeable:
        return False
    return is_called_tokenwise(name)


def is_called_tokenwise(name: str) -> bool:
    """True for names that embeddings and heads have, and no layer's or position's tensor."""
    is_outside = layer_of(name) is None and _TOKENWISE.search(name) and not _OTHERWISE.search(name)
    return bool(is_outside or _INPUT.search(name))


def holders(config: Mapping[str, object]) -> list[dict[str, object]]:
    """The config, and those of language models inside it."""
    inner = [config.get(key) for key in INNER]
    return [dict(config), *(dict(held) for held in inner if isinstance(held, dict))]
