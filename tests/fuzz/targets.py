"""What is fuzzed: each target takes bytes, and may refuse them with an InputError and do nothing else."""

import io
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from app.hub.xet.shard import RECORD, read_shard
from app.hub.xet.xorb import CHUNK_BYTES, chunks, places
from kernels.gap_code import BLOCK, Decoder
from merge_core.alignment import align
from merge_core.deltas import fitted
from merge_core.errors import FileError, InputError
from merge_core.formats import Artefact, inspect, read
from merge_core.formats.inspection import check_file
from merge_core.packing import Packed
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec
from tests.fuzz import seeds

Bytes = np.ndarray
Run = Callable[[bytes, Path], None]

MOST_ELEMENTS = 1 << 16
MOST_OPEN_BYTES = 1 << 26


@dataclass(frozen=True)
class Target:
    """Something that takes bytes, and a folder that it may write to; `seeds` are sound inputs to begin with."""

    run: Run
    seeds: Callable[[], list[bytes]]


def _base() -> Mapping[str, StoredTensor]:
    shapes = seeds.BASE_SHAPES
    return {
        name: StoredTensor(TensorSpec(name, DType.F32, shape), np.zeros(4 * prod(shape), dtype=np.uint8), "base")
        for name, shape in shapes.items()
    }


BASE = _base()


@dataclass(frozen=True)
class Tree:
    """A repo of which one file is the fuzzer's; `wrap` makes that file's bytes of it."""

    file: str
    fixed: Mapping[str, bytes] = field(default_factory=dict)
    wrap: Callable[[bytes], bytes] = lambda data: data

    def __call__(self, data: bytes, folder: Path) -> None:
        files = {**self.fixed, self.file: self.wrap(data)}
        tree = {name: _written(folder / name.replace("/", "_"), content) for name, content in files.items()}
        with suppress(InputError):
            check_file(self.file, tree[self.file])
        with suppress(FileError):
            inspect(tree)
        with suppress(InputError):
            artefact = read(tree)
            _exercise(artefact.settle(BASE) if artefact.settle is not None else artefact)


def _written(path: Path, content: bytes) -> Path:
    """A new file each time: what is mapped of the one before stays as it was."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def _exercise(artefact: Artefact) -> None:
    """Read what planning would let through: deltas of a weight of the base, in its shape."""
    deltas = artefact.deltas
    names = align(deltas, BASE)
    for name in list(names)[:20]:
        shape = BASE[names[name]].spec.shape
        delta = fitted(deltas[name], shape)
        if delta is not None and prod(shape) <= MOST_ELEMENTS and delta.open_bytes <= MOST_OPEN_BYTES:
            base = np.zeros(prod(shape), dtype=np.float32)
            with np.errstate(all="ignore"):
                delta.open().load_weight(np.empty_like(base), 0, base)


def _decode_gaps(data: bytes, folder: Path) -> None:
    size = int.from_bytes(data[:2], "little") % BLOCK + 1
    planes = Decoder().decode(np.frombuffer(data[2:], dtype=np.uint8), size)
    if not isinstance(planes, str):
        assert not np.any(planes.positive & planes.negative), "an entry has one sign"


class _Origin:
    """What packed files are stored against: nothing."""

    def read(self, start: int, stop: int) -> Bytes:
        return np.zeros(stop - start, dtype=np.uint8)


def _unpack(data: bytes, folder: Path) -> None:
    with suppress(InputError):
        packed = Packed(_written(folder / "packed", data), lambda digest: _Origin())
        if packed.size <= 1 << 20:
            for _ in packed.pieces(0, packed.size):
                pass


def _read_xorb(data: bytes, folder: Path) -> None:
    path = _written(folder / "xorb", data)
    with suppress(FileError):
        for chunk in chunks(path, places(path)):
            assert 0 < len(chunk) <= CHUNK_BYTES


def _read_shard(data: bytes, folder: Path) -> None:
    with suppress(FileError):
        assert sum(len(file.terms) for file in read_shard(io.BytesIO(data))) <= len(data) // RECORD


def archive(data: bytes, *storages: int) -> bytes:
    """A torch archive with this pickle, and storages of so many bytes under the names that torch gives them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.writestr("x/data.pkl", data)
        members.writestr("x/byteorder", b"little")
        for key, nbytes in enumerate(storages):
            members.writestr(f"x/data/{key}", bytes(nbytes))
    return file.getvalue()


def adapter(name: str) -> Tree:
    """A PEFT adapter's weights, beside a config that is as it should be."""
    return Tree("adapter_model.safetensors", {"adapter_config.json": seeds.config(name)})


TARGETS: dict[str, Target] = {
    "safetensors": Target(Tree("model.safetensors"), seeds.safetensors),
    "shard_index": Target(Tree("model.safetensors.index.json", {"a.safetensors": seeds.shard()}), seeds.indexes),
    "pickle": Target(Tree("pytorch_model.bin", wrap=lambda data: archive(data, 24, 24, 24, 8)), seeds.pickles),
    "torch_file": Target(Tree("pytorch_model.bin"), seeds.torch_files),
    "composable_sft": Target(Tree("pytorch_diff.bin", wrap=lambda data: archive(data, 8, 32)), seeds.sft_pickles),
    "sara": Target(Tree("unet.pt"), seeds.sara),
    "spt": Target(Tree("param_req_1.pth", {"x.pth": seeds.spt_state()}), seeds.spt_places),
    "special_names": Target(
        Tree("pytorch_model.bin", {"config.json": b'{"lora_alpha": 4}', "loldu_config.json": seeds.LOLDU}),
        seeds.special,
    ),
    "spiel": Target(adapter("SFT"), seeds.spiel),
    "peft_lora": Target(adapter("LORA"), seeds.peft_lora),
    "peft_others": Target(
        Tree("adapter_model.safetensors", {"adapter_config.json": seeds.config("LOKR")}), seeds.peft_lokr
    ),
    "peft_config": Target(
        Tree("adapter_config.json", {"adapter_model.safetensors": seeds.peft_lora()[0]}), seeds.configs
    ),
    "diffusers": Target(Tree("pytorch_lora_weights.safetensors"), seeds.diffusers),
    "patch": Target(Tree("patch.safetensors"), seeds.patches),
    "ternary": Target(Tree("ternary.safetensors"), seeds.ternaries),
    "gap_code": Target(_decode_gaps, seeds.gap_codes),
    "packed": Target(_unpack, seeds.packed),
    "xorb": Target(_read_xorb, seeds.xorbs),
    "shard": Target(_read_shard, seeds.shards),
}
"""Every reader and codec by name."""
