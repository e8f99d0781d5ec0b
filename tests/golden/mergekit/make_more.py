"""Makes the cases that need more than a config, with mergekit itself: `python make_more.py`, in its environment.

Adapters, several documents in one file (mergekit-multi), and densities that go from nothing to everything.
"""

import shutil
import tempfile
import warnings
from pathlib import Path

import peft
import torch
import transformers
import yaml
from click.testing import CliRunner
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from mergekit.scripts.multimerge import main as multimerge

HERE = Path(__file__).parent
MODELS = HERE / "models"
BASE = {"base_model": "base"}


def write_adapters():
    for seed, name in enumerate(("lora-p", "lora-q")):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_pretrained(MODELS / "base")
        config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = peft.get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(std=0.1)
        adapted.save_pretrained(MODELS / name)
        (MODELS / name / "README.md").unlink()


def models(*pairs):
    return [{"model": name, "parameters": said} for name, said in pairs]


THREE = models(("a", {"weight": 0.6}), ("b", {"weight": 0.4}), ("c", {"weight": 0.3}))
PAIR = models(("a", {}), ("b", {}))
ENDS = {"density": [0, 0, 1, 1]}


def shifted(method, parameters, *sources, base="base"):
    """Two layers of the output, made of other layers of each model."""
    entries = [{"model": name, "layer_range": layers, "parameters": said} for name, layers, said in sources]
    return {"merge_method": method, "base_model": base, "slices": [{"sources": entries}], "parameters": parameters}


LAST, FIRST = [2, 4], [0, 2]
CASES = {
    "shifted_adapter": shifted(
        "task_arithmetic", {}, ("base", FIRST, {}), ("base+lora-p", LAST, {"weight": 1}), ("a", LAST, {"weight": 0.5})
    ),
    "shifted_densities": shifted(
        "ties", {"weight": 1}, ("base", FIRST, {}), ("a", LAST, {"density": 0.5}), ("b", FIRST, {"density": 0.7})
    ),
    "filtered_density": shifted(
        "ties", {"weight": 1, "density": [{"filter": "layers.2.", "value": 0.2}, {"value": 1}]},
        ("base", FIRST, {}), ("a", LAST, {}), ("b", FIRST, {}),
    ),
    "filtered_weight": shifted(
        "linear", {"weight": [{"filter": "layers.3.mlp", "value": 2}, {"value": 1}]},
        ("a", LAST, {}), ("b", [1, 3], {}), base=None,
    ),
    "filtered_t": shifted(
        "slerp", {"t": [{"filter": "layers.0.", "value": 1}, {"value": 0.25}]}, ("base", LAST, {}), ("a", LAST, {})
    ),
    "filtered_lambda": shifted(
        "task_arithmetic", {"lambda": [{"filter": "layers.1.", "value": 2}, {"value": 0.5}], "weight": 1},
        ("base", LAST, {}), ("a", LAST, {}), ("b", [1, 3], {}),
    ),
    "base_alone": {"merge_method": "dare_ties", **BASE, "models": models(("base", {})), "parameters": {"density": 0.5}},
    "base_layers_alone": {
        "merge_method": "ties", **BASE, "parameters": {"weight": 1},
        "slices": [
            {"sources": [{"model": "base", "layer_range": FIRST}, {"model": "a", "layer_range": [1, 3]}]},
            {"sources": [{"model": "base", "layer_range": LAST}]},
            {"sources": [{"model": "base", "layer_range": FIRST}, {"model": "b", "layer_range": FIRST}]},
        ],
    },
    "multislerp_alone": {
        "merge_method": "multislerp", "models": models(("a", {"weight": 2})),
        "parameters": {"normalize_weights": False},
    },
    "della_whole_wide": {
        "merge_method": "della", **BASE, "models": THREE, "parameters": {"density": 1, "epsilon": 0.9},
    },
    "flags": {
        "merge_method": "linear", "parameters": {"normalize": "false"},
        "slices": [{"sources": [
            {"model": "a", "layer_range": ["0", "2"], "parameters": {"weight": True}},
            {"model": "b", "layer_range": [2.0, 4.0], "parameters": {"weight": 2}},
        ]}],
    },
    "flag_as_number": {
        "merge_method": "model_stock", **BASE, "models": models(("a", {}), ("b", {})), "parameters": {"filter_wise": 1},
    },
    **{
        f"{method}_ends": {"merge_method": method, **BASE, "models": THREE, "parameters": ENDS}
        for method in ("dare_linear", "dare_ties", "della", "della_linear", "ties", "breadcrumbs", "breadcrumbs_ties")
    },
    "modules_default": {
        "merge_method": "linear", "modules": {"default": {"models": THREE, "parameters": {"normalize": False}}},
    },
    "slice_base": {
        "merge_method": "task_arithmetic", "parameters": {"weight": 0.5, "lambda": 1.2},
        "slices": [
            {"base_model": "base", "sources": models(("base", {}), ("a", {"weight": 0.7}))},
            {"base_model": "c", "sources": models(("c", {}), ("b", {}))},
        ],
    },
    "adapters_ties": {
        "merge_method": "ties", **BASE,
        "models": models(("base+lora-p", {"weight": 1, "density": 0.5}), ("a+lora-q", {"weight": 0.5, "density": 1})),
    },
    "adapters_linear": {
        "merge_method": "linear", "models": models(("base+lora-p", {"weight": 1}), ("a+lora-q", {"weight": 0.5})),
    },
    "adapter_as_base": {
        "merge_method": "task_arithmetic", "base_model": "base+lora-p",
        "models": models(("a", {"weight": 0.5}), ("base+lora-q", {"weight": 0.7})),
    },
    "t_by_slice": {
        "merge_method": "slerp", "base_model": "a",
        "slices": [
            {"sources": PAIR, "parameters": {"t": [0, 1]}},
            {"sources": PAIR, "parameters": {"t": [{"filter": "mlp", "value": 0.2}, {"value": 0.9}]}},
        ],
    },
    "linear_float16": {"merge_method": "linear", "models": THREE, "dtype": "float32", "out_dtype": "float16"},
    "int8_mask": {"merge_method": "sce", **BASE, "models": PAIR, "parameters": {"int8_mask": True}},
    "rescale_off": {
        "merge_method": "dare_ties", **BASE, "models": THREE, "parameters": {"rescale": False, "density": 1.0},
    },
}  # fmt: skip
RANGES = {"slice_base": ([0, 2], [2, 4]), "t_by_slice": ([0, 2], [2, 4])}

DOCUMENTS = {
    "documents": [
        {"name": "left", "merge_method": "linear", "models": models(("a", {"weight": 1}), ("b", {"weight": 3}))},
        {"name": "right", "merge_method": "ties", **BASE, "models": THREE, "parameters": {"density": 0.5}},
        {
            "merge_method": "slerp", "base_model": "left", "parameters": {"t": 0.3},
            "models": models(("left", {}), ("right", {})),
        },
    ],
    "documents_base": [
        {"name": "start", "merge_method": "linear", "models": models(("base", {"weight": 1}), ("c", {"weight": 1}))},
        {"merge_method": "ties", "base_model": "start", "models": THREE, "parameters": {"density": 0.7}},
    ],
    "documents_stock": [
        {"name": "start", "merge_method": "model_stock", **BASE, "models": [{"model": "b"}, {"model": "c"}]},
        {
            "merge_method": "task_arithmetic", "base_model": "start", "parameters": {"lambda": 0.5},
            "slices": [
                {"sources": [
                    {"model": "start", "layer_range": [0, 3]},
                    {"model": "a", "layer_range": [1, 4], "parameters": {"weight": 0.8}},
                ]},
            ],
        },
    ],
}  # fmt: skip


def complete(name, config):
    for part, layers in zip(config.get("slices", ()), RANGES.get(name, ()), strict=False):
        part["sources"] = [{**source, "layer_range": layers} for source in part["sources"]]
    usual = {} if "dtype" in config or "out_dtype" in config else {"dtype": "float32"}
    return {**config, **usual}


def spelt(*configs):
    return yaml.dump_all(configs, Dumper=Plain, sort_keys=False, default_flow_style=None)


class Plain(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


def make(name, config):
    text = spelt(complete(name, config))
    (HERE / f"{name}.yml").write_text(text)
    with tempfile.TemporaryDirectory() as out:
        options = MergeOptions(
            copy_tokenizer=False,
            write_model_card=False,
            clone_tensors=True,
            quiet=True,
            lora_merge_cache=f"{out}/loras",
        )
        run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), f"{out}/out", options=options)
        shutil.copy(next(Path(out, "out").glob("*.safetensors")), HERE / f"{name}.safetensors")


def make_documents(name, configs):
    text = spelt(*(complete(name, config) for config in configs))
    (HERE / f"{name}.yml").write_text(text)
    with tempfile.TemporaryDirectory() as out:
        arguments = [str(HERE / f"{name}.yml"), "--out-path", f"{out}/out", "-I", f"{out}/parts", "--no-copy-tokenizer"]
        ran = CliRunner().invoke(multimerge, [*arguments, "--no-write-model-card"])
        if ran.exception is not None:
            raise ran.exception
        shutil.copy(next(Path(out, "out").glob("*.safetensors")), HERE / f"{name}.safetensors")


if __name__ == "__main__":
    write_adapters()
    import os

    os.chdir(MODELS)
    for name, config in CASES.items():
        make(name, config)
    for name, configs in DOCUMENTS.items():
        make_documents(name, configs)
