"""Adapters that act while a model runs and leave no trace in its weights: kept, handed out, refused in recipes.

What they add depends on the input (a router, a gate, a non-linearity), or is no weight of the base at all
(prompts, prefixes). No weight of the base with a delta on top gives the same outputs.
"""

from collections.abc import Mapping

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.artefact import Artefact
from merge_core.formats.peft_adapter import adapter_names
from merge_core.formats.peft_config import CONFIG, MOST_BYTES, peft_type
from merge_core.formats.safetensors_file import read_json
from merge_core.formats.weights_file import tensor_names
from merge_core.sources import FileTree

NAME = "inference_only"
SPECIAL_CASE_OF = ("peft_lora", "checkpoint")

PROMPT = "it puts trained vectors before the input, and changes no weight"
PREFIX = "it puts trained keys and values before those of each layer, and changes no weight"
ROUTER = "a router weighs its experts anew for each token, so there is no one delta"
BOTTLENECK = "it puts layers with a non-linearity between those of the model, which no weight can stand for"

KINDS: Mapping[str, str] = {
    "PROMPT_TUNING": PROMPT,
    "MULTITASK_PROMPT_TUNING": PROMPT,
    "P_TUNING": PROMPT,
    "CPT": PROMPT,
    "PREFIX_TUNING": PREFIX,
    "CARTRIDGE": PREFIX,
    "ADAPTION_PROMPT": PREFIX,
    "XLORA": ROUTER,
    "POLY": ROUTER,
    "MOELORA": ROUTER,
    "BOTTLENECK": BOTTLENECK,
}
"""PEFT's names of kinds, and of its forks."""

MARKS: Mapping[str, str] = {
    ".lora_route.weight": ROUTER,
    ".lora_router.weight": ROUTER,
    ".lora_gate.weight": ROUTER,
    "xlora_classifier.": ROUTER,
    "prompt_encoder.": PROMPT,
    ".adapter_down.": BOTTLENECK,
    ".adapter_up.": BOTTLENECK,
}
"""Parts of names that only such an adapter has."""

FILES: Mapping[str, str] = {
    "xlora_classifier.safetensors": ROUTER,
    "pytorch_adapter.bin": BOTTLENECK,
    "adapter.safetensors": BOTTLENECK,
    "prefix_tuning.safetensors": PREFIX,
}


def recognises(files: FileTree) -> bool:
    return _reason(files) is not None


def read(files: FileTree) -> Artefact:
    """Raises UnsupportedError in any case, with the reason."""
    reason = _reason(files)
    assert reason is not None, "only what is recognised is read"
    where, why = reason
    expected = "a model that is run with it; its files are kept as they are"
    raise UnsupportedError(f"this adapter cannot be baked into weights: {why}", where=where, expected=expected)


def _reason(files: FileTree) -> tuple[str, str] | None:
    """(what says so, why it is not baked in); None for anything else."""
    kind = peft_type(files)
    if kind is not None and kind in KINDS:
        return f"{CONFIG}: peft_type {kind}", KINDS[kind]
    if CONFIG in files and _is_expert_mixture(files):
        return f"{CONFIG}: lora_nums", ROUTER
    name = next((name for name in FILES if name in files), None)
    if name is not None and (CONFIG in files or name != "adapter.safetensors"):
        return name, FILES[name]
    names = adapter_names(files) or tensor_names(files)
    mark = next((mark for mark in MARKS if any(mark in name for name in names)), None)
    return None if mark is None else (f"tensors named …{mark}…", MARKS[mark])


def _is_expert_mixture(files: FileTree) -> bool:
    """LoRAMoE's config counts its experts."""
    try:
        count = read_json(files[CONFIG], CONFIG, MOST_BYTES).get("lora_nums")
    except FileError:
        return False
    return isinstance(count, int) and count > 1
