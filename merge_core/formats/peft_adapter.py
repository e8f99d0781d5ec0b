"""The tensors of any adapter that PEFT writes: names without wrappers, parts of modules, trained copies."""

from collections.abc import Collection, Iterable, Mapping

from merge_core.deltas import Composite, Delta, Replacement, fitted
from merge_core.errors import FileError
from merge_core.formats import ternary
from merge_core.formats.lora_factors import check_added, keyed_once
from merge_core.formats.weights_file import names_in, present
from merge_core.formats.weights_file import open_weights as open_file
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."

Tensors = Mapping[str, StoredTensor]
Parts = dict[str, StoredTensor]
"""What an adapter has of one module, by the ending of its name."""


def open_weights(files: FileTree) -> dict[str, StoredTensor]:
    """The adapter's tensors by their names without PEFT's prefix and wrappers.

    A pickle is read where there is no safetensors file. Raises FileError when they are missing or broken,
    UnsupportedError for a pickle of more than tensors.
    """
    file = present(files, "adapter_model")
    if ternary.FILE in files:
        return _open_ternary(files, file)
    if file is None:
        raise FileError("the adapter's weights are missing", found=sorted(files)[:5], expected=WEIGHTS)
    tensors = open_file(files[file], file)
    return keyed_once(((_strip(name), stored) for name, stored in tensors.items()), file)


def _open_ternary(files: FileTree, file: str | None) -> dict[str, StoredTensor]:
    if file is not None:
        found = f"{file} and {ternary.FILE}"
        raise FileError("the adapter's weights are there twice", found=found, expected="one of them")
    return keyed_once(((_strip(name), stored) for name, stored in ternary.adapter_tensors(files).items()), ternary.FILE)


def adapter_names(files: FileTree) -> frozenset[str]:
    """The names of the adapter's tensors; none where they cannot be read."""
    file = present(files, "adapter_model")
    return frozenset() if file is None else names_in(files[file], file)


def _strip(name: str) -> str:
    """A tensor's name in the base: wrappers around a module leave theirs in the name of a trained copy."""
    bare = name.removeprefix(PREFIX)
    return bare.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".").replace(".base_layer.", ".")


def split(tensors: Tensors, keys: Collection[str], marks: Collection[str]) -> tuple[dict[str, Parts], Tensors]:
    """(module → its parts by key, the trained copies). A name with a mark in it is a part.

    Raises FileError for a part that ends in none of the `keys`, and when there is no part at all.
    """
    parts: dict[str, Parts] = {}
    whole: dict[str, StoredTensor] = {}
    for name, stored in tensors.items():
        key = next((key for key in keys if name.endswith(key)), None)
        if key is not None:
            parts.setdefault(name.removesuffix(key), {})[key] = stored
        elif any(mark in name for mark in marks):
            raise unknown_part(name, keys)
        else:
            whole[name] = stored
    if not parts:
        raise FileError("the adapter adapts nothing", where=WEIGHTS, found="no part", expected=", ".join(sorted(keys)))
    return parts, whole


def unknown_part(name: str, keys: Iterable[str]) -> FileError:
    where, expected = f"{WEIGHTS}: tensor '{name[:200]}'", "a name that ends in one of " + ", ".join(sorted(keys))
    return FileError("an adapter tensor of unknown meaning", where=where, found="neither", expected=expected)


def part(parts: Parts, key: str, module: str) -> StoredTensor:
    """One part of a module, of numbers that can be added; FileError when it is missing."""
    if key not in parts:
        where, found = f"{WEIGHTS}: module '{module[:200]}'", ", ".join(sorted(parts))
        raise FileError("a part of the adapter is missing", where=where, found=f"only {found}", expected=key)
    check_added(parts[key], WEIGHTS)
    return parts[key]


def misfit(message: str, tensors: Iterable[StoredTensor], expected: str) -> FileError:
    """Parts of one module that do not go together: each is named with its shape."""
    stored = list(tensors)
    where = f"{WEIGHTS}: " + " and ".join(f"'{one.spec.name[:200]}'" for one in stored)
    return FileError(
        message, where=where, found=" and ".join(str(list(one.spec.shape)) for one in stored), expected=expected
    )


def with_copies(added: Mapping[str, Delta], whole: Tensors) -> dict[str, Delta]:
    """All deltas by weight name; a trained copy with a delta on top of it becomes one delta."""
    copies: dict[str, Delta] = {name: Replacement(stored) for name, stored in whole.items()}
    both = {name: _composite(name, whole[name], delta) for name, delta in added.items() if name in whole}
    return {**added, **copies, **both}


def heads(deltas: Mapping[str, Delta]) -> frozenset[str]:
    """The names of trained copies, which a base may lack."""
    return frozenset(name for name, delta in deltas.items() if isinstance(delta, Replacement))


def _composite(name: str, copy: StoredTensor, delta: Delta) -> Composite:
    check_added(copy, WEIGHTS)
    added = fitted(delta, copy.spec.shape)
    if added is None:
        found = f"a copy {list(copy.spec.shape)} and a delta {list(delta.shape)}"
        raise FileError("shapes differ", where=f"{WEIGHTS}: weight '{name}'", found=found, expected="equal shapes")
    return Composite(Replacement(copy), added)
