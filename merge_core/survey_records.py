"""What surveys have found, kept so that the next build over the same inputs need not survey again.

A record is the sha256 of its key and content, then the content: JSON, with arrays in base64. One that does not
match, or is no state of its method, counts as none.
"""

import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from hashlib import sha256
from typing import Any, Protocol

import numpy as np

from merge_core.methods import Method, State, searches
from merge_core.planning.tensors import Merge
from merge_core.run import Run
from merge_core.survey_keys import Marks, survey_key

MOST_BYTES = 16 << 20
DIGEST_BYTES = 32
KEPT_AT_ONCE = 256

Classes = Mapping[str, type]


class SurveyRecords(Protocol):
    """Where records lie. It may lose any of them, and give back what it was not given."""

    def get(self, keys: Collection[str]) -> Mapping[str, bytes]: ...

    def put(self, records: Mapping[str, bytes]) -> None: ...


class Memory:
    """One build's view of the records: all are asked for at once, new ones are put a few hundred at a time."""

    def __init__(self, records: SurveyRecords | None, marks: Marks) -> None:
        self._records, self._marks = records, marks
        self._keys: dict[tuple[int, int], str | None] = {}
        self._known: dict[str, bytes] = {}
        self._new: dict[str, bytes] = {}

    def unknown(self, units: Iterable[Sequence[Merge]]) -> list[Sequence[Merge]]:
        """Those units, the tensors that share a survey, of which there is no usable record."""
        asked = list(units)
        if self._records is not None:
            keys = {key for unit in asked if (key := self._key(unit)) is not None}
            found = self._records.get(keys) if keys else {}
            self._known = {key: found[key] for key in keys if key in found and _is_sound(key, found[key])}
        return [unit for unit in asked if self._key(unit) not in self._known]

    def recall(self, runs: Sequence[Run]) -> bool:
        """Give the runs of one unit the state that a survey has found before; False where there is none."""
        key = self._key([run.merge for run in runs])
        content = None if key is None else self._known.get(key)
        if content is None:
            return False
        try:
            states = [
                _decoded(state, _classes(type(run.merge.method)))
                for run, state in zip(runs, json.loads(content[DIGEST_BYTES:]), strict=True)
            ]
        except (ValueError, TypeError, KeyError, RecursionError):  # not of this method, whatever it is
            return False
        for run, state in zip(runs, states, strict=True):
            run.state = state
        return True

    def keep(self, runs: Sequence[Run]) -> None:
        """Remember what the survey of a unit has found; a survey of several tensors is put at once."""
        key = self._key([run.merge for run in runs])
        if key is None or all(run.state is None for run in runs):
            return
        try:
            states = [_encoded(run.state, _classes(type(run.merge.method))) for run in runs]
        except TypeError:  # a state of a form that is not kept
            return
        content = json.dumps(states, separators=(",", ":")).encode()
        if len(content) <= MOST_BYTES:
            self._new[key] = _digest(key, content) + content
        if len(runs) > 1 or len(self._new) >= KEPT_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Put what is new."""
        if self._records is not None and self._new:
            self._records.put(self._new)
        self._new = {}

    def _key(self, merges: Sequence[Merge]) -> str | None:
        if self._records is None:
            return None
        unit = id(merges[0]), len(merges)  # the plan keeps its merges, so their ids are theirs alone
        if unit not in self._keys:
            self._keys[unit] = survey_key(merges, self._marks)
        return self._keys[unit]


def _digest(key: str, content: bytes) -> bytes:
    return sha256(key.encode() + content).digest()


def _is_sound(key: str, record: bytes) -> bool:
    content = record[DIGEST_BYTES:]
    return len(record) <= MOST_BYTES + DIGEST_BYTES and record[:DIGEST_BYTES] == _digest(key, content)


@cache
def _classes(method: type[Method]) -> Classes:
    """The records that a method's states are made of: those that its module, or one it builds on, knows by name."""
    names = [kind.__module__ for kind in method.__mro__ if kind.__module__.startswith("merge_core.methods.")]
    modules = [sys.modules[name] for name in dict.fromkeys([*names, searches.__name__])]
    return {name: thing for module in modules for name, thing in vars(module).items() if _is_record(thing)}


def _is_record(thing: object) -> bool:
    return isinstance(thing, type) and (is_dataclass(thing) or (issubclass(thing, tuple) and hasattr(thing, "_fields")))


def _encoded(state: State, classes: Classes) -> Any:
    """JSON-ready. Raises TypeError for what is not kept."""
    if state is None or type(state) in (bool, int, float, str):
        return state
    if isinstance(state, np.ndarray | np.generic):
        array = np.asarray(state)
        if array.dtype.kind not in "iufb":
            raise TypeError(array.dtype)
        text = b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return {"array": [array.dtype.str, array.shape, text, isinstance(state, np.generic)]}
    name = type(state).__name__
    if classes.get(name) is type(state):
        return {"record": [name, [_encoded(getattr(state, field), classes) for field in _fields(type(state))]]}
    if type(state) is tuple:
        return [_encoded(part, classes) for part in state]
    raise TypeError(name)


def _decoded(data: Any, classes: Classes) -> State:
    """What `_encoded` was given. Raises ValueError, TypeError or KeyError for anything else."""
    if isinstance(data, list):
        return tuple(_decoded(part, classes) for part in data)
    if not isinstance(data, dict):
        return data
    if "array" in data:
        dtype, shape, text, is_scalar = data["array"]
        array = np.frombuffer(b64decode(text, validate=True), dtype=dtype).reshape(shape).copy()
        return array[()] if is_scalar else array
    name, values = data["record"]
    names = _fields(classes[name])
    return classes[name](**{field: _decoded(value, classes) for field, value in zip(names, values, strict=True)})


def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else tuple(kind._fields)
