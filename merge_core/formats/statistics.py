"""Statistics files: float32 tensors under the names of the weights that they belong to."""

from collections.abc import Mapping

from merge_core.errors import FileError, nearest
from merge_core.formats.artefact import Artefact
from merge_core.formats.safetensors_file import open_tensors
from merge_core.sources import FileTree
from merge_core.statistics import DTYPE, Statistic
from merge_core.stored import StoredTensor


def read_statistic(files: FileTree, statistic: Statistic) -> Mapping[str, StoredTensor] | None:
    """The statistic by weight name, None where it is not published. Raises FileError for another dtype."""
    if statistic.file not in files:
        return None
    found = open_tensors(files[statistic.file], statistic.file)
    for name, stored in found.items():
        if stored.spec.dtype is not DTYPE:
            message = "a statistic has another dtype"
            raise FileError(message, where=_where(statistic, name), found=stored.spec.dtype.label, expected=DTYPE.label)
    return found


def check_statistics(files: FileTree, artefact: Artefact) -> list[str]:
    """The statistics published beside the artefact, by file name.

    Raises FileError for one of no weight of a full checkpoint, or of another shape than its weight's.
    """
    published = [statistic for statistic in Statistic if statistic.file in files]
    for statistic in published:
        for name, stored in (read_statistic(files, statistic) or {}).items():
            _check(statistic, name, stored.spec.shape, artefact)
    return [statistic.file for statistic in published]


def _check(statistic: Statistic, name: str, shape: tuple[int, ...], artefact: Artefact) -> None:
    weight = artefact.deltas.get(name)
    if weight is None:
        if artefact.complete:
            expected, message = nearest(name, artefact.deltas), "a statistic belongs to no weight"
            raise FileError(message, where=_where(statistic, name), found="no such weight", expected=expected)
        return
    expected_shape = statistic.shape(weight.shape)
    if shape != expected_shape:
        of = f"for a weight {list(weight.shape)}"
        expected = f"none {of}" if expected_shape is None else f"{list(expected_shape)} {of}"
        message = "a statistic has another shape"
        raise FileError(message, where=_where(statistic, name), found=list(shape), expected=expected)


def _where(statistic: Statistic, name: str) -> str:
    return f"{statistic.file}: tensor '{name[:200]}'"
