"""LoHa adapters as PEFT saves them: `base_model.model.<module>.hada_w1_a` and the like."""

from merge_core.formats.artefact import Artefact
from merge_core.formats.lycoris_parts import HADAMARD_KEYS, hadamard
from merge_core.formats.peft_config import peft_type
from merge_core.formats.peft_lycoris import lycoris_artefact
from merge_core.sources import FileTree

NAME = "peft_loha"
SPECIAL_CASE_OF = "peft_lora"


def recognises(files: FileTree) -> bool:
    return peft_type(files) == "LOHA"


def read(files: FileTree) -> Artefact:
    """Raises FileError for parts that are missing or do not fit, UnsupportedError for a field that is not known."""
    return lycoris_artefact(NAME, "LOHA", files, HADAMARD_KEYS, ".hada_", hadamard)
