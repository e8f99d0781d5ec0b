"""SpIEL's sparse deltas: `….sft_delta.values` and `….sft_delta.indices` beside a config of peft_type SFT.

Indices are flat and row-major, in any order; values of the same entry add up. They are rounded to the weight's
type before they are added, as the original does. The file does not say the weights' shapes.
Ansell et al., "Scaling Sparse Fine-Tuning to Large Language Models", 2024, https://arxiv.org/abs/2401.16405
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from merge_core.deltas import Delta, Replacement
from merge_core.deltas.unsettled import Unsettled
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.entries import as_stored_in, check_values, settled, sparse_sum, stored_indices
from merge_core.formats.peft_adapter import WEIGHTS, open_weights, split
from merge_core.formats.peft_config import CONFIG, PeftConfig, peft_type, validated
from merge_core.formats.safetensors_file import read_json
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "spiel"
SPECIAL_CASE_OF = "peft_lora"
INDICES, VALUES = ".sft_delta.indices", ".sft_delta.values"


def recognises(files: FileTree) -> bool:
    return peft_type(files) == "SFT"


def read(files: FileTree) -> Artefact:
    """The deltas by weight name; FileError for parts that are missing or do not fit."""
    config = validated(read_json(files[CONFIG], CONFIG), PeftConfig)
    tensors = _without_adapter_name(open_weights(files))
    parts, whole = split(tensors, (INDICES, VALUES), (".sft_delta.",))
    for module, pair in parts.items():
        _check(module, pair)
    deltas: dict[str, Delta] = {name: Replacement(stored) for name, stored in whole.items()}
    pending = {f"{module}.weight": pair for module, pair in parts.items()}
    deltas |= {
        name: Unsettled("sparse", sum(one.spec.nbytes for one in pair.values())) for name, pair in pending.items()
    }
    entries = sum(pair[VALUES].spec.size for pair in pending.values())
    facts, declared = {"entries": entries}, config.base_model_name_or_path
    artefact = Artefact(NAME, "delta", deltas, tensors, frozenset(whole), declared, facts)
    return replace(artefact, settle=partial(_settled, artefact, pending))


def _without_adapter_name(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Names as PEFT saves them: those of a bare state dict have the adapter's name within."""
    return {name.replace(".sft_delta.default.", ".sft_delta."): stored for name, stored in tensors.items()}


def _check(module: str, pair: Mapping[str, StoredTensor]) -> None:
    where = f"{WEIGHTS}: module '{module[:200]}'"
    if pair.keys() != {INDICES, VALUES}:
        raise FileError("a part is missing", where=where, found=", ".join(pair), expected=f"{INDICES} and {VALUES}")
    check_values(pair[VALUES], where)
    stored_indices(pair[INDICES], where)


def _settled(
    artefact: Artefact, pending: Mapping[str, Mapping[str, StoredTensor]], base: Mapping[str, StoredTensor]
) -> Artefact:
    def settle(name: str, stored: StoredTensor) -> Delta:
        if name not in pending:
            return artefact.deltas[name]
        where = f"{WEIGHTS}: weight '{name[:200]}'"
        pair, spec = pending[name], stored.spec
        if len(spec.shape) != 2:
            raise FileError("only linear layers are adapted so", where=where, found=str(spec), expected="a matrix")
        return sparse_sum(
            stored_indices(pair[INDICES], where), as_stored_in(pair[VALUES], spec.dtype), spec.shape, where
        )

    return settled(artefact, base, settle)
