"""Tiny models and adapters as the libraries that people use write them."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

Model = torch.nn.Module

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = SMALL | {"intermediate_size": 24, "max_position_embeddings": 12, "type_vocab_size": 2}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12}


def bert() -> Model:
    return transformers.BertModel(transformers.BertConfig(**BERT))


def bert_classifier() -> Model:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**BERT, num_labels=3))


def llama() -> Model:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, intermediate_size=24))


def gpt2() -> Model:
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2))


class Convolutions(torch.nn.Module):
    """One convolution of each dimension, an ordinary one and a pointwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Conv1d(4, 6, 3)
        self.two = torch.nn.Conv2d(6, 8, (3, 2))
        self.point = torch.nn.Conv2d(8, 4, 1, bias=False)
        self.three = torch.nn.Conv3d(4, 2, 2)
        self.square = torch.nn.Conv2d(4, 6, 2)


class Groups(torch.nn.Module):
    """Convolutions in groups, whose inputs are not all in their weights' shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.two = torch.nn.Conv2d(6, 8, 3, groups=2)
        self.point = torch.nn.Conv2d(8, 4, 1, groups=4)


def save_base(model: Model, folder: Path) -> Path:
    """The model as its library saves it; a plain module as its state."""
    if isinstance(model, transformers.PreTrainedModel):
        model.save_pretrained(folder)
    else:
        folder.mkdir(parents=True)
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors"
        )
        (folder / "config.json").write_text("{}")
    return folder


def save_adapter(make: Callable[[], Model], root: Path, seed: int = 0, **config: Any) -> dict[str, torch.Tensor]:
    """A LoRA as `save_peft` writes it."""
    return save_peft(make, root, peft.LoraConfig(**config), seed)


def save_peft(make: Callable[[], Model], root: Path, config: peft.PeftConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """Write `root`/base and a trained-looking `root`/adapter; what PEFT's own merge makes of the two comes back.

    Names of the result are those of the model that was adapted.
    """
    torch.manual_seed(seed)
    base = make()
    save_base(base, root / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(base, config)
        disturb(adapted)
        adapted.save_pretrained(root / "adapter")
        return {name: tensor.clone() for name, tensor in adapted.merge_and_unload().state_dict().items()}


def disturb(adapted: Model) -> None:
    """Random values for all that would be trained, so that no part of it is zero."""
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.1)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(dict(change(load_file(path))), path)
