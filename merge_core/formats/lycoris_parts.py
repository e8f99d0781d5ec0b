"""LoHa and LoKr as PEFT and LyCORIS both store them: which parts make a delta, and whether they fit."""

from collections.abc import Iterable

from merge_core.deltas import Hadamard, Kronecker, Product
from merge_core.deltas.kronecker import Factor, shape_of
from merge_core.errors import FileError
from merge_core.formats.lora_factors import check_added
from merge_core.stored import StoredTensor

HADAMARD_KEYS = (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2")
KRONECKER_KEYS = (".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2")

Parts = dict[str, StoredTensor]


def hadamard(parts: Parts, scale: float, module: str) -> Hadamard:
    """Raises FileError for parts that are missing, too many, or do not multiply."""
    _check_known(parts, HADAMARD_KEYS, module)
    first, second = (_product(parts, f".hada_w{n}_a", f".hada_w{n}_b", f".hada_t{n}", module) for n in (1, 2))
    if first.shape != second.shape:
        found = f"{list(first.shape)} and {list(second.shape)}"
        raise _misfit("the two products have other shapes", parts.values(), found, "equal shapes")
    return Hadamard(first, second, scale, first.shape)


def kronecker(parts: Parts, scale: float, module: str) -> Kronecker:
    """Raises FileError for parts that are missing, too many, or do not multiply."""
    _check_known(parts, KRONECKER_KEYS, module)
    first = _factor(parts, ".lokr_w1", None, module)
    second = _factor(parts, ".lokr_w2", ".lokr_t2", module)
    (a, c, *kernel), (b, d, *tail) = shape_of(first), shape_of(second)
    if kernel:
        raise _misfit("not a matrix", [parts[".lokr_w1"]], str(list(shape_of(first))), "[rows, columns]")
    return Kronecker(first, second, scale, (a * b, c * d, *tail))


def ranks(delta: Hadamard | Kronecker) -> set[int]:
    """The inner dimensions of the delta's products; none where both factors of a LoKr are stored whole."""
    return {factor.rank for factor in (delta.first, delta.second) if isinstance(factor, Product)}


def _factor(parts: Parts, whole: str, core: str | None, module: str) -> Factor:
    a, b = f"{whole}_a", f"{whole}_b"
    if whole not in parts:
        return _product(parts, a, b, core, module)
    split = [key for key in (a, b, core) if key in parts]
    if split:
        raise _missing(module, f"{whole} and {split[0]}", "one or the other")
    return _part(parts, whole, module)


def _product(parts: Parts, up_key: str, down_key: str, core_key: str | None, module: str) -> Product:
    up, down = _part(parts, up_key, module), _part(parts, down_key, module)
    core = parts.get(core_key) if core_key else None
    if core is not None:
        check_added(core, core.file)
    product = Product(up, down, core, up_transposed=core is not None)
    ranks = (product.rank, *core.spec.shape[:2]) if core else (product.rank,)
    if len(up.spec.shape) != 2 or len(down.spec.shape) != 2 or 0 in ranks or {*ranks} != {down.spec.shape[0]}:
        found = " and ".join(str(list(one.spec.shape)) for one in (up, down, core) if one)
        expected = "[rank, rows], [rank, columns] and [rank, rank, …]" if core else "[rows, rank] and [rank, columns]"
        raise _misfit("the factors do not multiply", [one for one in (up, down, core) if one], found, expected)
    return product


def _part(parts: Parts, key: str, module: str) -> StoredTensor:
    if key not in parts:
        raise _missing(module, "only " + ", ".join(sorted(parts)), key)
    check_added(parts[key], parts[key].file)
    if len(parts[key].spec.shape) < 2:
        found = str(list(parts[key].spec.shape))
        raise _misfit("not a matrix", [parts[key]], found, "two dimensions or more")
    return parts[key]


def _check_known(parts: Parts, keys: Iterable[str], module: str) -> None:
    other = next((key for key in parts if key not in keys), None)
    if other is not None:
        raise _missing(module, f"{other} beside {next(iter(parts))}", ", ".join(keys))


def _missing(module: str, found: str, expected: str) -> FileError:
    where = f"module '{module[:200]}'"
    return FileError("the parts are not those of one delta", where=where, found=found, expected=expected)


def _misfit(message: str, tensors: Iterable[StoredTensor], found: str, expected: str) -> FileError:
    stored = list(tensors)
    where = f"{stored[0].file}: " + " and ".join(f"'{one.spec.name[:200]}'" for one in stored)
    return FileError(message, where=where, found=found, expected=expected)
