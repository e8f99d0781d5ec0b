"""A head that is tied to the embeddings by a config: one of its own would be written, and never read."""

from collections.abc import Callable, Container, Mapping

from merge_core.errors import RecipeError
from merge_core.formats.safetensors_file import read_json
from merge_core.sources import Source

CONFIG = "config.json"
HEAD = "lm_head.weight"
CAUSAL = ("ForCausalLM", "LMHeadModel")
"""How the classes of models with that head end."""


def check_head(tensors: Container[str], donor: Source, donors_own: Callable[[], Container[str]]) -> None:
    """Raise RecipeError when a result with a head of its own would get a config that ties it to the embeddings.

    A donor that is tied and has the tensor all the same (some checkpoints do) knows what it says.
    """
    if HEAD not in tensors or not ties_its_head(donor):
        return
    if HEAD not in donors_own():
        found = f"a head of its own in an ingredient, where the config of '{donor.name}' ties it to the embeddings"
        expected = f"models that are all tied or all untied, or a rule in `tensors` {{match: '{HEAD}', take: base}}"
        message = "the head would be written and never read"
        raise RecipeError(message, where=f"tensor '{HEAD}'", found=found, expected=expected)


def ties_its_head(source: Source) -> bool:
    """Whether the source has a config, and that ties the head to the embeddings."""
    return CONFIG in source.files and is_tied(read_json(source.files[CONFIG], CONFIG))


def has_head(config: Mapping[str, object]) -> bool:
    """Whether the config is of a language model with `lm_head`."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else ""
    return isinstance(first, str) and first.endswith(CAUSAL)


def is_tied(config: Mapping[str, object]) -> bool:
    inner = config.get("text_config")
    holder = config if "tie_word_embeddings" in config or not isinstance(inner, dict) else inner
    return holder.get("tie_word_embeddings") is True
