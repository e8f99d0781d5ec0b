"""What names a survey's result: everything that it was computed from, and nothing else.

Files are told by their marks, so equal keys mean equal bytes: a renamed repo, another weight that the survey does
not read, another scale or dtype of the output all lead to the same key.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any

from merge_core.methods import Method
from merge_core.plan import ENGINE
from merge_core.planning.tensors import Merge
from merge_core.stored import StoredTensor

WEIGHTS = "weights"
"""What a method names in `survey_ignores` beside its parameters."""

Marks = Mapping[Path, str]


def survey_key(merges: Sequence[Merge], marks: Marks) -> str | None:
    """64 hex digits for the tensors that share a survey, in order; None where a file's content is not known."""
    try:
        told = [_survey(merge, marks) for merge in merges]
    except LookupError:
        return None
    return sha256(json.dumps([ENGINE, told], sort_keys=True).encode()).hexdigest()


def _survey(merge: Merge, marks: Marks) -> list[Any]:
    method, ignored = merge.method, merge.method.survey_ignores
    parameters = method.model_dump(mode="json", exclude=set(ignored))
    unread = {"spec", "method", "scale", *({WEIGHTS} & ignored)}
    rest = {field.name: _told(getattr(merge, field.name), marks) for field in fields(merge) if field.name not in unread}
    return [method.title(), parameters, merge.spec.name, list(merge.shape), rest]


def _told(thing: object, marks: Marks) -> Any:
    """A delta, a nested merge or a part of one as JSON-ready data. Raises LookupError for what is not known."""
    if isinstance(thing, StoredTensor):
        if thing.path is None:
            raise LookupError(thing.file)
        return [marks[thing.path], thing.begin, thing.spec.dtype.code, list(thing.spec.shape)]
    if isinstance(thing, Method):
        return thing.model_dump(mode="json")
    if isinstance(thing, Enum):
        return thing.name
    if is_dataclass(thing):
        return [type(thing).__name__, *(_told(getattr(thing, field.name), marks) for field in fields(thing))]
    if isinstance(thing, tuple | list):
        return [_told(part, marks) for part in thing]
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    raise LookupError(type(thing).__name__)
