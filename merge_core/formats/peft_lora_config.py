"""adapter_config.json of a LoRA: rank, alpha and what else changes the meaning of the weights.

A field that we do not know, with a value that switches something on, is refused by name: reading on would
give wrong weights without a word.
"""

import re
from math import sqrt
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.safetensors_file import read_json

CONFIG = "adapter_config.json"

HARMLESS = frozenset(
    """
    alpha_pattern auto_mapping base_model_name_or_path bias corda_config ensure_weight_tying eva_config exclude_modules
    fan_in_fan_out inference_mode init_lora_weights layers_pattern layers_to_transform loftq_config lora_alpha lora_bias
    lora_dropout lora_ga_config megatron_config megatron_core modules_to_save peft_type peft_version qalora_group_size r
    rank_pattern revision runtime_config target_modules task_type use_rslora
    """.split()  # noqa: SIM905 - a list of thirty quoted names is harder to read
)
"""Fields that either have no say in the merged weight, or are read below."""

CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that subtract from the base, so that the adapter is a delta of a base nobody published."""


class LoraConfig(BaseModel):
    """The fields that decide the delta; formulas as in PEFT's `LoraLayer.update_layer`."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    r: int = Field(ge=1, le=65536)
    lora_alpha: float
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    base_model_name_or_path: str | None = None

    def rank(self, module: str) -> int:
        return int(_by_pattern(self.rank_pattern or {}, module, self.r))

    def scale(self, module: str) -> float:
        """α/r, or α/√r for rsLoRA (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732)."""
        alpha = _by_pattern(self.alpha_pattern or {}, module, self.lora_alpha)
        rank = self.rank(module)
        return float(alpha / (sqrt(rank) if self.use_rslora else rank))


def read_config(path: Path) -> LoraConfig:
    """Raises FileError for a malformed config, UnsupportedError for a variant whose weights mean something else."""
    content = read_json(path, CONFIG, most_bytes=1_000_000)
    _refuse_other_kinds(content)
    try:
        return LoraConfig.model_validate(content, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{CONFIG}: {'.'.join(str(part) for part in first['loc'])}"
        raise FileError(first["msg"], where=where, found=repr(first["input"])[:80]) from error


def _refuse_other_kinds(content: dict[str, Any]) -> None:
    if content.get("peft_type") != "LORA":
        raise UnsupportedError(
            "this kind of adapter is not read",
            where=f"{CONFIG}: peft_type",
            found=content.get("peft_type"),
            expected="LORA",
        )
    for field, value in content.items():
        if field not in HARMLESS and value not in (None, False, "", [], {}):
            raise UnsupportedError(
                "this field changes what the weights mean",
                where=f"{CONFIG}: {field}",
                found=repr(value)[:80],
                expected="unset",
            )
    initial = content.get("init_lora_weights")
    if isinstance(initial, str) and initial.lower().startswith(CHANGED_BASE):
        expected = "the form PEFT converts it to: save_pretrained(path_initial_model_for_weight_conversion=…)"
        message = "the adapter is a delta of a changed base that the file does not hold"
        raise UnsupportedError(message, where=f"{CONFIG}: init_lora_weights", found=repr(initial), expected=expected)


def _by_pattern(patterns: dict[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that names `module` or a suffix of it, as PEFT's `get_pattern_key` does."""
    return next((value for pattern, value in patterns.items() if _matches(pattern, module)), default)


def _matches(pattern: str, module: str) -> bool:
    if re.fullmatch(r"[\w.\-]+", pattern):
        return module == pattern or module.endswith("." + pattern)
    if len(pattern) > 200 or re.search(r"[*+}]\)?[*+{]|\)[*+{]", pattern):
        message = "the pattern could take for ever to match"
        raise UnsupportedError(message, where=f"{CONFIG}: rank_pattern or alpha_pattern", found=repr(pattern[:80]))
    try:
        return re.fullmatch(rf"(.*\.)?({pattern})", module) is not None
    except re.error as error:
        raise FileError(
            f"not a regular expression: {error}", where=f"{CONFIG}: rank_pattern or alpha_pattern", found=repr(pattern)
        ) from error
