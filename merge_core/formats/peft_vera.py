"""VeRA adapters as PEFT saves them: two vectors for each module, and two factors that all modules share."""

from merge_core.deltas import Delta, SharedFactors
from merge_core.errors import UnsupportedError
from merge_core.formats.artefact import Artefact
from merge_core.formats.lora_factors import check_added
from merge_core.formats.peft_adapter import Parts, Tensors, heads, misfit, open_weights, part, split, with_copies
from merge_core.formats.peft_config import CONFIG, PeftConfig, Rank, peft_type, read_peft_config
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "peft_vera"
SPECIAL_CASE_OF = "peft_lora"
INNER, OUTER = ".vera_lambda_d", ".vera_lambda_b"
SHARED_A, SHARED_B = "base_model.vera_A", "base_model.vera_B"
HARMLESS = ("projection_prng_key", "save_projection", "vera_dropout", "d_initial")


class VeraConfig(PeftConfig):
    """The fields that decide the delta."""

    r: Rank
    fan_in_fan_out: bool = False


def recognises(files: FileTree) -> bool:
    return peft_type(files) == "VERA"


def read(files: FileTree) -> Artefact:
    """Raises FileError for parts that are missing or do not fit, UnsupportedError where the factors are not stored."""
    config = read_peft_config(files[CONFIG], "VERA", VeraConfig, HARMLESS)
    tensors = open_weights(files)
    a, b = _shared(tensors, config.r)
    own = {name: stored for name, stored in tensors.items() if name not in (SHARED_A, SHARED_B)}
    parts, whole = split(own, (INNER, OUTER), (".vera_",))
    added: dict[str, Delta] = {
        f"{module}.weight": _delta(module, vectors, a, b, config.fan_in_fan_out) for module, vectors in parts.items()
    }
    deltas = with_copies(added, whole)
    facts = {"ranks": [config.r]}
    return Artefact(NAME, "delta", deltas, tensors, heads(deltas), config.base_model_name_or_path, facts)


def _shared(tensors: Tensors, rank: int) -> tuple[StoredTensor, StoredTensor]:
    if SHARED_A not in tensors or SHARED_B not in tensors:
        # Drawing them anew needs the generator of one library on one machine: PEFT itself warns that it may differ.
        message = "the frozen factors are not in the file, and drawing them anew might give others"
        found, expected = "save_projection: false, or no factors", f"'{SHARED_A}' and '{SHARED_B}'"
        raise UnsupportedError(message, where=f"{CONFIG}: save_projection", found=found, expected=expected)
    a, b = tensors[SHARED_A], tensors[SHARED_B]
    check_added(a, a.file)
    check_added(b, b.file)
    shapes = (a.spec.shape, b.spec.shape)
    if [len(shape) for shape in shapes] != [2, 2] or shapes[0][0] != rank or shapes[1][1] != rank:
        raise misfit("the frozen factors do not fit", (a, b), f"[{rank}, inputs] and [outputs, {rank}]")
    return a, b


def _delta(module: str, vectors: Parts, a: StoredTensor, b: StoredTensor, transposed: bool) -> SharedFactors:
    inner, outer = part(vectors, INNER, module), part(vectors, OUTER, module)
    fits = inner.spec.shape == a.spec.shape[:1] and len(outer.spec.shape) == 1
    if not fits or outer.spec.size > b.spec.shape[0]:
        expected = f"[{a.spec.shape[0]}] and [{b.spec.shape[0]}] or less"
        raise misfit("the vectors do not fit the factors", (inner, outer), expected)
    shape = (outer.spec.size, a.spec.shape[1])
    return SharedFactors(a, b, inner, outer, shape[::-1] if transposed else shape, transposed)
