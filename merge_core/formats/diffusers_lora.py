"""LoRA files as diffusers writes them, and wrote them: `unet.<module>.lora_A.weight`, `.lora.down.weight` and others.

A file without alpha has alpha = rank, so the scale is 1 (diffusers' `network_alphas=None`). A newer one has the
config of each model's LoRA in its metadata.
"""

from collections.abc import Iterator, Mapping
from math import prod

from merge_core.deltas import Decomposed, Delta, Dense, LowRank
from merge_core.errors import FileError, StockpotError
from merge_core.formats.artefact import Artefact
from merge_core.formats.diffusers_names import (
    ALPHA,
    BIAS,
    DOWN,
    ENDINGS,
    MAGNITUDE,
    UP,
    component,
    is_spelt_so,
    part_of,
)
from merge_core.formats.kohya_parts import one_number
from merge_core.formats.lora_factors import check_added, check_pairs, check_product, keyed_once
from merge_core.formats.peft_config import CONFIG
from merge_core.formats.peft_lora_config import Scaling, lora_config
from merge_core.formats.safetensors_file import parse_json_object, read_header
from merge_core.formats.weights_file import PICKLES, open_weights, present, tensor_names, weights_of
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "diffusers_lora"
SPECIAL_CASE_OF = "checkpoint"
STEM = "pytorch_lora_weights"
METADATA = "lora_adapter_metadata"

Roles = Mapping[str, Mapping[str, StoredTensor]]


def recognises(files: FileTree) -> bool:
    return CONFIG not in files and (present(files, STEM) is not None or is_spelt_so(tensor_names(files)))


def read(files: FileTree) -> Artefact:
    """Raises FileError for missing factors, and names any tensor that is not part of a LoRA."""
    file = present(files, STEM) or weights_of(files)
    tensors = open_weights(files[file], file)
    roles = _by_role(tensors, file)
    check_pairs(roles[DOWN], roles[UP], file)
    _check_partners(roles, file)
    metadata = {} if file.endswith(PICKLES) else read_header(files[file], file).metadata
    scaling = _scaling(roles, metadata, file)
    prefix = _only_component(roles[DOWN])
    named = dict(_deltas(roles, scaling, file))
    deltas = {name.removeprefix(prefix): delta for name, delta in named.items()}
    return Artefact(NAME, "delta", deltas, tensors, facts={"ranks": sorted({one.rank for one in scaling.values()})})


def _by_role(tensors: Mapping[str, StoredTensor], file: str) -> dict[str, dict[str, StoredTensor]]:
    """Role → module → tensor. The UNet of a pipeline needs no name, so `unet.x` and `x` are the same."""
    found: dict[str, list[tuple[str, StoredTensor]]] = {role: [] for role in (DOWN, UP, BIAS, MAGNITUDE, ALPHA)}
    for name, stored in tensors.items():
        part = part_of(name)
        if part is None:
            where, expected = f"{file}: tensor '{name[:200]}'", "a name that ends in one of " + ", ".join(ENDINGS)
            raise FileError("an adapter tensor of unknown meaning", where=where, found="neither", expected=expected)
        found[part.role].append((part.module, stored))
    return {role: _keyed(pairs, file) for role, pairs in found.items()}


def _keyed(pairs: list[tuple[str, StoredTensor]], file: str) -> dict[str, StoredTensor]:
    keyed_once(((module.removeprefix("unet."), stored) for module, stored in pairs), file)
    return dict(pairs)


def _check_partners(roles: Roles, file: str) -> None:
    for role in (BIAS, MAGNITUDE, ALPHA):
        for module in sorted(roles[role].keys() - roles[DOWN].keys()):
            where = f"{file}: tensor '{roles[role][module].spec.name[:200]}'"
            message = "an adapter tensor of unknown meaning"
            raise FileError(message, where=where, found=f"a {role} alone", expected="factors of the same module")


def _only_component(modules: Mapping[str, StoredTensor]) -> str:
    """What all names begin with where they are of one model, whose weights have no such beginning by themselves."""
    components = {component(module) for module in modules}
    return components.pop() if len(components) == 1 else ""


def _deltas(roles: Roles, scaling: Mapping[str, Scaling], file: str) -> Iterator[tuple[str, Delta]]:
    for module, down in roles[DOWN].items():
        delta = _low_rank(down, roles[UP][module], scaling[module], file)
        yield f"{module}.weight", _decomposed(delta, roles[MAGNITUDE].get(module), file)
    for module, bias in roles[BIAS].items():
        check_added(bias, file)
        yield f"{module}.bias", Dense(bias, scaling[module].scale)


def _low_rank(down: StoredTensor, up: StoredTensor, scaling: Scaling, file: str) -> LowRank:
    check_product(down, up, file)
    if down.spec.shape[0] != scaling.rank:
        where, expected = f"{file}: tensor '{down.spec.name[:200]}'", f"[{scaling.rank}, …] as in the metadata"
        raise FileError("the rank differs", where=where, found=list(down.spec.shape), expected=expected)
    return LowRank(down, up, scaling.scale, (up.spec.shape[0], *down.spec.shape[1:]))


def _decomposed(delta: LowRank, magnitude: StoredTensor | None, file: str) -> Delta:
    if magnitude is None:
        return delta
    check_added(magnitude, file)
    if prod(magnitude.spec.shape) != delta.shape[0]:
        where, found = f"{file}: tensor '{magnitude.spec.name[:200]}'", list(magnitude.spec.shape)
        raise FileError("magnitudes do not fit", where=where, found=found, expected=f"{delta.shape[0]} of them")
    return Decomposed(delta, magnitude, 0)


def _scaling(roles: Roles, metadata: Mapping[str, str], file: str) -> dict[str, Scaling]:
    """Each module's rank and scale: by the metadata's config, or alpha / rank, or 1."""
    configured = _configured(sorted(roles[DOWN]), metadata, file)
    return {module: configured.get(module) or _own_scaling(module, roles, file) for module in roles[DOWN]}


def _own_scaling(module: str, roles: Roles, file: str) -> Scaling:
    rank = (*roles[DOWN][module].spec.shape, 0)[0]
    alpha = roles[ALPHA].get(module)
    number = None if alpha is None else one_number(alpha, file)
    return Scaling(rank, 1.0 if number is None or rank == 0 else number / rank)


def _configured(modules: list[str], metadata: Mapping[str, str], file: str) -> dict[str, Scaling]:
    """What the metadata says of the modules; its fields begin with the model that they are of, or with nothing."""
    if METADATA not in metadata:
        return {}
    where = f"{file}: metadata '{METADATA}'"
    content = parse_json_object(metadata[METADATA].encode(), where)
    found: dict[str, Scaling] = {}
    for prefix in sorted({component(module) for module in modules}):
        own = {module.removeprefix(prefix): module for module in modules if component(module) == prefix}
        fields = {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
        if "r" not in fields:
            continue
        try:
            scaling = lora_config({**fields, "peft_type": "LORA"}).scaling(sorted(own))
        except StockpotError as error:
            raise error.within(where) from error
        found |= {own[module]: one for module, one in scaling.items()}
    return found
