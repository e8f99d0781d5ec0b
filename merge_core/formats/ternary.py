"""Ternary files: `ternary.safetensors`, signs of a delta with one value for each tensor. docs/ternary.md has the bytes.

A file of `weights` is a delta of a base by itself. One of an `adapter` holds the adapter's own tensors, and lies
beside its adapter_config.json, which says what they mean.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from kernels.gap_code import BLOCK, MOST_BYTES
from kernels.ternary import Planes, plane_bytes, tally
from merge_core.deltas import Delta, Replacement
from merge_core.deltas.ternary import Form, Ternary
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.patch import read_shape
from merge_core.formats.peft_config import CONFIG
from merge_core.formats.safetensors_file import read_header, view_tensors
from merge_core.formats.safetensors_header import without_duplicates
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec

NAME = "ternary"
FILE = "ternary.safetensors"
METADATA = "stockpot.ternary"
VERSION = 1
COUNTING = 2
"""Threads that count entries: it takes as long as reading the file does."""
COUNTED = 12
"""Tensors that a thread counts in one go."""
CHECKED = 1 << 20
"""Elements whose blocks are decoded at a time when a file is checked."""
PARTS: Mapping[Form, tuple[str, str]] = {"hot": (".positive", ".negative"), "cold": (".sizes", ".blocks")}
KINDS = ("weights", "adapter")

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the metadata says of one ternary tensor: `center` is what its signs are around, 1 for factors of IA3."""

    shape: Shape
    value: float
    count: int
    center: float = 0.0
    relative_error: float | None = None

    def describe(self) -> dict[str, Any]:
        """JSON-ready; what is usual is left out."""
        known: dict[str, Any] = {"shape": list(self.shape), "value": self.value, "count": self.count}
        if self.center:
            known["center"] = self.center
        return known if self.relative_error is None else known | {"relative_error": self.relative_error}


@dataclass(frozen=True, slots=True)
class Contents:
    """A ternary file: its entries by tensor, and what else it holds, whole."""

    form: Form
    of: str
    entries: Mapping[str, Entry]
    deltas: Mapping[str, Ternary]
    whole: Mapping[str, StoredTensor]


def ternary_metadata(form: Form, of: str, entries: Mapping[str, Entry]) -> dict[str, str]:
    """What the header of such a file says."""
    tensors = {name: entries[name].describe() for name in sorted(entries)}
    content = {"version": VERSION, "form": form, "of": of, "tensors": tensors}
    return {METADATA: json.dumps(content, separators=(",", ":"), ensure_ascii=False)}


def part_specs(name: str, shape: Shape, form: Form, coded_bytes: int) -> tuple[TensorSpec, TensorSpec]:
    """The two tensors that a ternary one is in the file; `coded_bytes` are those of a cold one's blocks."""
    size, endings = prod(shape), PARTS[form]
    if form == "hot":
        length = plane_bytes(size)
        return TensorSpec(name + endings[0], DType.U8, (length,)), TensorSpec(name + endings[1], DType.U8, (length,))
    blocks = -(-size // BLOCK)
    return TensorSpec(name + endings[0], DType.U16, (blocks,)), TensorSpec(name + endings[1], DType.U8, (coded_bytes,))


def recognises(files: FileTree) -> bool:
    return FILE in files and CONFIG not in files


def read(files: FileTree) -> Artefact:
    """The deltas by weight name. Raises FileError for parts that do not fit, or a wrong count."""
    contents = open_ternary(files)
    if contents.of != "weights":
        found, expected = f"a file of an {contents.of}", f"{CONFIG} beside it"
        raise FileError("the adapter's config is missing", where=FILE, found=found, expected=expected)
    deltas: dict[str, Delta] = {**contents.deltas, **{name: Replacement(one) for name, one in contents.whole.items()}}
    tensors = {**{part.spec.name: part for one in contents.deltas.values() for part in one.parts}, **contents.whole}
    return Artefact(NAME, "delta", deltas, tensors, frozenset(contents.whole), facts=facts(contents))


def facts(contents: Contents) -> dict[str, object]:
    """What is worth knowing of the file before it is used."""
    entries = contents.entries.values()
    count, size = sum(entry.count for entry in entries), sum(prod(entry.shape) for entry in entries)
    return {"form": contents.form, "entries": count, "density": count / size if size else 0.0}


def open_ternary(files: FileTree) -> Contents:
    """The file, checked as far as it can be without decoding blocks."""
    header = read_header(files[FILE], FILE)
    form, of, entries = _read_metadata(header.metadata)
    tensors = view_tensors(header, files[FILE], FILE)
    parts = {name + ending for name in entries for ending in PARTS[form]}
    whole = {name: stored for name, stored in tensors.items() if name not in parts}
    for name in sorted(entries.keys() & whole.keys()):
        raise FileError("a tensor is there twice", where=_where(name), found="whole and ternary", expected="one")
    deltas = {name: _delta(name, entry, form, tensors) for name, entry in entries.items()}
    _check_counts(list(deltas.items()))
    return Contents(form, of, entries, deltas, whole)


def adapter_tensors(files: FileTree) -> dict[str, StoredTensor]:
    """The own tensors of an adapter, under the names that its library gives them; decoded when they are looked at."""
    contents = open_ternary(files)
    if contents.of != "adapter":
        message = "a ternary delta of weights lies beside the config of an adapter"
        raise FileError(message, where=FILE, found=contents.of, expected=f"a file of an adapter, or no {CONFIG}")
    decoded = {
        name: DecodedTensor.of(name, delta, contents.entries[name].center) for name, delta in contents.deltas.items()
    }
    return {**decoded, **contents.whole}


@dataclass(frozen=True, slots=True, eq=False)
class DecodedTensor(StoredTensor):
    """A float32 tensor that is stored as signs around a center."""

    delta: Ternary | None = None
    center: float = 0.0

    @classmethod
    def of(cls, name: str, delta: Ternary, center: float) -> "DecodedTensor":
        first = delta.parts[0]
        spec = TensorSpec(name, DType.F32, delta.shape)
        return cls(spec, first.data, first.file, first.path, first.begin, delta, center)

    def storage(self) -> Any:
        assert self.delta is not None, "a decoded tensor is made of a ternary one"
        out = np.empty(self.spec.size, dtype=np.float32)
        self.delta.open().load_delta(out, 0, None)
        return out if self.center == 0.0 else out + np.float32(self.center)


def check_ternary(path: Path) -> None:
    """Read the file, and decode every block of a cold one. Raises FileError for anything that is broken."""
    for delta in open_ternary({FILE: path}).deltas.values():
        loader, size = delta.open(), prod(delta.shape)
        for start in range(0, size if delta.form == "cold" else 0, CHECKED):
            loader.planes(start, min(CHECKED, size - start))


def _read_metadata(metadata: Mapping[str, str]) -> tuple[Form, str, dict[str, Entry]]:
    try:
        content = json.loads(metadata.get(METADATA, "null"), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _no_ternary(f"no JSON: {error}"[:200]) from error
    if not isinstance(content, dict) or set(content) != {"version", "form", "of", "tensors"}:
        raise _no_ternary(type(content).__name__)
    form, of, tensors = content["form"], content["of"], content["tensors"]
    if content["version"] != VERSION or form not in PARTS or of not in KINDS or not isinstance(tensors, dict):
        raise _no_ternary(f"version {str(content['version'])[:20]}, form {str(form)[:20]}, of {str(of)[:20]}")
    return form, of, {name: _entry(name, claim, of) for name, claim in tensors.items()}


def _no_ternary(found: str) -> FileError:
    where = f"{FILE}: metadata '{METADATA}'"
    expected = f'an object with "version": {VERSION}, "form": hot or cold, "of": weights or adapter, and "tensors"'
    return FileError("the file does not say what it is of", where=where, found=found, expected=expected)


def _entry(name: str, claim: object, of: str) -> Entry:
    if not isinstance(claim, dict) or not {"shape", "value", "count"} <= claim.keys() <= _FIELDS:
        expected = "shape, value, count, and perhaps center and relative_error"
        raise FileError("the entry is malformed", where=_where(name), found=str(claim)[:80], expected=expected)
    value, count = claim["value"], claim["count"]
    center, error = claim.get("center", 0.0), claim.get("relative_error")
    if not _is_number(value) or value < 0 or not _is_number(center) or (center and of == "weights"):
        found, expected = f"value {value!r}, center {center!r}"[:120], "finite float32, the value at least 0"
        raise FileError("the value is not acceptable", where=_where(name), found=found, expected=expected)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0 or not (error is None or _is_number(error)):
        found, expected = f"count {count!r}, relative_error {error!r}"[:120], "an integer from 0, a finite number"
        raise FileError("the entry is malformed", where=_where(name), found=found, expected=expected)
    return Entry(read_shape(_where(name), claim["shape"]), float(value), count, float(center), error)


_FIELDS = {"shape", "value", "count", "center", "relative_error"}


LARGEST = float(np.finfo(np.float32).max)


def _is_number(value: object) -> bool:
    """A finite JSON number, with a value that float32 can have."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= LARGEST  # type: ignore[arg-type]


def _delta(name: str, entry: Entry, form: Form, tensors: Mapping[str, StoredTensor]) -> Ternary:
    found = [tensors.get(name + ending) for ending in PARTS[form]]
    parts = [part for part in found if part is not None]
    if len(parts) < len(found):
        missing = " and ".join(ending for ending in PARTS[form] if name + ending not in tensors)
        raise FileError("a part is missing", where=_where(name), found="nothing", expected=f"'{name[:200]}{missing}'")
    first, second = parts
    coded_bytes = second.spec.shape[0] if second.spec.shape else 0
    expected = part_specs(name, entry.shape, form, coded_bytes)
    if (first.spec, second.spec) != expected:
        shown = " and ".join(map(str, expected))
        raise FileError(
            "the parts do not fit", where=_where(name), found=f"{first.spec} and {second.spec}", expected=shown
        )
    return Ternary((first, second), form, entry.value, entry.count, entry.shape)


def _check_counts(deltas: list[tuple[str, Ternary]]) -> None:
    """Runs of tensors at a time: handing over one alone takes as long as counting a small one."""
    runs = [deltas[first : first + COUNTED] for first in range(0, len(deltas), COUNTED)]
    with ThreadPoolExecutor(COUNTING, thread_name_prefix="ternary") as pool:
        list(pool.map(_check_run, runs))


def _check_run(deltas: list[tuple[str, Ternary]]) -> None:
    for name, delta in deltas:
        _check_count(name, delta)


def _check_count(name: str, delta: Ternary) -> None:
    held = _count_planes(name, delta) if delta.form == "hot" else _count_blocks(name, delta)
    if held != delta.count:
        found, expected = f"{held} entries in the data", f"{delta.count}, as stated"
        raise FileError("the count is wrong", where=_where(name), found=found, expected=expected)


def _count_planes(name: str, delta: Ternary) -> int:
    planes = Planes(delta.parts[0].data, delta.parts[1].data)
    positive, negative, both = tally(planes)
    if both:
        found = f"{both} entries that are + and −"
        raise FileError("the planes overlap", where=_where(name), found=found, expected="one sign for each entry")
    size = prod(delta.shape)
    rest = np.concatenate([np.unpackbits(plane[size // 8 :], bitorder="little")[size % 8 :] for plane in planes[:2]])
    if rest.any():
        expected = f"bits for {size} elements, and zeros"
        raise FileError("bits are set behind the last element", where=_where(name), found="ones", expected=expected)
    return positive + negative


def _count_blocks(name: str, delta: Ternary) -> int:
    """The entries that the blocks state; that they have so many is seen when they are decoded."""
    sizes, coded = delta.parts[0].data.view("<u2").astype(np.int64), delta.parts[1].data
    if sizes.sum() != coded.size or (sizes > MOST_BYTES).any() or ((sizes > 0) & (sizes < 6)).any():
        found, expected = f"sizes of {sizes.sum()} bytes", f"{coded.size} bytes in blocks of 6 to {MOST_BYTES}, or 0"
        raise FileError("the blocks do not fit their sizes", where=_where(name), found=found, expected=expected)
    starts = (np.cumsum(sizes) - sizes)[sizes > 0]
    stated = coded[starts].astype(np.int64) + (coded[starts + 1].astype(np.int64) << 8) + 1
    return int(stated.sum())


def _where(name: str) -> str:
    return f"{FILE}: tensor '{name[:200]}'"
