"""Makes the cases in this folder with mergekit itself: `python make.py`, in an environment with mergekit 0.1.5.

Three Llamas with tokenizers that number shared tokens differently and have some of their own, and for each config
what mergekit made of them: its tensors, and `NAME.tokens.json`, its number for each token. mergekit numbers the
tokens of a union differently from run to run, so embeddings are compared token by token.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace

HERE = Path(__file__).parent
MODELS = HERE / "models"
SPECIAL = [AddedToken(text, special=True, normalized=False) for text in ("<unk>", "<s>", "</s>")]
CHAT = AddedToken("<|im|>", special=True, normalized=False)
CORE = ["<unk>", "<s>", "</s>", *"abcdehlowr"]


def tokenizer(words, merges, added):
    made = Tokenizer(BPE(vocab={word: number for number, word in enumerate(words)}, merges=merges, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    made.add_tokens(added)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def model(name, tokens, rows, seed, tie):
    config = transformers.LlamaConfig(
        vocab_size=rows, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=12, tie_word_embeddings=tie, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    made = transformers.LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data.normal_(std=0.1, generator=generator)
    made.save_pretrained(MODELS / name)
    tokens.save_pretrained(MODELS / name)


def write_models():
    shutil.rmtree(MODELS, ignore_errors=True)
    own = {
        "base": (tokenizer([*CORE, "he", "ll", "hell"], [("h", "e"), ("l", "l"), ("he", "ll")], SPECIAL), 16),
        "x": (tokenizer([*CORE, "he", "lo", "or"], [("h", "e"), ("l", "o"), ("o", "r")], [*SPECIAL, CHAT]), 20),
        "y": (
            tokenizer(
                ["<unk>", "<s>", "</s>", *"rwolhedcba", "or", "ab", "lo"],
                [("o", "r"), ("a", "b"), ("l", "o")],
                [*SPECIAL, CHAT, AddedToken("<pad>", special=True)],
            ),
            18,
        ),
    }
    for seed, (name, (tokens, rows)) in enumerate(own.items()):
        model(name, tokens, rows, seed, tie=False)
        model(f"{name}-tied", tokens, rows, seed, tie=True)


def models(*pairs):
    return [{"model": name, "parameters": {"weight": weight}} for name, weight in pairs]


THREE = models(("base", 1.0), ("x", 0.5), ("y", 0.25))
TUNED = models(("x", 0.6), ("y", 0.4))
TIED = models(("base-tied", 1.0), ("x-tied", 0.5), ("y-tied", 0.25))
RULES = {
    "he": {"source": "x", "force": True},
    "<|im|>": {"source": {"kind": "model_token", "model": "base", "token": "</s>"}},
    "<pad>": {"source": {"kind": "zero"}},
    "lo": {"source": {"kind": "model_token", "model": "y", "token_id": 3}, "force": True},
    "<new>": {"source": {"kind": "model_token", "model": "x", "token": "<|im|>"}},
}
LAYERS = {"layer_range": [0, 2]}
CASES = {
    "union_linear": {"merge_method": "linear", "base_model": "base", "models": THREE, "tokenizer_source": "union"},
    "union_no_base": {"merge_method": "linear", "models": THREE, "tokenizer_source": "union"},
    "union_tied": {"merge_method": "linear", "base_model": "base-tied", "models": TIED, "tokenizer_source": "union"},
    "union_ties": {
        "merge_method": "ties", "base_model": "base", "models": TUNED, "parameters": {"density": 0.5},
        "tokenizer": {"source": "union"},
    },
    "union_densities": {
        "merge_method": "ties", "base_model": "base", "tokenizer": {"source": "union"},
        "models": [
            {"model": "x", "parameters": {"weight": 0.6, "density": 0.7}},
            {"model": "y", "parameters": {"weight": 0.4, "density": 0.3}},
        ],
    },
    "union_slerp": {
        "merge_method": "slerp", "base_model": "x", "parameters": {"t": 0.3}, "tokenizer_source": "union",
        "slices": [{"sources": [{"model": "x", **LAYERS}, {"model": "y", **LAYERS}]}],
    },
    "union_model_stock": {
        "merge_method": "model_stock", "base_model": "base", "models": [{"model": "x"}, {"model": "y"}],
        "tokenizer_source": "union",
    },
    "base_task_arithmetic": {
        "merge_method": "task_arithmetic", "base_model": "base", "models": TUNED, "tokenizer_source": "base",
    },
    "path_linear": {"merge_method": "linear", "base_model": "base", "models": THREE, "tokenizer_source": "y"},
    "rules_linear": {
        "merge_method": "linear", "base_model": "base", "models": THREE,
        "tokenizer": {"source": "union", "tokens": RULES},
    },
    "rules_on_path": {
        "merge_method": "linear", "base_model": "base", "models": THREE,
        "tokenizer": {"source": "y", "tokens": RULES, "pad_to_multiple_of": 8},
    },
    "padded_task_arithmetic": {
        "merge_method": "task_arithmetic", "base_model": "base", "models": TUNED,
        "tokenizer": {"source": "union", "pad_to_multiple_of": 32},
    },
    "stacked": {
        "merge_method": "passthrough", "tokenizer_source": "union",
        "slices": [
            {"sources": [{"model": "x", "layer_range": [0, 1]}]},
            {"sources": [{"model": "y", "layer_range": [0, 2]}]},
        ],
    },
    "path_bfloat16": {
        "merge_method": "linear", "base_model": "base", "models": THREE, "tokenizer_source": "y",
        "dtype": "float32", "out_dtype": "bfloat16",
    },
}  # fmt: skip


def make(name, config):
    text = yaml.safe_dump(
        json.loads(json.dumps({"dtype": "float32", **config})), sort_keys=False, default_flow_style=None
    )
    (HERE / f"{name}.yml").write_text(text)
    with tempfile.TemporaryDirectory() as out:
        options = MergeOptions(write_model_card=False, clone_tensors=True, quiet=True)
        run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), out, options=options)
        shutil.copy(next(Path(out).glob("*.safetensors")), HERE / f"{name}.safetensors")
        tokens = transformers.AutoTokenizer.from_pretrained(out).get_vocab()
    (HERE / f"{name}.tokens.json").write_text(json.dumps(dict(sorted(tokens.items())), indent=1) + "\n")


if __name__ == "__main__":
    write_models()
    os.chdir(MODELS)
    for name, config in CASES.items():
        make(name, config)
