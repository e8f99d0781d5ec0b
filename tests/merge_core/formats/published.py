"""Artefacts as their libraries write them, with what the library itself makes of base and adapter.

A format's newcomer adds its artefacts to PUBLISHED and is held to the conformance suite.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch

from tests.merge_core.making import Convolutions, Model, bert, llama, save_peft

Expected = dict[str, torch.Tensor]
Write = Callable[[Path], Expected]
"""Writes `root`/base and `root`/adapter, and returns the merged weights by the base's names."""


def by_peft(make: Callable[[], Model], kind: type[peft.PeftConfig], **settings: Any) -> Write:
    return lambda root: save_peft(make, root, kind(**settings))


QUERY = {"target_modules": ["query", "dense"]}
CONVOLUTIONS = {"target_modules": ["one", "two", "point"]}
PATTERNS = {"rank_pattern": {"0.*query": 2, "self.key": 7}, "alpha_pattern": {"^encoder.layer.1": 3}}

LOHA: dict[str, Write] = {
    "LoHa": by_peft(bert, peft.LoHaConfig, r=3, alpha=5, **QUERY),
    "LoHa by pattern": by_peft(bert, peft.LoHaConfig, r=3, alpha=5, **QUERY, **PATTERNS),
    "LoHa of convolutions": by_peft(Convolutions, peft.LoHaConfig, r=2, alpha=3, **CONVOLUTIONS),
    "LoHa of convolutions with a core": by_peft(
        Convolutions, peft.LoHaConfig, r=2, alpha=3, use_effective_conv2d=True, **CONVOLUTIONS
    ),
    "LoHa beside a whole module": by_peft(
        llama, peft.LoHaConfig, r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]
    ),
}
LOKR: dict[str, Write] = {
    "LoKr": by_peft(bert, peft.LoKrConfig, r=2, alpha=5, **QUERY),
    "LoKr of whole factors": by_peft(bert, peft.LoKrConfig, r=20, alpha=5, **QUERY),
    "LoKr of two products": by_peft(bert, peft.LoKrConfig, r=1, alpha=5, decompose_both=True, **QUERY),
    "LoKr by a factor": by_peft(bert, peft.LoKrConfig, r=1, alpha=5, decompose_factor=2, **QUERY, **PATTERNS),
    "LoKr of convolutions": by_peft(Convolutions, peft.LoKrConfig, r=1, alpha=3, **CONVOLUTIONS),
    "LoKr of convolutions, whole": by_peft(
        Convolutions, peft.LoKrConfig, r=9, alpha=3, target_modules=["two", "point"]
    ),
    # PEFT itself fails on a 1-D convolution with a core.
    "LoKr of convolutions with a core": by_peft(
        Convolutions, peft.LoKrConfig, r=1, alpha=3, use_effective_conv2d=True, target_modules=["two", "point"]
    ),
}

PUBLISHED: dict[str, tuple[str, Write]] = {
    **{kind: ("peft_loha", write) for kind, write in LOHA.items()},
    **{kind: ("peft_lokr", write) for kind, write in LOKR.items()},
}
"""What it is → (the reader that says yes, how it is written)."""
