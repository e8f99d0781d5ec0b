"""Artefacts as their libraries write them, with what the library itself makes of base and adapter.

A format's newcomer adds its artefacts to PUBLISHED and is held to the conformance suite.
"""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import peft
import torch
from safetensors.torch import load_file

from tests.merge_core.building import write_model
from tests.merge_core.making import (
    Convolutions,
    Groups,
    Model,
    bert,
    disturb,
    edit_tensors,
    gpt2,
    llama,
    save_adapter,
    save_base,
    save_peft,
)

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

FEEDFORWARD = {"target_modules": ["query", "output.dense"], "feedforward_modules": ["output.dense"]}
GPT2 = {"target_modules": ["c_attn", "mlp.c_proj"]}

IA3: dict[str, Write] = {
    "IA3": by_peft(bert, peft.IA3Config, **FEEDFORWARD),
    "IA3 by an expression": by_peft(
        bert, peft.IA3Config, target_modules=["query", "key"], feedforward_modules=r"encoder\.layer\.[01]\..*key"
    ),
    "IA3 of outputs alone, without biases": by_peft(
        llama, peft.IA3Config, target_modules=["q_proj"], feedforward_modules=[], modules_to_save=["lm_head"]
    ),
    "IA3 of weights stored transposed": by_peft(
        gpt2, peft.IA3Config, feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True, **GPT2
    ),
    "IA3 of convolutions": by_peft(
        Convolutions, peft.IA3Config, target_modules=["two", "point", "three"], feedforward_modules=["point"]
    ),
    "IA3 of convolutions in groups": by_peft(
        Groups, peft.IA3Config, target_modules=["two", "point"], feedforward_modules=["two"]
    ),
}
VERA: dict[str, Write] = {
    "VeRA": by_peft(bert, peft.VeraConfig, r=5, target_modules=["query", "intermediate.dense", "output.dense"]),
    "VeRA of weights stored transposed": by_peft(gpt2, peft.VeraConfig, r=5, fan_in_fan_out=True, **GPT2),
}
OFT: dict[str, Write] = {
    "OFT": by_peft(bert, peft.OFTConfig, oft_block_size=4, **QUERY),
    "OFT solved exactly": by_peft(bert, peft.OFTConfig, oft_block_size=8, use_cayley_neumann=False, **QUERY),
    "OFT of two terms": by_peft(bert, peft.OFTConfig, oft_block_size=2, num_cayley_neumann_terms=2, **QUERY),
    "OFT of three terms": by_peft(bert, peft.OFTConfig, oft_block_size=2, num_cayley_neumann_terms=3, **QUERY),
    "OFT of seven terms": by_peft(bert, peft.OFTConfig, oft_block_size=2, num_cayley_neumann_terms=7, **QUERY),
    "OFT by count of blocks": by_peft(bert, peft.OFTConfig, r=2, oft_block_size=0, bias="all", **QUERY),
    "OFT of one block for all": by_peft(bert, peft.OFTConfig, oft_block_size=4, block_share=True, **QUERY),
    "OFT within bounds": by_peft(bert, peft.OFTConfig, oft_block_size=4, coft=True, eps=0.3, **QUERY),
    "OFT of convolutions": by_peft(Convolutions, peft.OFTConfig, oft_block_size=4, target_modules=["point", "square"]),
    "OFT of embeddings": by_peft(llama, peft.OFTConfig, oft_block_size=4, target_modules=["embed_tokens", "q_proj"]),
}
BOFT: dict[str, Write] = {
    "BOFT": by_peft(bert, peft.BOFTConfig, boft_block_size=4, **QUERY),
    "BOFT by count of blocks": by_peft(bert, peft.BOFTConfig, boft_block_size=0, boft_block_num=2, **QUERY),
    "BOFT of convolutions": by_peft(
        Convolutions, peft.BOFTConfig, boft_block_size=4, target_modules=["point", "square"]
    ),
}


class BlockDiagonals:
    """What PEFT's extension for GPUs does, without which it has butterflies of one factor alone."""

    @staticmethod
    def forward(blocks: torch.Tensor) -> list[torch.Tensor]:
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]


def butterflies(make: Callable[[], Model], **settings: Any) -> Write:
    def write(root: Path) -> Expected:
        with mock.patch("peft.tuners.boft.layer.get_fbd_cuda", return_value=BlockDiagonals):
            return save_peft(make, root, peft.BOFTConfig(**settings))

    return write


BOFT |= {
    "BOFT of two factors": butterflies(bert, boft_block_size=4, boft_n_butterfly_factor=2, **QUERY),
    "BOFT of three factors": butterflies(bert, boft_block_size=2, boft_n_butterfly_factor=3, **QUERY),
    "BOFT of convolutions in two factors": butterflies(
        Convolutions, boft_block_size=4, boft_n_butterfly_factor=2, target_modules=["point", "square"]
    ),
}


def converted(initial: str, **settings: Any) -> Write:
    """A LoRA of a changed base, saved as PEFT converts it into one of the base itself."""

    def write(root: Path) -> Expected:
        torch.manual_seed(0)
        base = bert()
        save_base(base, root / "base")
        config = peft.LoraConfig(r=2, lora_alpha=6, init_lora_weights=initial, target_modules=["query"], **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = peft.get_peft_model(base, config)
            adapted.peft_config["default"].init_lora_weights = True
            adapted.save_pretrained(root / "initial")
            adapted.peft_config["default"].init_lora_weights = initial
            disturb(adapted)
            adapted.save_pretrained(root / "adapter", path_initial_model_for_weight_conversion=str(root / "initial"))
        return {name: tensor.clone() for name, tensor in adapted.merge_and_unload().state_dict().items()}

    return write


LORA: dict[str, Write] = {
    "PiSSA, converted": converted("pissa"),
    "PiSSA with rsLoRA, converted": converted("pissa", use_rslora=True),
    "OLoRA, converted": converted("olora"),
}


def lora_xs(make: Callable[[], Model], key: str, **settings: Any) -> Write:
    """A LoRA with a matrix R in each module: PEFT merges (B R) A, the file has B, R and A."""

    def write(root: Path) -> Expected:
        torch.manual_seed(1)
        latent: dict[str, torch.Tensor] = {}

        def multiply(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            for name in [name for name in tensors if name.endswith("lora_B.weight")]:
                latent[name] = torch.randn(2 * [tensors[name].shape[1]])
                tensors[name] = tensors[name] @ latent[name]
            return tensors

        save_adapter(make, root, **settings)
        factors = load_file(root / "adapter/adapter_model.safetensors")
        edit_tensors(root / "adapter", multiply)
        base = type(make()).from_pretrained(root / "base")
        expected = peft.PeftModel.from_pretrained(base, root / "adapter").merge_and_unload().state_dict()
        cores = {name.replace(".lora_B.weight", key): core for name, core in latent.items()}
        edit_tensors(root / "adapter", lambda _: factors | cores)
        return {name: tensor.clone() for name, tensor in expected.items()}

    return write


XS: dict[str, Write] = {
    "LoRA-XS": lora_xs(bert, "_lora_latent_mapping.weight", r=3, lora_alpha=6, target_modules=["query", "value"]),
    "LoRA-XS of weights stored transposed": lora_xs(
        gpt2, ".default_lora_latent_mapping.weight", r=3, fan_in_fan_out=True, **GPT2
    ),
}

GOLDEN = Path(__file__).parents[2] / "golden"


def as_stored(case: str, file: str) -> Write:
    """A golden case: what a library wrote, what it was trained on, and what the library made of the two."""

    def write(root: Path) -> Expected:
        tensors = load_file(GOLDEN / f"{case}.safetensors")
        base = {name.removeprefix("in."): t for name, t in tensors.items() if name.startswith("in.")}
        write_model(root / "base", base)
        (root / "adapter").mkdir()
        shutil.copy(GOLDEN / f"{case}.adapter.safetensors", root / "adapter" / file)
        return base | {name.removeprefix("out."): t for name, t in tensors.items() if name.startswith("out.")}

    return write


LYCORIS = [path.stem for path in sorted((GOLDEN / "lycoris").glob("*.json"))]
KOHYA = {f"LyCORIS {name}": as_stored(f"lycoris/{name}", "some_lora.safetensors") for name in LYCORIS}

DIFFUSERS = {
    f"diffusers {path.stem}": as_stored(f"diffusers/{path.stem}", "pytorch_lora_weights.safetensors")
    for path in sorted((GOLDEN / "diffusers").glob("*.json"))
} | {"diffusers under another name": as_stored("diffusers/processor", "my_style.safetensors")}

PUBLISHED: dict[str, tuple[str, Write]] = {
    **{kind: ("peft_lora", write) for kind, write in LORA.items()},
    **{kind: ("peft_loha", write) for kind, write in LOHA.items()},
    **{kind: ("peft_lokr", write) for kind, write in LOKR.items()},
    **{kind: ("peft_ia3", write) for kind, write in IA3.items()},
    **{kind: ("peft_vera", write) for kind, write in VERA.items()},
    **{kind: ("peft_oft", write) for kind, write in OFT.items()},
    **{kind: ("peft_boft", write) for kind, write in BOFT.items()},
    **{kind: ("lora_xs", write) for kind, write in XS.items()},
    **{kind: ("kohya", write) for kind, write in KOHYA.items()},
    **{kind: ("diffusers_lora", write) for kind, write in DIFFUSERS.items()},
}
"""What it is → (the reader that says yes, how it is written)."""
