"""An adapter as PEFT loads it: factors of what is low-rank or is made so, and trained copies of the rest.

Merged into the base by PEFT it gives the weights of the same recipe as a checkpoint, but for what a rank cuts off.
"""

from functools import partial

from merge_core.errors import RecipeError
from merge_core.formats.safetensors_file import read_json
from merge_core.layout import lay_out
from merge_core.outputs.contract import Arranged, Wish
from merge_core.outputs.lora_config import CONFIG, adapter_config
from merge_core.outputs.lora_modules import Held, hold
from merge_core.outputs.lora_sink import FILE, LoraSink, noted_errors
from merge_core.planning.factors import Built, Factors
from merge_core.side_files import card
from merge_core.sources import Source


def arrange(wish: Wish) -> Arranged:
    """Raises RecipeError without a base, for a dtype, and for tensors that PEFT's LoRA cannot hold."""
    if wish.base is None:
        message = "an adapter says what differs from the base"
        raise RecipeError(message, where="base", found="nothing", expected="the base's name")
    if wish.recipe.dtype != "same":
        message = "an adapter's factors are float32, and its copies are of the base's types"
        raise RecipeError(message, where="dtype", found=wish.recipe.dtype, expected="same")
    base_config = _config(wish.donor)
    held = hold(wish, wish.base, base_config)
    tensors = _tensors(held)
    zeros = dict.fromkeys((factors.spec.name for factors in held.factors.values()), 0.0)
    [shard] = lay_out(held.specs(), 2**63, {**wish.metadata, **noted_errors(zeros)}, FILE.removesuffix(".safetensors"))
    notes = (*wish.notes, *held.notes)
    side_files = {CONFIG: adapter_config(held, wish.recipe, base_config), "README.md": card(wish.recipe, notes)}
    open_sink = partial(LoraSink, slots=held.slots, metadata=wish.metadata, errors=zeros)
    return Arranged(tensors, (shard,), side_files, open_sink, notes)


def _tensors(held: Held) -> dict[str, Built]:
    """What is computed for each slot; the two slots of a pair of factors share theirs."""
    pairs: dict[str, Factors] = {}
    for factors in held.factors.values():
        pairs |= {factors.a.name: factors, factors.b.name: factors}
    return {**pairs, **{slot: held.whole[name] for name, slot in held.slots.items()}}


def _config(donor: Source) -> dict[str, object]:
    return read_json(donor.files["config.json"], "config.json") if "config.json" in donor.files else {}
