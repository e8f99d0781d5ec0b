"""The models that are merged: Llama-shaped, made once, written tensor by tensor in bounded memory."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.measure import BenchmarkError

Floats = NDArray[np.float32]

VERSION = 1
"""Raised when the same shape would get other values, so that no old file is taken for a new one."""

FINETUNES = 4
BYTES_EACH = 2
CHUNK = 1 << 22
POOL = 1 << 22
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama by its sizes."""

    name: str
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor and its shape, in the order of the file."""
        shapes = {
            "lm_head.weight": (self.vocabulary, self.hidden),
            "model.embed_tokens.weight": (self.vocabulary, self.hidden),
            "model.norm.weight": (self.hidden,),
        }
        for layer in range(self.layers):
            shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in self._of_a_layer().items()}
        return dict(sorted(shapes.items()))

    def _of_a_layer(self) -> dict[str, tuple[int, ...]]:
        hidden, inner, kv = self.hidden, self.intermediate, self.hidden // self.heads * self.kv_heads
        return {
            "self_attn.q_proj.weight": (hidden, hidden),
            "self_attn.k_proj.weight": (kv, hidden),
            "self_attn.v_proj.weight": (kv, hidden),
            "self_attn.o_proj.weight": (hidden, hidden),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
        }

    @property
    def parameters(self) -> int:
        return sum(prod(shape) for shape in self.tensors().values())

    @property
    def file_bytes(self) -> int:
        return self.parameters * BYTES_EACH

    def config(self) -> dict[str, object]:
        """A LlamaConfig that transformers and mergekit accept."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 2048,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "torch_dtype": "bfloat16",
        }


TINY = Shape("tiny", hidden=64, layers=2, intermediate=128, heads=4, kv_heads=2, vocabulary=256)
QUICK = Shape("0.1B", hidden=768, layers=10, intermediate=2048, heads=12, kv_heads=4, vocabulary=32000)
FULL = Shape("1.1B", hidden=2048, layers=22, intermediate=5632, heads=32, kv_heads=4, vocabulary=32000)


def make_models(shape: Shape, folder: Path, say: Callable[[str], None] = lambda line: None) -> list[Path]:
    """The folders of the base and its fine-tunes; those already there are kept.

    Raises BenchmarkError where the disk lacks room for them and for one output of the same size.
    """
    folders = [folder / f"{shape.name}-v{VERSION}" / f"m{model}" for model in range(FINETUNES + 1)]
    missing = [model for model, path in enumerate(folders) if not path.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    _require_room(folder, (len(missing) + 1) * shape.file_bytes)
    for model in missing:
        say(f"making model {model} of {shape.name} parameters in {folders[model]}")
        _make_model(shape, model, folders[model])
    return folders


def _require_room(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 1.1 * nbytes:
        raise BenchmarkError(f"{folder} has {free / 1e9:.1f} GB free; expected {1.1 * nbytes / 1e9:.1f} GB: see --data")


def _make_model(shape: Shape, model: int, folder: Path) -> None:
    """A folder that has its name once it is complete."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / CONFIG_NAME).write_text(json.dumps(shape.config(), indent=2))
    with (partial / WEIGHTS_NAME).open("wb") as file:
        _write_tensors(file, shape.tensors(), model)
    partial.rename(folder)


def _write_tensors(file: BinaryIO, shapes: dict[str, tuple[int, ...]], model: int) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + prod(shape) * BYTES_EACH
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name, shape in shapes.items():
        for chunk in weights(name, shape, model):
            file.write(chunk.view(torch.uint16).numpy().data)


def weights(name: str, shape: tuple[int, ...], model: int) -> Iterator[torch.Tensor]:
    """A tensor's bfloat16 values in chunks; model 0 is the base, and a fine-tune is it plus a change."""
    base, change = _Draws(f"{name}/base"), _Draws(f"{name}/{model}")
    spread = 0.002 * float(change.generator.lognormal(0.0, 0.5))
    for start in range(0, prod(shape), CHUNK):
        size = min(CHUNK, prod(shape) - start)
        values = torch.from_numpy(_base_values(base, size, len(shape))).bfloat16()
        if model > 0:
            values = (values.float() + torch.from_numpy(_change(change, size, spread, shape[-1], name))).bfloat16()
        yield values


def _base_values(draws: "_Draws", size: int, dimensions: int) -> Floats:
    values = draws.normal(size)
    values *= np.float32(0.02)
    return values if dimensions > 1 else 1 + values


def _change(draws: "_Draws", size: int, spread: float, row: int, name: str) -> Floats:
    """Heavy tails: a normal value times another's magnitude. Of embeddings, four rows in ten stay as they were,
    like tokens that no training text has."""
    change = draws.normal(size)
    change *= np.abs(draws.normal(size))
    change *= np.float32(spread)
    if "embed_tokens" in name or "lm_head" in name:
        rows = -(-size // row)
        change *= np.repeat(draws.generator.random(rows) < 0.6, row)[:size]
    return change


class _Draws:
    """Normal numbers at the speed of a copy: stretches of one pool, from places and with signs drawn by name."""

    def __init__(self, name: str) -> None:
        self.generator = np.random.default_rng([VERSION, crc32(name.encode())])

    def normal(self, size: int) -> Floats:
        """`size` values, float32."""
        start, sign = int(self.generator.integers(POOL)), self.generator.choice([-1, 1])
        return _pool()[start : start + size] * np.float32(sign)


@cache
def _pool() -> Floats:
    pool = np.random.default_rng(VERSION).standard_normal(POOL, dtype=np.float32)
    return np.concatenate([pool, pool])
