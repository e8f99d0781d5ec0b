"""Which statistics of its ingredients a merge reads; what is missing or misshapen is refused here."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from merge_core.alignment import align
from merge_core.errors import RecipeError
from merge_core.formats.statistics import read_statistic
from merge_core.methods import Method
from merge_core.sources import FileTree
from merge_core.statistics import Statistic
from merge_core.stored import StoredTensor
from merge_core.tensors import TensorSpec

Published = Mapping[str, StoredTensor]


class Publisher(Protocol):
    """An ingredient, as far as it matters here."""

    @property
    def label(self) -> str: ...

    @property
    def statistics(self) -> Published: ...


def published(method: Method, files: FileTree, label: str, base: Mapping[str, object] | None) -> Published:
    """What an ingredient of these files publishes for the method, under the base's names. RecipeError for nothing."""
    statistic = method.statistic
    assert statistic is not None, "asked only for methods that read one"
    found = read_statistic(files, statistic)
    if found is None:
        message = f"{method.title()} reads statistics that an ingredient does not publish"
        expected = "one beside its weights, see docs/statistics.md"
        raise RecipeError(message, where="ingredients", found=f"no {statistic.file} in {label}", expected=expected)
    names = {} if base is None else align(found, base)
    return {names.get(name, name): stored for name, stored in found.items()}


def statistics_of(method: Method, frame: TensorSpec, inputs: Sequence[Publisher]) -> tuple[StoredTensor, ...]:
    """One for each ingredient, or none where the method reads none for this tensor. Raises RecipeError."""
    statistic = method.statistic
    if statistic is None:
        return ()
    found = [entry.statistics.get(frame.name) for entry in inputs]
    if not statistic.is_of_each_weight and all(stored is None for stored in found):
        return ()
    return tuple(_checked(stored, statistic, frame, entry) for stored, entry in zip(found, inputs, strict=True))


def _checked(stored: StoredTensor | None, statistic: Statistic, frame: TensorSpec, entry: Publisher) -> StoredTensor:
    shape = statistic.shape(frame.shape)
    if stored is not None and stored.spec.shape == shape:
        return stored
    what = "nothing" if stored is None else f"{list(stored.spec.shape)}"
    wanted = "nothing" if shape is None else f"float32 {list(shape)}"
    raise RecipeError(
        "the statistic is missing" if stored is None else "the statistic has another shape",
        where=f"tensor '{frame.name}'",
        found=f"{what} in {statistic.file} of {entry.label}",
        expected=f"{wanted}, or a rule in `tensors` such as {{match: '{frame.name}', take: 0}}",
    )
