"""SSF: `….ssf_scale_N` and `….ssf_shift_N` after the operations of a vision transformer, as its own code saves them.

After a linear layer or a convolution W' = diag(s)·W and b' = s·b + h, after a LayerNorm w' = s·w and b' = s·b + h;
a layer without a bias gets one. Which operation a number means follows from the module that holds it.
Lian et al., "Scaling & Shifting Your Features", 2022, https://arxiv.org/abs/2210.08823
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from merge_core.alignment import align
from merge_core.deltas import Delta, Replacement, Scale
from merge_core.deltas.affine import Affine
from merge_core.errors import FileError, UnsupportedError
from merge_core.formats import checkpoint
from merge_core.formats.artefact import Artefact
from merge_core.formats.entries import Base
from merge_core.formats.weights_file import tensor_names
from merge_core.formats.with_weights import Tensors, artefact, check_parts
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "ssf"
SPECIAL_CASE_OF = "checkpoint"

PART = re.compile(r"(?:(?P<module>.+)\.)?ssf_(?P<part>scale|shift)_(?P<number>\d{1,4})")
OPERATIONS = {
    "attn": {1: "qkv", 2: "proj"},
    "mlp": {1: "fc1", 2: "fc2"},
    "patch_embed": {1: "proj", 2: "norm"},
    "": {1: "norm"},
}
"""By the module's last name and the number. Any other module with a number is a block, with two norms."""
BLOCK = {1: "norm1", 2: "norm2"}

Pair = tuple[StoredTensor, StoredTensor]


def recognises(files: FileTree) -> bool:
    return any(PART.fullmatch(name) for name in tensor_names(files))


def read(files: FileTree) -> Artefact:
    """Raises FileError for a scale without its shift, UnsupportedError for a place whose operation is not known."""
    tensors = checkpoint.read_tensors(files)
    whole = {name: stored for name, stored in tensors.items() if not PART.fullmatch(name)}
    pairs = _pairs(tensors)
    added: dict[str, Delta] = {}
    for operation, (factors, shift) in pairs.items():
        own = whole.get(f"{operation}.weight")
        shape = own.spec.shape if own is not None else (factors.spec.size, 1)
        added[f"{operation}.weight"] = Scale(factors, 0, shape)
        added[f"{operation}.bias"] = Affine(factors, shift)
    for operation, (_, shift) in pairs.items():
        if f"{operation}.weight" in whole and f"{operation}.bias" not in whole:
            added[f"{operation}.bias"] = Replacement(shift)
    made = artefact(NAME, added, whole, tensors, {"operations": len(pairs)})
    created = frozenset(name for name, delta in added.items() if isinstance(delta, Replacement))
    made = replace(made, new_tensors=made.new_tensors | created)
    return replace(made, settle=partial(_settled, made, {f"{name}.bias": pair[1] for name, pair in pairs.items()}))


def _pairs(tensors: Tensors) -> dict[str, Pair]:
    """Operation → its scale and shift."""
    found: dict[str, dict[str, StoredTensor]] = {}
    for name, stored in tensors.items():
        match = PART.fullmatch(name)
        if match is not None:
            operation = _operation(match["module"] or "", int(match["number"]), f"{stored.file}: tensor '{name[:200]}'")
            found.setdefault(operation, {})[match["part"]] = stored
    return {operation: _pair(operation, parts) for operation, parts in found.items()}


def _operation(module: str, number: int, where: str) -> str:
    last = module.rpartition(".")[2]
    known = OPERATIONS.get(last, BLOCK if last.isdigit() else {})
    if number not in known:
        expected = "the modules of a vision transformer: blocks, attn, mlp, patch_embed, the final norm"
        raise UnsupportedError(
            "the scaled operation is not known", where=where, found=f"number {number}", expected=expected
        )
    return f"{module}.{known[number]}".removeprefix(".")


def _pair(operation: str, parts: Mapping[str, StoredTensor]) -> Pair:
    file = next(iter(parts.values())).file
    check_parts(parts, ("scale", "shift"), f"{file}: '{operation[:200]}'", 1)
    if parts["scale"].spec.shape != parts["shift"].spec.shape:
        found = f"{list(parts['scale'].spec.shape)} and {list(parts['shift'].spec.shape)}"
        where = f"{file}: '{operation[:200]}'"
        raise FileError("scale and shift do not fit", where=where, found=found, expected="equal lengths")
    return parts["scale"], parts["shift"]


def _settled(made: Artefact, shifts: Tensors, base: Base) -> Artefact:
    """With a new bias where the base has the operation's weight and none: there b' = h."""
    names = align(made.deltas, base)
    deltas, created = dict(made.deltas), set(made.new_tensors)
    for bias, shift in shifts.items():
        weight = f"{bias.removesuffix('bias')}weight"
        if isinstance(deltas[bias], Affine) and weight in names and bias not in names:
            del deltas[bias]
            target = f"{names[weight].removesuffix('weight')}bias"
            deltas[target] = Replacement(shift)
            created.add(target)
    return replace(made, deltas=deltas, new_tensors=frozenset(created), settle=None)
