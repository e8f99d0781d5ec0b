"""How diffusers, in its versions, spells a LoRA's tensors: the module, and which part of it a tensor is."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

DOWN, UP, BIAS, MAGNITUDE, ALPHA = "down (A)", "up (B)", "bias", "magnitude", "alpha"

ENDINGS = {
    ".lora_A.weight": DOWN,
    ".lora_B.weight": UP,
    ".lora.down.weight": DOWN,
    ".lora.up.weight": UP,
    ".lora_linear_layer.down.weight": DOWN,
    ".lora_linear_layer.up.weight": UP,
    ".lora_B.bias": BIAS,
    ".lora_magnitude_vector": MAGNITUDE,
    ".lora_magnitude_vector.weight": MAGNITUDE,
    ".lora.alpha": ALPHA,
    ".lora_linear_layer.alpha": ALPHA,
    ".alpha": ALPHA,
}

COMPONENTS = re.compile(r"(unet|transformer|transformer_2|text_encoder(_[23])?|prior|controlnet|vae)\.")
"""The model of a pipeline that a name begins with."""

_PROCESSOR = re.compile(r"(.*?)(\.processor)?\.to_([qkv]|out)_lora\.(down|up)\.weight")
_IN_TEXT_ENCODER = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
_IN_UNET = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}


@dataclass(frozen=True, slots=True)
class Part:
    """What a tensor's name says."""

    module: str
    role: str


def part_of(name: str) -> Part | None:
    """The part that a tensor is; None for a name of no known spelling."""
    old = _PROCESSOR.fullmatch(name)
    if old is not None:
        owner, _, projection, direction = old.groups()
        is_text = owner.startswith("text_encoder") or owner.endswith(".self_attn")
        module = (_IN_TEXT_ENCODER if is_text else _IN_UNET)[projection]
        return Part(f"{owner}.{module}", DOWN if direction == "down" else UP)
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    return None if ending is None else Part(name.removesuffix(ending), ENDINGS[ending])


def is_spelt_so(names: Iterable[str]) -> bool:
    """Whether the names are those of a LoRA in a spelling of diffusers: one of its factors is among them."""
    parts = (part_of(name) for name in names if not name.startswith("base_model."))
    return any(part is not None and part.role in (DOWN, UP) for part in parts)


def component(module: str) -> str:
    """The pipeline's model that the module is of, with its dot; an empty text where the name does not say."""
    found = COMPONENTS.match(module)
    return found[0] if found else ""
