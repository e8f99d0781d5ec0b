"""Checks that every reader of LoRA factors shares: pairs are whole, shapes multiply, names mean one thing."""

from collections.abc import Iterable, Mapping
from typing import Any

from merge_core.errors import FileError
from merge_core.stored import StoredTensor


def check_pairs(downs: Mapping[str, Any], ups: Mapping[str, Any], file: str) -> None:
    """Raise FileError unless each module has both of its factors, and there is at least one module."""
    for module in sorted(downs.keys() ^ ups.keys()):
        found, missing = ("down (A)", "up (B)") if module in downs else ("up (B)", "down (A)")
        raise FileError(
            "a LoRA factor has no partner", where=f"{file}: module '{module}'", found=f"only {found}", expected=missing
        )
    if not downs:
        raise FileError("the adapter has no LoRA factors", where=file, found="none", expected="at least one pair")


def check_product(a: StoredTensor, b: StoredTensor, file: str) -> None:
    """Raise FileError unless B [rows, rank, 1…] times A [rank, columns…] is defined."""
    for factor in (a, b):
        if not factor.spec.dtype.mergeable or len(factor.spec.shape) < 2:
            expected = "a float16, bfloat16, float32 or float64 matrix"
            raise FileError(
                "not a LoRA factor",
                where=f"{file}: tensor '{factor.spec.name}'",
                found=str(factor.spec),
                expected=expected,
            )
    if a.spec.shape[0] == 0 or b.spec.shape[1] != a.spec.shape[0] or any(length != 1 for length in b.spec.shape[2:]):
        where = f"{file}: tensors '{a.spec.name}' and '{b.spec.name}'"
        found = f"A {list(a.spec.shape)}, B {list(b.spec.shape)}"
        raise FileError(
            "the factors do not multiply", where=where, found=found, expected="B [rows, rank] and A [rank, columns]"
        )


def check_added(stored: StoredTensor, file: str) -> None:
    """Raise FileError unless the tensor is of numbers that can be added."""
    if not stored.spec.dtype.mergeable:
        where, expected = f"{file}: tensor '{stored.spec.name}'", "float16, bfloat16, float32 or float64"
        raise FileError("not a trained weight", where=where, found=str(stored.spec), expected=expected)


def keyed_once(pairs: Iterable[tuple[str, StoredTensor]], file: str) -> dict[str, StoredTensor]:
    """The pairs as a dict; FileError where two tensors mean the same."""
    found: dict[str, StoredTensor] = {}
    for key, stored in pairs:
        if key in found:
            where = f"{file}: tensors '{found[key].spec.name}' and '{stored.spec.name}'"
            raise FileError("two tensors have the same meaning", where=where, found="both", expected="one of them")
        found[key] = stored
    return found
