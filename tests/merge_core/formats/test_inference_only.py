"""Adapters that act while a model runs: recognised, kept, and refused in recipes with the reason."""

import json
import warnings
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import save_file

from merge_core.errors import UnsupportedError
from merge_core.formats import inspect
from merge_core.sources import folder_source
from tests.merge_core.building import mix, planned, write_model
from tests.merge_core.making import llama

CONFIGS = {
    "prompts": (peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "vectors before the input"),
    "prompts of an encoder": (
        peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, encoder_hidden_size=8),
        "vectors before the input",
    ),
    "prefixes": (peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "keys and values before"),
    "gated prompts": (
        peft.AdaptionPromptConfig(task_type="CAUSAL_LM", adapter_len=2, adapter_layers=1),
        "keys and values before",
    ),
}


def refused(root: Path, reason: str) -> None:
    files = folder_source(str(root / "adapter")).files
    found = inspect(files)
    assert (found.kind, found.format, found.summary) == ("files", "inference_only", {})
    assert reason in str(found.reason)
    write_model(root / "base", {"w": torch.ones(2, 2)})
    with pytest.raises(UnsupportedError, match=f"source 'adapter': .*cannot be baked into weights: .*{reason}"):
        planned(root, mix("adapter", base="base", method="linear"))


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_peft_writes_of_such_an_adapter_is_refused_with_the_reason(kind: str, tmp_path: Path) -> None:
    config, reason = CONFIGS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.get_peft_model(llama(), config).save_pretrained(tmp_path / "adapter")
    refused(tmp_path, reason)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("layers.0.q_proj.lora_route.weight", "a router weighs"),
        ("base_model.internal.xlora_classifier.inner.0.weight", "a router weighs"),
        ("model.layers.0.adapter_down.weight", "a non-linearity"),
    ],
)
def test_names_alone_tell_of_a_router_or_a_bottleneck(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    save_file({name: torch.ones(2, 2)}, tmp_path / "adapter/some_weights.safetensors")
    refused(tmp_path, reason)


def test_an_adapter_of_adapterhub_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    config = {"config": {"non_linearity": "relu", "reduction_factor": 16}, "model_type": "bert"}
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter/pytorch_adapter.bin").write_bytes(b"not looked at")
    refused(tmp_path, "a non-linearity")


def test_a_mixture_of_loras_in_folders_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text('{"peft_type": "XLORA"}')
    save_file({"inner.0.weight": torch.ones(2)}, tmp_path / "adapter/xlora_classifier.safetensors")
    refused(tmp_path, "a router weighs")
