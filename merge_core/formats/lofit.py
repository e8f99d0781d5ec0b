"""LoFiT: `….self_attn.attn_A.H` and `….attn_v.H` for chosen heads H, beside or without the model's weights.

A head's output o becomes (1 + A) ⊙ o + v, so W_o' = W_o diag(1 + A) and b_o' = b_o + W_o v, with A and v those of
all heads end to end, and zeros for heads without any. A model without `o_proj.bias` gets one.
Yin et al., "LoFiT", 2024, https://arxiv.org/abs/2406.01563
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from kernels.storage import narrow, widen
from merge_core.alignment import align
from merge_core.deltas import Delta, Dense, Replacement, Rows, Scale
from merge_core.deltas.low_rank import widened
from merge_core.deltas.product import multiplied
from merge_core.deltas.unsettled import Unsettled
from merge_core.errors import FileError
from merge_core.formats import checkpoint
from merge_core.formats.artefact import Artefact
from merge_core.formats.entries import Base
from merge_core.formats.weights_file import tensor_names
from merge_core.formats.with_weights import artefact, check_parts, on_top
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec

NAME = "lofit"
SPECIAL_CASE_OF = "checkpoint"

PART = re.compile(r"(?P<attention>.+)\.attn_(?P<part>[Av])\.(?P<head>\d{1,4})")

Heads = dict[str, dict[int, StoredTensor]]
"""By part, A or v: head → vector."""


def recognises(files: FileTree) -> bool:
    return any(PART.fullmatch(name) for name in tensor_names(files))


def read(files: FileTree) -> Artefact:
    """Raises FileError for heads of several sizes, and for a head that the projection does not have."""
    tensors = checkpoint.read_tensors(files)
    whole: dict[str, StoredTensor] = {}
    layers: dict[str, Heads] = {}
    for name, stored in tensors.items():
        match = PART.fullmatch(name)
        if match is None:
            whole[name] = stored
        else:
            check_parts(tensors, [name], stored.file, 1)
            layers.setdefault(match["attention"], {}).setdefault(match["part"], {})[int(match["head"])] = stored
    pending: dict[str, Delta] = {
        f"{layer}.o_proj.weight": Unsettled("scale", _nbytes(layers[layer])) for layer in layers
    }
    made = artefact(NAME, {name: delta for name, delta in pending.items() if name not in whole}, whole, tensors, {})
    heads = sum(len(part) for parts in layers.values() for part in parts.values())
    made = replace(made, facts={"vectors": heads})
    return replace(made, settle=partial(_settled, made, layers, whole))


def _nbytes(parts: Heads) -> int:
    return sum(stored.spec.nbytes for heads in parts.values() for stored in heads.values())


def _settled(made: Artefact, layers: Mapping[str, Heads], whole: Mapping[str, StoredTensor], base: Base) -> Artefact:
    names = align(made.deltas, base)
    deltas, created = dict(made.deltas), made.new_tensors - {f"{layer}.o_proj.weight" for layer in layers}
    for layer, parts in layers.items():
        name = f"{layer}.o_proj.weight"
        weight = whole.get(name) or base.get(names.get(name, ""))
        if weight is None:
            continue
        scale = _vector(parts.get("A", {}), weight)
        factors = _stored(f"{layer}.attn_A", scale + np.float32(1), DType.F32, weight.file)
        change: Delta = Scale(factors, 1, weight.spec.shape)
        deltas[name] = on_top(name, weight, change) if name in whole else change
        shift = multiplied(widened(weight), _vector(parts.get("v", {}), weight)[:, None]).reshape(-1)
        bias, added = _bias(names.get(name, name), f"{layer}.o_proj.bias", shift, weight, whole, base)
        deltas[bias] = added
        created |= {bias}
    return replace(made, deltas=deltas, new_tensors=created, settle=None)


def _bias(
    weight_name: str, own: str, shift: Rows, weight: StoredTensor, whole: Mapping[str, StoredTensor], base: Base
) -> tuple[str, Delta]:
    """The bias' name and what becomes of it: the shift is added to one that is there, or is the new one."""
    added = Dense(_stored(own, shift, DType.F32, weight.file), 1.0)
    if own in whole:
        return own, on_top(own, whole[own], added)
    target = f"{weight_name.removesuffix('weight')}bias"
    if target in base:
        return target, added
    return target, Replacement(_stored(target, shift, weight.spec.dtype, weight.file))


def _vector(heads: Mapping[int, StoredTensor], weight: StoredTensor) -> Rows:
    """The heads' vectors end to end, zeros in between."""
    where = f"{weight.file}: tensor '{weight.spec.name[:200]}'"
    if not weight.spec.dtype.mergeable or len(weight.spec.shape) != 2:
        raise FileError("not a projection", where=where, found=str(weight.spec), expected="a matrix of floats")
    columns = weight.spec.shape[1]
    vector = np.zeros(columns, dtype=np.float32)
    for head, stored in heads.items():
        size = stored.spec.size
        if size == 0 or columns % size or (head + 1) * size > columns:
            found, expected = f"head {head} of {size} entries", f"heads that divide {columns} columns"
            raise FileError("the head is not one of the projection's", where=where, found=found, expected=expected)
        vector[head * size : (head + 1) * size] = widen(stored.storage(), stored.spec.dtype.label)
    return vector


def _stored(name: str, values: Rows, dtype: DType, file: str) -> StoredTensor:
    data = narrow(np.ascontiguousarray(values), dtype.label)
    assert prod(values.shape) == data.size, "narrowing keeps the number of elements"
    return StoredTensor(TensorSpec(name, dtype, values.shape), data.view(np.uint8), file)
