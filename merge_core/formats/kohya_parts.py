"""One module's parts in a kohya file: which algorithm they are of, and its scale."""

from dataclasses import replace
from math import isfinite, prod

from kernels.storage import widen
from merge_core.deltas import Decomposed, Delta, Hadamard, Kronecker, LowRank, Product, Tucker
from merge_core.errors import FileError
from merge_core.formats.lora_factors import check_added, check_pairs, check_product
from merge_core.formats.lycoris_parts import hadamard, kronecker, ranks
from merge_core.stored import StoredTensor

Parts = dict[str, StoredTensor]

DOWN, UP, MID = ".lora_down.weight", ".lora_up.weight", ".lora_mid.weight"
LORA_KEYS = (DOWN, UP, MID)
ALPHA, SCALE = ".alpha", ".dora_scale"

EPSILON = 2.0**-23
"""What LyCORIS adds to a norm in float32."""


def factored(module: str, parts: Parts, file: str) -> Delta:
    """The delta of the factors, with its magnitude where there is one. Raises FileError for what does not fit."""
    factors = {key: stored for key, stored in parts.items() if key not in (ALPHA, SCALE)}
    if not factors:
        raise _refusal(module, file, "there is nothing to scale", ", ".join(sorted(parts)), "factors")
    alpha = one_number(parts[ALPHA], file) or None if ALPHA in parts else None
    delta = _delta(module, factors, alpha, file)
    return delta if SCALE not in parts else _decomposed(delta, parts[SCALE], file)


def _delta(module: str, factors: Parts, alpha: float | None, file: str) -> Delta:
    if any(key.startswith(".hada_") for key in factors):
        plain = hadamard(factors, 1.0, module)
        return replace(plain, scale=_scale(alpha, ranks(plain), module, file))
    if any(key.startswith(".lokr_") for key in factors):
        kron = kronecker(factors, 1.0, module)
        return replace(kron, scale=_scale(alpha, ranks(kron), module, file))
    return _low_rank(module, factors, alpha, file)


def _low_rank(module: str, factors: Parts, alpha: float | None, file: str) -> Delta:
    check_pairs({module: DOWN} if DOWN in factors else {}, {module: UP} if UP in factors else {}, file)
    down, up, mid = factors[DOWN], factors[UP], factors.get(MID)
    check_product(down, up, file)
    rank = down.spec.shape[0]
    scale = _scale(alpha, {rank}, module, file)
    if mid is None:
        return LowRank(down, up, scale, (up.spec.shape[0], *down.spec.shape[1:]))
    check_added(mid, file)
    if mid.spec.shape[:2] != (rank, rank) or prod(down.spec.shape[2:]) != 1:
        found = f"{list(down.spec.shape)} and {list(mid.spec.shape)}"
        expected = f"[{rank}, inputs, 1, …] and [{rank}, {rank}, …]"
        raise _refusal(module, file, "the core does not fit its factors", found, expected)
    return Tucker(Product(up, down, mid), scale)


def one_number(stored: StoredTensor, file: str) -> float:
    """The one value of an alpha. Raises FileError for anything but one finite number."""
    where = f"{file}: tensor '{stored.spec.name[:200]}'"
    if stored.spec.size != 1 or stored.spec.dtype.kind == "bool":
        raise FileError("alpha is one number", where=where, found=str(stored.spec), expected="one number")
    raw = stored.storage()
    alpha = float(widen(raw, stored.spec.dtype.label)[0] if stored.spec.dtype.mergeable else raw[0])
    if not isfinite(alpha) or abs(alpha) > 2.0**32:
        raise FileError("alpha is no sensible number", where=where, found=alpha, expected="up to 2^32")
    return alpha


def _scale(alpha: float | None, inner: set[int], module: str, file: str) -> float:
    """α/r; 1 without alpha, which kohya writes as 0 too, and for a LoKr of whole factors, which has no rank."""
    if len(inner) > 1:
        raise _refusal(module, file, "the products have other ranks", str(sorted(inner)), "one rank")
    return 1.0 if alpha is None or not inner else alpha / inner.pop()


def _decomposed(delta: Delta, magnitude: StoredTensor, file: str) -> Decomposed:
    """Magnitudes of outputs are [n, 1, …], those of inputs [1, n, …]."""
    check_added(magnitude, file)
    axis = int(magnitude.spec.shape[:1] == (1,) and delta.shape[0] != 1)
    count = magnitude.spec.size
    if len(magnitude.spec.shape) < 2 or magnitude.spec.shape[axis] != count or not _counts(delta, axis, count):
        where = f"{file}: tensor '{magnitude.spec.name[:200]}'"
        expected = f"one for each of {delta.shape[0]} outputs or {delta.shape[1]} inputs"
        raise FileError("magnitudes do not fit", where=where, found=list(magnitude.spec.shape), expected=expected)
    if isinstance(delta, (Hadamard, Kronecker)) and delta.shape[axis] != count:
        delta = replace(delta, shape=(delta.shape[0], count, prod(delta.shape[1:]) // count))
    return Decomposed(delta, magnitude, axis, EPSILON)


def _counts(delta: Delta, axis: int, count: int) -> bool:
    """Whether there can be so many outputs or inputs: of a flattened kernel, only the magnitudes tell the inputs."""
    if axis == 1 and isinstance(delta, (Hadamard, Kronecker)) and len(delta.shape) == 2:
        return count > 0 and delta.shape[1] % count == 0
    return delta.shape[axis] == count


def _refusal(module: str, file: str, message: str, found: str, expected: str) -> FileError:
    return FileError(message, where=f"{file}: module '{module[:200]}'", found=found, expected=expected)
