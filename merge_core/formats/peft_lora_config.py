"""adapter_config.json of a LoRA: rank, alpha and what else changes the meaning of the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from merge_core.errors import UnsupportedError
from merge_core.formats.peft_config import (
    CONFIG,
    MOST_BYTES,
    Alpha,
    PeftConfig,
    Rank,
    by_pattern,
    known_fields,
    validated,
)
from merge_core.formats.safetensors_file import read_json
from merge_core.formats.trained_tokens import Indices

NOTHING = "dummy-target-modules"
"""What PEFT has as `target_modules` when no module has factors, as with trained copies alone."""

HARMLESS = frozenset(
    """
    alpha_pattern corda_config ensure_weight_tying eva_config fan_in_fan_out init_lora_weights loftq_config lora_alpha
    lora_bias lora_dropout lora_ga_config megatron_config megatron_core qalora_group_size r rank_pattern runtime_config
    trainable_token_indices use_dora use_rslora
    """.split()  # noqa: SIM905 - a list of twenty quoted names is harder to read
)
"""Fields that either have no say in the merged weight, or are read below."""

INITIAL = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
"""Initialisations that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) subtract from it,
so that the adapter is a delta of a base nobody published."""


class LoraConfig(PeftConfig):
    """The fields that decide the delta; formulas as in PEFT's `LoraLayer.update_layer`."""

    r: Rank
    lora_alpha: Alpha
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, Alpha] | None = None
    trainable_token_indices: Indices | None = None
    target_modules: object = None

    @property
    def has_factors(self) -> bool:
        """False where the config says that no module has any."""
        return self.target_modules != NOTHING

    def scaling(self, modules: Sequence[str]) -> dict[str, "Scaling"]:
        """Rank and scale of each module: α/r, or α/√r for rsLoRA (Kalajdzievski 2023, arXiv 2312.03732)."""
        ranks = by_pattern(self.rank_pattern, modules, self.r, "rank_pattern")
        alphas = by_pattern(self.alpha_pattern, modules, self.lora_alpha, "alpha_pattern")
        return {module: Scaling(ranks[module], self._scale(ranks[module], alphas[module])) for module in modules}

    def _scale(self, rank: int, alpha: float) -> float:
        return alpha / (sqrt(rank) if self.use_rslora else rank)


@dataclass(frozen=True, slots=True)
class Scaling:
    """What the config says of one module: the inner dimension of its factors, and what B·A is multiplied by."""

    rank: int
    scale: float


def read_config(path: Path) -> LoraConfig:
    """Raises FileError for a malformed config, UnsupportedError for a variant whose weights mean something else."""
    return lora_config(read_json(path, CONFIG, MOST_BYTES))


def lora_config(content: Mapping[str, Any]) -> LoraConfig:
    """The same of a config that is read already."""
    content = known_fields(content, "LORA", HARMLESS)
    _refuse_changed_base(content.get("init_lora_weights"))
    return validated(content, LoraConfig)


def _refuse_changed_base(initial: object) -> None:
    if initial not in INITIAL:
        expected = "the form PEFT converts it to: save_pretrained(path_initial_model_for_weight_conversion=…)"
        message = "the adapter is a delta of a changed base that the file does not hold"
        found = repr(initial)[:80]
        raise UnsupportedError(message, where=f"{CONFIG}: init_lora_weights", found=found, expected=expected)
