"""Which weights of a model are stored [in, out]: those of the Conv1D modules that GPT-2 and its kin have.

PEFT decides by a module's class; a checkpoint has no classes, but its config says which of transformers' models
it is, and those with Conv1D are few (transformers 5: the users of `transformers.pytorch_utils.Conv1D`).
"""

from collections.abc import Mapping

MODULES: Mapping[str, frozenset[str]] = {
    "gpt2": frozenset({"c_attn", "q_attn", "c_proj", "c_fc"}),
    "openai-gpt": frozenset({"c_attn", "c_proj", "c_fc"}),
    "imagegpt": frozenset({"c_attn", "q_attn", "c_proj", "c_fc"}),
    "decision_transformer": frozenset({"c_attn", "q_attn", "c_proj", "c_fc"}),
    "clvp": frozenset({"c_attn", "c_proj", "c_fc"}),
}


def is_conv1d(weight: str, model_type: str | None) -> bool:
    """Whether the tensor `weight` (`h.0.attn.c_attn.weight`) is of a Conv1D in a model of this type."""
    module, _, part = weight.rpartition(".")
    return part == "weight" and module.rpartition(".")[2] in MODULES.get(model_type or "", ())
