"""OFT adapters as PEFT saves them: `base_model.model.<module>.oft_R.weight`, skew-symmetric blocks."""

from math import isqrt
from typing import Annotated

from pydantic import Field

from merge_core.deltas import BlockRotation, Cayley, Delta
from merge_core.formats.artefact import Artefact
from merge_core.formats.peft_adapter import Parts, heads, misfit, open_weights, part, split, with_copies
from merge_core.formats.peft_config import CONFIG, PeftConfig, peft_type, read_peft_config
from merge_core.sources import FileTree

NAME = "peft_oft"
SPECIAL_CASE_OF = "peft_lora"
LINEAR, EMBEDDING = ".oft_R.weight", ".oft_embedding_R.weight"
HARMLESS = ("r", "oft_block_size", "module_dropout")


class OftConfig(PeftConfig):
    """The fields that decide the delta; defaults are PEFT's."""

    coft: bool = False
    eps: Annotated[float, Field(ge=0.0)] = 6e-5
    block_share: bool = False
    use_cayley_neumann: bool = True
    num_cayley_neumann_terms: Annotated[int, Field(ge=1, le=1000)] = 5

    @property
    def cayley(self) -> Cayley:
        terms = self.num_cayley_neumann_terms if self.use_cayley_neumann else None
        return Cayley(terms, self.eps if self.coft else None)


def recognises(files: FileTree) -> bool:
    return peft_type(files) == "OFT"


def read(files: FileTree) -> Artefact:
    """Raises FileError for parts that are no triangles of blocks, UnsupportedError for a field that is not known."""
    config = read_peft_config(files[CONFIG], "OFT", OftConfig, HARMLESS)
    tensors = open_weights(files)
    parts, whole = split(tensors, (LINEAR, EMBEDDING), (".oft_",))
    added: dict[str, Delta] = {f"{module}.weight": _rotation(module, own, config) for module, own in parts.items()}
    deltas = with_copies(added, whole)
    return Artefact(NAME, "delta", deltas, tensors, heads(deltas), config.base_model_name_or_path)


def _rotation(module: str, own: Parts, config: OftConfig) -> BlockRotation:
    stored = part(own, EMBEDDING if EMBEDDING in own else LINEAR, module)
    side = _side(stored.spec.shape) if len(own) == 1 else 0
    if side < 2 or (config.block_share and stored.spec.shape[0] != 1):
        rows = "1" if config.block_share else "blocks"
        raise misfit("not the triangles of blocks", own.values(), f"[{rows}, side · (side - 1) / 2]")
    shape = (1, stored.spec.shape[0] * side)
    return BlockRotation(stored, config.cayley, shape, EMBEDDING in own, config.block_share)


def _side(shape: tuple[int, ...]) -> int:
    """The side of the blocks whose upper triangles the rows are; 0 where they are none."""
    if len(shape) != 2 or shape[0] == 0:
        return 0
    side = (1 + isqrt(1 + 8 * shape[1])) // 2
    return side if side * (side - 1) // 2 == shape[1] else 0
