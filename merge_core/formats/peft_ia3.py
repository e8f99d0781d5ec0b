"""IA³ adapters as PEFT saves them: `base_model.model.<module>.ia3_l`, factors of a module's outputs or inputs."""

from collections.abc import Sequence

from merge_core.deltas import Delta, Scale
from merge_core.errors import UnsupportedError
from merge_core.formats.artefact import Artefact
from merge_core.formats.module_pattern import full_matches
from merge_core.formats.peft_adapter import heads, misfit, open_weights, part, split, with_copies
from merge_core.formats.peft_config import CONFIG, PeftConfig, peft_type, read_peft_config
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "peft_ia3"
SPECIAL_CASE_OF = "peft_lora"
KEY = ".ia3_l"
FIELD = f"{CONFIG}: feedforward_modules"


class Ia3Config(PeftConfig):
    """The fields that decide the delta."""

    feedforward_modules: str | list[str] | None = None
    fan_in_fan_out: bool = False

    def feedforward(self, modules: Sequence[str]) -> set[str]:
        """The modules whose inputs are scaled: an expression matches all of a name, a list has ends of names."""
        if isinstance(self.feedforward_modules, str):
            return full_matches(self.feedforward_modules, modules, FIELD)
        if self.feedforward_modules is None:
            expected = "a list of modules, or an expression"
            raise UnsupportedError("it is not said whose inputs are scaled", where=FIELD, found=None, expected=expected)
        ends = tuple(self.feedforward_modules)
        return {module for module in modules if module.endswith(ends)}


def recognises(files: FileTree) -> bool:
    return peft_type(files) == "IA3"


def read(files: FileTree) -> Artefact:
    """Raises FileError for factors that are no vectors, UnsupportedError for a field that is not known.

    A factor of outputs scales the bias too, where the base has one.
    """
    config = read_peft_config(files[CONFIG], "IA3", Ia3Config, ("init_ia3_weights",))
    tensors = open_weights(files)
    parts, whole = split(tensors, (KEY,), (".ia3_",))
    feedforward = config.feedforward(sorted(parts))
    added: dict[str, Delta] = {}
    for module, own in parts.items():
        factors = part(own, KEY, module)
        is_input = module in feedforward
        _check_vector(factors, is_input)
        axis = _axis(factors, is_input, config.fan_in_fan_out)
        added[f"{module}.weight"] = Scale(factors, axis, (factors.spec.size,) * (axis + 1))
        if not is_input:
            added[f"{module}.bias"] = Scale(factors, 0, (factors.spec.size,))
    deltas = with_copies(added, whole)
    biases = frozenset(name for name in added if name.endswith(".bias"))
    base = config.base_model_name_or_path
    return Artefact(NAME, "delta", deltas, tensors, heads(deltas), base, optional=biases)


def _check_vector(factors: StoredTensor, is_input: bool) -> None:
    """Raise FileError unless the shape is one that PEFT gives: [n, 1] or [1, n], and [1, n, 1, …] for a kernel."""
    shape = factors.spec.shape
    is_kernel = len(shape) > 2 and shape[0] == 1 and set(shape[2:]) == {1}
    is_matrix = len(shape) == 2 and shape[0 if is_input else 1] == 1
    if factors.spec.size == 0 or not (is_kernel or is_matrix):
        expected = "[1, inputs]" if is_input else "[outputs, 1]"
        raise misfit("not the factors of a module", (factors,), f"{expected}, or [1, n, 1, …] of a convolution")


def _axis(factors: StoredTensor, is_input: bool, is_transposed: bool) -> int:
    return int(is_input) ^ int(is_transposed and len(factors.spec.shape) == 2)
