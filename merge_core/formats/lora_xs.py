"""LoRA-XS and LoRA-SB: a LoRA of PEFT with a small matrix R in each module, `…q_proj_lora_latent_mapping.weight`."""

from merge_core.deltas import Cored, Delta, LowRank
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.lora_factors import check_added, keyed_once
from merge_core.formats.peft_adapter import WEIGHTS, Tensors, adapter_names, misfit, open_weights
from merge_core.formats.peft_config import CONFIG, peft_type
from merge_core.formats.peft_lora import lora_artefact
from merge_core.formats.peft_lora_config import read_config
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "lora_xs"
SPECIAL_CASE_OF = "peft_lora"
MARK = "lora_latent_mapping"
KEYS = (".default_lora_latent_mapping.weight", "_lora_latent_mapping.weight", ".lora_latent_mapping.weight")


def recognises(files: FileTree) -> bool:
    return peft_type(files) == "LORA" and any(MARK in name for name in adapter_names(files))


def read(files: FileTree) -> Artefact:
    """The adapter's deltas, scale · B R A. Raises FileError as a LoRA's reader does, and for an R that does not fit."""
    config, tensors = read_config(files[CONFIG]), open_weights(files)
    cores = _cores(tensors)
    plain = {name: stored for name, stored in tensors.items() if MARK not in name}
    artefact = lora_artefact(NAME, plain, config)
    deltas = {name: _cored(name, delta, cores) for name, delta in artefact.deltas.items()}
    for name in sorted(cores.keys() - deltas.keys()):
        raise _alone(name, "R", "A and B")
    ranks = artefact.facts
    return Artefact(NAME, "delta", deltas, tensors, artefact.new_tensors, artefact.declared_base, ranks)


def _cores(tensors: Tensors) -> dict[str, StoredTensor]:
    """R by the name of the weight it is for."""
    found = {name: next((key for key in KEYS if name.endswith(key)), "") for name in tensors if MARK in name}
    return keyed_once(((f"{name.removesuffix(key)}.weight", tensors[name]) for name, key in found.items()), WEIGHTS)


def _cored(name: str, delta: Delta, cores: Tensors) -> Delta:
    if not isinstance(delta, LowRank):
        return delta
    if name not in cores:
        raise _alone(name, "A and B", "R")
    core = cores[name]
    check_added(core, WEIGHTS)
    if core.spec.shape != (delta.rank, delta.rank):
        raise misfit("R does not fit its factors", (core,), f"[{delta.rank}, {delta.rank}]")
    return Cored(delta, core)


def _alone(name: str, found: str, missing: str) -> FileError:
    where = f"{WEIGHTS}: weight '{name[:200]}'"
    return FileError("a LoRA-XS factor has no partner", where=where, found=f"only {found}", expected=missing)
