"""Sound inputs to begin with, as the libraries write them."""

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from kernels.gap_code import encode
from kernels.ternary import pack as pack_planes
from merge_core.execute import execute
from merge_core.packing import pack
from tests.app.hub.xet.building import Part, hash_of, shard_of, xorb_of
from tests.merge_core.building import mix, planned, write_model

BASE_SHAPES = {
    "w": (2, 3),
    "l.weight": (8, 6),
    "l.bias": (8,),
    "a.self_attn.o_proj.weight": (6, 6),
    "blocks.0.attn.qkv.weight": (6, 6),
    "blocks.0.norm1.weight": (6,),
    "blocks.0.norm1.bias": (6,),
    "m.q_proj.weight": (3, 32),
    "0": (2, 2),
}
LOLDU = b'{"lora_alpha": 1, "init_method": "lu"}'

Tensors = Mapping[str, torch.Tensor]


def torch_saved(content: Any, zipped: bool = True, protocol: int = 2) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return file.getvalue()


def pickle_of(content: Any, protocol: int = 2) -> bytes:
    """Only the pickle within what torch writes."""
    with zipfile.ZipFile(io.BytesIO(torch_saved(content, protocol=protocol))) as members:
        name = next(name for name in members.namelist() if name.endswith("data.pkl"))
        return members.read(name)


def state() -> dict[str, torch.Tensor]:
    return {"w": torch.ones(2, 3), "t": torch.ones(3, 2).t(), "n": torch.arange(3), "h": torch.ones(4).bfloat16()}


def safetensors() -> list[bytes]:
    return [save(state() | {"t": torch.ones(1)}), save({}), save({"w": torch.zeros(2, 3)}, {"format": "pt"})]


def shard() -> bytes:
    return save({"w": torch.ones(2, 3)})


def indexes() -> list[bytes]:
    return [b'{"metadata": {"total_size": 24}, "weight_map": {"w": "a.safetensors"}}']


def pickles() -> list[bytes]:
    nested = {"a": [np.int64(3), np.float32(0.5)], "size": torch.Size([2, 3]), "t": (None, True, "x", b"y", 2**40)}
    return [pickle_of(content, protocol) for content in (state(), nested) for protocol in (2, 4)]


def torch_files() -> list[bytes]:
    return [torch_saved(state(), zipped, protocol) for zipped, protocol in ((True, 2), (False, 2), (False, 4))]


def sft_pickles() -> list[bytes]:
    encoding = {"size": torch.Size([2, 3]), "index_steps": [np.int64(1), 2], "values": torch.ones(2)}
    return [
        pickle_of({"diffs": {"w": encoding}, "abs": {"l.bias": torch.ones(8)}}),
        pickle_of({"diffs": {}, "abs": {}}),
    ]


def sara() -> list[bytes]:
    return [torch_saved({"threshold": 0.1, 0: torch.ones(4)}), torch_saved({"threshold": 0.1, 0: torch.ones(0)}, False)]


def spt_state() -> bytes:
    return torch_saved({"l.sparse_weight": torch.ones(2), "l.sparse_bias": torch.ones(1)})


def spt_places() -> list[bytes]:
    shapes = {"l.weight": torch.Size([8, 6]), "l.bias": torch.Size([8])}
    places = torch.tensor([3, 7, 49])
    return [
        torch_saved({"unstructured_name_shapes": shapes, "unstructured_indexes": places}, zipped)
        for zipped in (True, False)
    ]


def special() -> list[bytes]:
    """State dicts that readers tell by their names."""
    layer = "l_lora"
    states: list[Tensors] = [
        {"blocks.0.ssf_scale_1": torch.ones(6), "blocks.0.ssf_shift_1": torch.ones(6)}
        | {"blocks.0.attn.ssf_scale_1": torch.ones(6), "blocks.0.attn.ssf_shift_1": torch.ones(6)},
        {"a.self_attn.attn_A.0": torch.ones(3), "a.self_attn.attn_v.1": torch.ones(3)},
        {f"{layer}_a.weight": torch.ones(2, 6), f"{layer}_b.weight": torch.ones(8, 2)}
        | {f"{layer}_s.weight_orig": torch.ones(8, 6), f"{layer}_s.weight_mask": torch.ones(8, 6)},
        {"l.parametrizations.weight.0.vector_z": torch.ones(3)},
        {"m.q_proj.mask": torch.ones(1, 3, dtype=torch.int32), "m.q_proj.coeff": torch.tensor(0.5)},
        {"w.unified": torch.ones(2, 3), "w.mask": torch.ones(2, 3, dtype=torch.bool), "rescaler": torch.tensor(0.5)},
    ]
    return [torch_saved(dict(content)) for content in states]


def config(kind: str) -> bytes:
    common = {"peft_type": kind, "r": 2, "target_modules": ["l"]}
    return json.dumps(
        common | ({"lora_alpha": 4} if kind == "LORA" else {"alpha": 4} if kind == "LOKR" else {})
    ).encode()


def configs() -> list[bytes]:
    patterns = {"rank_pattern": {"l": 2}, "alpha_pattern": {".*l": 3}, "use_rslora": True}
    return [config(kind) for kind in ("LORA", "LOHA", "LOKR", "IA3", "VERA", "OFT", "BOFT", "SFT")] + [
        json.dumps(json.loads(config("LORA")) | patterns).encode()
    ]


def spiel() -> list[bytes]:
    module = "base_model.model.l.sft_delta"
    indices = torch.tensor([5, 0], dtype=torch.int32)
    return [save({f"{module}.values": torch.ones(2), f"{module}.indices": indices})]


def peft_lora() -> list[bytes]:
    module = "base_model.model.l"
    return [save({f"{module}.lora_A.weight": torch.ones(2, 6), f"{module}.lora_B.weight": torch.ones(8, 2)})]


def peft_lokr() -> list[bytes]:
    module = "base_model.model.l"
    return [save({f"{module}.lokr_w1": torch.ones(2, 2), f"{module}.lokr_w2": torch.ones(4, 3)})]


def diffusers() -> list[bytes]:
    return [
        save({"unet.l.lora.down.weight": torch.ones(2, 6), "unet.l.lora.up.weight": torch.ones(8, 2)}),
        save({"lora_unet_l.lora_down.weight": torch.ones(2, 6), "lora_unet_l.lora_up.weight": torch.ones(8, 2)}),
    ]


def _built(method: str, output: dict[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        root, generator = Path(name), torch.Generator().manual_seed(0)
        write_model(root / "base", {"l.weight": torch.zeros(8, 6), "w": torch.zeros(2, 3)})
        tuned = {"l.weight": torch.randn(8, 6, generator=generator), "w": torch.randn(2, 3, generator=generator)}
        write_model(root / "tuned", tuned)
        execute(planned(root, mix("tuned", base="base", method=method, output=output)), root / "out", durable=False)
        (file,) = (root / "out").glob("*.safetensors")
        return file.read_bytes()


def patches() -> list[bytes]:
    return [_built("passthrough", {"kind": kind}) for kind in ("patch", "dense")]


def ternaries() -> list[bytes]:
    return [_built("task_arithmetic", {"kind": "ternary", "form": form, "density": 0.5}) for form in ("hot", "cold")]


def gap_codes() -> list[bytes]:
    random = np.random.default_rng(0)
    found = []
    for size, density in ((100, 0.1), (5000, 0.5), (65536, 0.01)):
        values = np.where(random.random(size) < density, random.standard_normal(size), 0.0).astype(np.float32)
        found.append((size - 1).to_bytes(2, "little") + encode(pack_planes(values), size).tobytes())
    return found


def packed() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        path, out = Path(name) / "x.safetensors", Path(name) / "x.packed"
        path.write_bytes(save({"w": torch.randn(50, 60), "h": torch.ones(9).bfloat16(), "n": torch.arange(5)}))
        pack(path, out, sha256(path.read_bytes()).hexdigest())
        return [out.read_bytes()]


def xorbs() -> list[bytes]:
    content = [b"one", bytes(range(256)) * 4, b"three" * 100]
    return [xorb_of(content, schemes) for schemes in ((0, 1, 2), (2, 1), (0,))] + [
        xorb_of(content, (1,)) + b"XETBLOB" + bytes(30)
    ]


def shards() -> list[bytes]:
    content = [b"one", b"two"]
    parts: list[Part] = [(hash_of(content), content, first) for first in (0, 1)]
    return [shard_of(parts, parts, sha256s=given, proofs=given) for given in (True, False)] + [shard_of()]
