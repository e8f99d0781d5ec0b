"""LoLDU: `….parametrizations.weight.0.vector_z`, the trained diagonal of the base's own LDU factors.

delta = s·P L_r diag(z) U_r − s₀·P L_r diag(z₀) U_r, s₀ = α/r. P, L_r and U_r are found again from the base. The file
says neither α nor how z began, so `loldu_config.json` has to: {"lora_alpha": α, "init_method": …}. A z that began at
random overwrote what was taken from the base (`uniform`, `normal`), and cannot be recovered. s is `scaling_factor`
where the state has it, else s₀. https://github.com/SKDDJ/LoLDU (minloldu/loldu.py)
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kernels.storage import widen
from merge_core.deltas import Delta
from merge_core.deltas.triangular import Reference, Triangular
from merge_core.deltas.unsettled import Unsettled
from merge_core.errors import FileError, UnsupportedError
from merge_core.formats import checkpoint
from merge_core.formats.artefact import Artefact
from merge_core.formats.entries import Base, settled
from merge_core.formats.safetensors_file import read_json
from merge_core.formats.weights_file import tensor_names
from merge_core.formats.with_weights import check_parts
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "loldu"
SPECIAL_CASE_OF = "checkpoint"
CONFIG = "loldu_config.json"
DIAGONAL, SCALING = ".parametrizations.weight.0.vector_z", ".parametrizations.weight.0.scaling_factor"
REFERENCES: dict[str, Reference] = {
    "lu": "diagonal",
    "ones": "diagonal",
    "zeros": "diagonal",
    "s_uniform": "diagonal",
    "s_normal": "diagonal",
    "constant": "mean",
}
"""What was taken from the base, by how z began: `constant` overwrote the diagonal with its mean."""


class LolduConfig(BaseModel):
    """What a state dict leaves out."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, strict=True)

    lora_alpha: Annotated[float, Field(ge=-(2.0**32), le=2.0**32)]
    init_method: Literal["lu", "ones", "zeros", "s_uniform", "s_normal", "constant", "uniform", "normal"]


def recognises(files: FileTree) -> bool:
    return any(name.endswith(DIAGONAL) for name in tensor_names(files))


def read(files: FileTree) -> Artefact:
    """Raises UnsupportedError for a random beginning, and where the beginning is not said."""
    tensors = checkpoint.read_tensors(files)
    modules = [name.removesuffix(DIAGONAL) for name in tensors if name.endswith(DIAGONAL)]
    config = _config(files)
    for module in modules:
        check_parts(tensors, [module + DIAGONAL], tensors[module + DIAGONAL].file, 1)
        if module + SCALING in tensors:
            check_parts(tensors, [module + SCALING], tensors[module + SCALING].file, 0)
    known = {module + ending for module in modules for ending in (DIAGONAL, SCALING)}
    for name in sorted(tensors.keys() - known):
        expected = f"names that end in {DIAGONAL} or {SCALING}"
        raise FileError("a tensor of unknown meaning", where=f"{NAME}: tensor '{name[:200]}'", expected=expected)
    deltas: dict[str, Delta] = {
        f"{module}.weight": Unsettled("triangular", tensors[module + DIAGONAL].spec.nbytes) for module in modules
    }
    made = Artefact(NAME, "delta", deltas, tensors, facts={"init_method": config.init_method})
    return replace(made, settle=partial(_settled, made, tensors, config))


def _config(files: FileTree) -> LolduConfig:
    if CONFIG not in files:
        message = "the file does not say how its diagonals began"
        expected = f'{CONFIG} with "lora_alpha" and "init_method"'
        raise UnsupportedError(message, where=NAME, found=f"no {CONFIG}", expected=expected)
    try:
        config = LolduConfig.model_validate(read_json(files[CONFIG], CONFIG))
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{CONFIG}: {'.'.join(map(str, first['loc']))[:200]}"
        raise FileError(first["msg"], where=where, found=repr(first["input"])[:80]) from error
    if config.init_method not in REFERENCES:
        message = "what was taken from the base began at random and is not in the file"
        expected = "one of " + ", ".join(REFERENCES)
        raise UnsupportedError(message, where=f"{CONFIG}: init_method", found=config.init_method, expected=expected)
    return config


def _settled(made: Artefact, tensors: Mapping[str, StoredTensor], config: LolduConfig, base: Base) -> Artefact:
    def settle(name: str, stored: StoredTensor) -> Delta:
        module = name.removesuffix(".weight")
        diagonal = tensors[module + DIAGONAL]
        rank, shape = diagonal.spec.size, stored.spec.shape
        if not stored.spec.dtype.mergeable or len(shape) != 2 or not 0 < rank <= min(shape):
            where, found = f"tensor '{name[:200]}'", f"{rank} entries for {stored.spec}"
            raise FileError(
                "the diagonal does not fit the weight", where=where, found=found, expected="a matrix of that rank"
            )
        initial = config.lora_alpha / rank
        return Triangular(
            stored, diagonal, _scaling(tensors.get(module + SCALING), initial), initial, REFERENCES[config.init_method]
        )

    return settled(made, base, settle)


def _scaling(stored: StoredTensor | None, initial: float) -> float:
    return initial if stored is None else float(widen(stored.storage(), stored.spec.dtype.label)[0])
