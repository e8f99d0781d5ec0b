"""`trainable_token_indices`: the rows of an embedding that an adapter trains, and which tokens they are of."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from merge_core.deltas import Delta, RowReplacement
from merge_core.errors import FileError
from merge_core.formats.lora_factors import check_added
from merge_core.formats.peft_config import CONFIG
from merge_core.stored import StoredTensor

KEYS = (".token_adapter.trainable_tokens_delta", ".trainable_tokens_delta")

Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**40)]], Field(max_length=1_000_000)]
Indices = Tokens | dict[str, Tokens]


def trained_tokens(stored: Mapping[str, StoredTensor], indices: Indices | None, field: str) -> dict[str, Delta]:
    """Weight name → its trained rows, of embedding module → stored rows.

    Raises FileError where the config's `field` does not name as many different tokens as there are rows.
    """
    if indices and not stored:
        where, expected = f"{CONFIG}: {field}", "the rows of these tokens in the adapter"
        raise FileError("trained rows are missing", where=where, found=str(indices)[:80], expected=expected)
    return {f"{module}.weight": _rows(module, rows, indices, field) for module, rows in stored.items()}


def _rows(module: str, stored: StoredTensor, indices: Indices | None, field: str) -> RowReplacement:
    tokens = _tokens_of(module, indices)
    check_added(stored, stored.file)
    if len(stored.spec.shape) != 2 or stored.spec.shape[0] != len(tokens) or len(set(tokens)) != len(tokens):
        where = f"{stored.file}: tensor '{stored.spec.name[:200]}'"
        expected = f"{len(set(tokens))} rows, one for each of the tokens in {CONFIG}: {field}"
        raise FileError("trained rows do not fit", where=where, found=list(stored.spec.shape), expected=expected)
    order = np.argsort(np.array(tokens, dtype=np.int64), kind="stable")
    rows = np.array(tokens, dtype=np.int64)[order]
    return RowReplacement(rows, order, stored, (int(rows[-1]) + 1 if rows.size else 0, stored.spec.shape[1]))


def _tokens_of(module: str, indices: Indices | None) -> Sequence[int]:
    """The tokens of one module: a list is for the input embedding, a dict has one for each name or end of one."""
    if not isinstance(indices, dict):
        return indices or []
    return next((own for name, own in indices.items() if module == name or module.endswith(f".{name}")), [])
