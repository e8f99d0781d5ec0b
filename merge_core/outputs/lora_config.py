"""adapter_config.json of an adapter that is written here: everything at scale 1, every module by its full name."""

import json
import re
from collections.abc import Collection, Mapping

from merge_core.formats.peft_lora_config import NOTHING
from merge_core.outputs.lora_modules import Held
from merge_core.recipe import Recipe
from merge_core.tied_head import has_head

CONFIG = "adapter_config.json"


def adapter_config(held: Held, recipe: Recipe, base_config: Mapping[str, object]) -> bytes:
    """The config under which PEFT makes W = base + B · A of each pair, and loads each copy in its place."""
    ranks = {module: factors.rank for module, factors in held.factors.items()}
    most = max(ranks.values(), default=1)
    pattern = _pattern(ranks)
    name, _, revision = (recipe.base_name or "").partition("@")
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if has_head(base_config) else None,
        "base_model_name_or_path": name,
        "revision": revision or None,
        "inference_mode": True,
        "r": most,
        "lora_alpha": most,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "lora_bias": False,
        "bias": "all" if held.has_biases else "none",
        "fan_in_fan_out": any(factors.is_conv1d for factors in held.factors.values()),
        "init_lora_weights": True,
        "target_modules": _targets(ranks, held.modules),
        "modules_to_save": list(held.copied) or None,
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def _pattern(ranks: Mapping[str, int]) -> dict[str, int]:
    """The rank of each module where they are not all the same.

    PEFT takes the first key that the end of a module's name matches, a dot standing for any character: so longer
    names come first, and among equals those with fewer dots.
    """
    if len(set(ranks.values())) <= 1:
        return {}
    return {key: ranks[key] for key in sorted(ranks, key=lambda key: (-len(key), key.count("."), key))}


def _targets(chosen: Collection[str], modules: Collection[str]) -> list[str] | str:
    """The modules by name; as an expression where a name is the end of another module's too."""
    if not chosen:
        return NOTHING
    ends = {end for module in modules if module not in chosen for end in _ends(module)}
    if ends.isdisjoint(chosen):
        return sorted(chosen)
    return "|".join(re.escape(module) for module in sorted(chosen))


def _ends(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[start:]) for start in range(1, len(parts))]
