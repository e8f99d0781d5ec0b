"""Which weights are written as factors, of what rank, and what PEFT calls them."""

import re
from collections.abc import Mapping

from merge_core.conv1d import is_conv1d
from merge_core.deltas import Replacement
from merge_core.errors import RecipeError
from merge_core.methods.linear import Linear
from merge_core.planning.factors import (
    Factors,
    Form,
    factored,
    inner_rank,
    is_low_rank,
    matrix_shape,
    published,
    without_repeats,
)
from merge_core.planning.tensors import Copy, Merge, TensorPlan
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec

PREFIX = "base_model.model."
LINEAR = ".lora_A.weight", ".lora_B.weight"
EMBEDDING = ".lora_embedding_A", ".lora_embedding_B"

_EMBEDS = re.compile(r"emb|^(wte|wpe|shared|relative_attention_bias)$")
"""The last part of an embedding's name. PEFT has factors of another kind for these; they are kept whole unless the
inputs have such factors."""


def merge_to_hold(plan: TensorPlan, base: StoredTensor | None) -> Merge | None:
    """The weight's merge on the base, a plain copy as one of a single input; None where nothing can be factored."""
    if base is None or not plan.spec.dtype.mergeable or plan.spec.size == 0 or plan.spec.shape != base.spec.shape:
        return None
    if isinstance(plan, Copy):
        return Merge(plan.spec, Linear(), (1.0,), 1.0, 0, base, (Replacement(plan.stored),))
    return without_repeats(plan, base) if plan.base is base else None


class FactorPlanner:
    """Plans factors of at most `rank`; of any that the inputs add up to where that is None."""

    def __init__(self, rank: int | None, config: Mapping[str, object]) -> None:
        found = config.get("model_type")
        self._rank = rank
        self._model_type = found if isinstance(found, str) else None

    def plan(self, module: str, merge: Merge) -> Factors | None:
        """The weight's factors; None for one that PEFT holds better as a copy.

        Raises RecipeError for a matrix that is not of low rank when no rank is given.
        """
        if is_low_rank(merge) and len(merge.shape) >= 2:
            return self._of_inputs(module, merge)
        if not _is_decomposed(module, merge.shape):
            return None
        if self._rank is None:
            kinds = ", ".join(sorted({"recipe" if isinstance(entry, Merge) else entry.kind for entry in merge.inputs}))
            message = "the merged delta is not of low rank, so that factors of it are an approximation"
            found, expected = f"{merge.method.title()} of {kinds}", "output.rank, such as 16, to allow one"
            raise RecipeError(message, where=f"tensor '{merge.spec.name}'", found=found, expected=expected)
        rank = min(self._rank, *matrix_shape(merge.shape))
        flipped = is_conv1d(merge.spec.name, self._model_type)
        return _factors(module, merge, rank, "decomposed", LINEAR, flipped)

    def _of_inputs(self, module: str, merge: Merge) -> Factors:
        inner, given = inner_rank(merge), [part for entry in factored(merge) for part in published(entry)]
        form: Form = "joined" if self._rank is None or inner <= self._rank else "shortened"
        rank = inner if form == "joined" else min(self._rank or inner, *matrix_shape(merge.shape))
        is_embedding = any(entry.lora_a.spec.name.endswith(EMBEDDING[0]) for entry in given)
        flipped = len(merge.shape) == 2 and any(entry.transposed for entry in given)
        return _factors(module, merge, rank, form, EMBEDDING if is_embedding else LINEAR, flipped)


def _is_decomposed(module: str, shape: tuple[int, ...]) -> bool:
    """Whether the weight is taken for that of a linear layer, or of a plain convolution of images.

    Depthwise and other convolutions, and what embeds, come out right as copies whatever their class is.
    """
    is_matrix = len(shape) == 2 and not _EMBEDS.search(module.rpartition(".")[2])
    return is_matrix or (len(shape) == 4 and shape[1] > 1)


def _factors(module: str, merge: Merge, rank: int, form: Form, parts: tuple[str, str], flipped: bool) -> Factors:
    rows, *rest = merge.shape
    inside, outside = (rows, rest[0]) if flipped else (None, rows)
    a_shape = (rank, *(rest if inside is None else [inside]))
    b_shape = (outside, rank, *[1] * (len(merge.shape) - 2))
    a = TensorSpec(f"{PREFIX}{module}{parts[0]}", DType.F32, a_shape)
    b = TensorSpec(f"{PREFIX}{module}{parts[1]}", DType.F32, b_shape)
    return Factors(merge, a, b, form, flipped)
