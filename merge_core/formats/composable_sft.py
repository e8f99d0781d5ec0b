"""Composable sparse fine-tunings: `pytorch_diff.bin`, a pickle of {'diffs': {name: encoding}, 'abs': {name: tensor}}.

An encoding has the tensor's `size`, the `values`, and `index_steps`: the first flat index, then the steps to the
next ones. Flat indices are column-major: i₀ + size₀·(i₁ + size₁·(i₂ + …)). What is in `abs` replaces the base's
tensor whole. Ansell et al., "Composable Sparse Fine-Tuning", 2022, https://arxiv.org/abs/2110.07560
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from merge_core.deltas import Delta, Replacement
from merge_core.deltas.sparse_sum import SparseSum
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.entries import Indices, check_range, sparse_sum
from merge_core.formats.pickle_objects import counts
from merge_core.formats.safetensors_header import MOST_ELEMENTS
from merge_core.formats.torch_file import TorchFile, open_torch_file
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "composable_sft"
SPECIAL_CASE_OF = "checkpoint"
FILE = "pytorch_diff.bin"
PARTS = {"size", "index_steps", "values"}


def recognises(files: FileTree) -> bool:
    return FILE in files


def read(files: FileTree) -> Artefact:
    """The deltas by weight name. Raises FileError for an encoding that does not fit its size."""
    pickled = open_torch_file(files[FILE], FILE)
    diffs, whole = _parts(pickled)
    values = {name: pickled.tensor(name, _encoding(name, diffs[name])["values"]) for name in diffs}
    sparse = {name: _sparse(name, diffs[name], values[name]) for name in diffs}
    replaced = pickled.tensors(whole)
    for name in sorted(sparse.keys() & replaced.keys()):
        raise FileError("a weight is there twice", where=_where(name), found="in diffs and in abs", expected="one")
    deltas: dict[str, Delta] = sparse | {name: Replacement(stored) for name, stored in replaced.items()}
    entries = sum(delta.indices.size for delta in sparse.values())
    tensors = values | replaced
    return Artefact(NAME, "delta", deltas, tensors, frozenset(replaced), facts={"entries": entries})


def _parts(pickled: TorchFile) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    content = pickled.content
    if not isinstance(content, dict) or not isinstance(content.get("diffs"), dict):
        raise FileError("no sparse fine-tuning", where=FILE, found=type(content).__name__, expected="a dict of diffs")
    whole = content.get("abs") or {}
    if not isinstance(whole, dict) or not all(isinstance(name, str) for name in content["diffs"]):
        raise FileError("abs and diffs map names", where=FILE, found=type(whole).__name__, expected="dicts by name")
    return content["diffs"], whole


def _encoding(name: str, encoding: object) -> Mapping[str, Any]:
    if not isinstance(encoding, dict) or not encoding.keys() >= PARTS:
        found = type(encoding).__name__ if not isinstance(encoding, dict) else str(sorted(map(str, encoding)))[:80]
        raise FileError("the encoding is malformed", where=_where(name), found=found, expected=str(sorted(PARTS)))
    return encoding


def _sparse(name: str, encoding: Mapping[str, Any], values: StoredTensor) -> SparseSum:
    where = _where(name)
    shape = counts(encoding["size"], "size", where)
    if prod(length or 1 for length in shape) >= MOST_ELEMENTS:
        raise FileError("the size is too large", where=where, found=shape, expected="less than 2^60 elements")
    columns = np.cumsum(_steps(encoding["index_steps"], where))
    check_range(columns, prod(shape), where)
    return sparse_sum(row_major(columns, shape), values, shape, where)


def _steps(steps: object, where: str) -> Indices:
    """The steps as int64, none of them back: so a sum too large for 64 bits shows as a negative one."""
    malformed = FileError("index_steps are malformed", where=where, expected="a list of integers from 0 below 2^60")
    if not isinstance(steps, list) or set(map(type, steps)) - {int}:
        raise malformed
    if steps and (min(steps) < 0 or max(steps) >= MOST_ELEMENTS):
        raise malformed
    return np.array(steps, dtype=np.int64)


def row_major(columns: Indices, shape: tuple[int, ...]) -> Indices:
    """The row-major flat indices of column-major ones, each within the tensor."""
    if len(shape) < 2 or not columns.size:
        return columns
    return np.ravel_multi_index(np.unravel_index(columns, shape, order="F"), shape).astype(np.int64)


def _where(name: str) -> str:
    return f"{FILE}: weight '{name[:200]}'"
