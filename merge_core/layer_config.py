"""What a config says of its layers, once they are put together anew."""

from collections.abc import Sequence

from merge_core.errors import RecipeError

DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
PER_LAYER = ("layer_types", "mlp_layer_types", "attention_layers")
"""Lists with an entry for each layer."""
INNER = ("text_config", "llm_config", "language_config")


def set_layers(config: dict[str, object], origins: Sequence[int]) -> None:
    """Make `config` that of a model whose layer k is what layer `origins[k]` was.

    Raises RecipeError where the config does not say how many layers there are.
    """
    holders = [config, *(inner for key in INNER if isinstance(inner := config.get(key), dict))]
    counted = [(holder, key) for holder in holders for key in DEPTHS if key in holder]
    if not counted:
        expected = "one of " + ", ".join(DEPTHS)
        raise RecipeError("the config has no number of layers to change", where="config.json", expected=expected)
    for holder, key in counted:
        holder[key] = len(origins)
    for holder in holders:
        for key in PER_LAYER:
            if isinstance(kinds := holder.get(key), list):
                holder[key] = [kinds[min(origin, len(kinds) - 1)] for origin in origins] if kinds else []
