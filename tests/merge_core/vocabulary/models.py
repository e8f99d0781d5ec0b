"""Tiny models whose rows say whose and which they are, with tokenizers written as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.merge_core.building import Tensors, write_model

EMBEDDING, HEAD, LAYER = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.weight"


def write_tokenizer(folder: Path, words: Sequence[str], added: Sequence[str] = (), **model: Any) -> None:
    """A BPE tokenizer with `words` numbered in order, and the special tokens `added` behind them."""
    entries = [
        {"id": len(words) + place, "content": token, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for place, token in enumerate(added)
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    content = {"version": "1.0", "added_tokens": entries, "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}
    content["model"] |= model
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


def embedding(tag: float, rows: int, width: int = 3) -> torch.Tensor:
    """Row r of the model `tag` is tag + r / 100 in every column."""
    return (tag + torch.arange(rows) / 100)[:, None].repeat(1, width)


def write(
    folder: Path, tag: float, words: str, added: Sequence[str] = (), rows: int | None = None, **config: Any
) -> str:
    """A model with a token for each letter of `words`; `rows` beyond the tokens are of no meaning."""
    count = rows or len(words) + len(added)
    rows_of = embedding(tag, count)
    tensors: Tensors = {EMBEDDING: rows_of, HEAD: -rows_of, LAYER: torch.full((2, 2), tag)}
    write_model(folder, tensors)
    write_tokenizer(folder, list(words), added)
    usual = {"model_type": "llama", "vocab_size": count, "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(usual | config))
    return folder.name


def tokens_of(files: Any) -> dict[str, int]:
    """Every token's number in a plan's `tokenizer.json`."""
    content = json.loads(files["tokenizer.json"])
    return dict(content["model"]["vocab"]) | {entry["content"]: entry["id"] for entry in content["added_tokens"]}
