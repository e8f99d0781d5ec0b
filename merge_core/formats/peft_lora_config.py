"""adapter_config.json of a LoRA: rank, alpha and what else changes the meaning of the weights.

A field that we do not know, with a value that switches something on, is refused by name: reading on would
give wrong weights without a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.module_pattern import first_matches
from merge_core.formats.safetensors_file import read_json

T = TypeVar("T")

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

INITIAL = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
"""Initialisations that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) subtract from it,
so that the adapter is a delta of a base nobody published."""

Alpha = Annotated[float, Field(ge=-(2.0**32), le=2.0**32)]
Rank = Annotated[int, Field(ge=1, le=65536)]


class LoraConfig(BaseModel):
    """The fields that decide the delta; formulas as in PEFT's `LoraLayer.update_layer`."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, strict=True)

    r: Rank
    lora_alpha: Alpha
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, Alpha] | None = None
    base_model_name_or_path: Annotated[str, Field(max_length=4096)] | None = None

    def scaling(self, modules: Sequence[str]) -> dict[str, "Scaling"]:
        """Rank and scale of each module: α/r, or α/√r for rsLoRA (Kalajdzievski 2023, arXiv 2312.03732)."""
        ranks = _by_pattern(self.rank_pattern, modules, self.r, "rank_pattern")
        alphas = _by_pattern(self.alpha_pattern, modules, self.lora_alpha, "alpha_pattern")
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
    content = read_json(path, CONFIG, most_bytes=1_000_000)
    _refuse_other_kinds(content)
    try:
        return LoraConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{CONFIG}: {'.'.join(str(part) for part in first['loc'])[:200]}"
        raise FileError(first["msg"], where=where, found=repr(first["input"])[:80]) from error


def _refuse_other_kinds(content: dict[str, Any]) -> None:
    if content.get("peft_type") != "LORA":
        raise UnsupportedError(
            "this kind of adapter is not read",
            where=f"{CONFIG}: peft_type",
            found=repr(content.get("peft_type"))[:80],
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
    _refuse_changed_base(content.get("init_lora_weights"))


def _refuse_changed_base(initial: object) -> None:
    if initial not in INITIAL:
        expected = "the form PEFT converts it to: save_pretrained(path_initial_model_for_weight_conversion=…)"
        message = "the adapter is a delta of a changed base that the file does not hold"
        found = repr(initial)[:80]
        raise UnsupportedError(message, where=f"{CONFIG}: init_lora_weights", found=found, expected=expected)


def _by_pattern(patterns: Mapping[str, T] | None, modules: Sequence[str], default: T, field: str) -> dict[str, T]:
    """Each module's value: that of the first pattern it falls under, or the default."""
    keys = first_matches(patterns or {}, modules, f"{CONFIG}: {field}")
    return {module: patterns[keys[module]] if patterns and module in keys else default for module in modules}
