"""adapter_config.json of any kind that PEFT writes: which kind it is, and its fields, checked.

A field that we do not know, with a value that switches something on, is refused by name: reading on would
give wrong weights without a word.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.module_pattern import first_matches
from merge_core.formats.safetensors_file import read_json
from merge_core.sources import FileTree

T = TypeVar("T")

CONFIG = "adapter_config.json"
MOST_BYTES = 1_000_000

SHARED = frozenset(
    """
    auto_mapping base_model_name_or_path bias exclude_modules inference_mode init_weights layers_pattern
    layers_to_transform modules_to_save peft_type peft_version revision target_modules task_type
    """.split()  # noqa: SIM905 - a list of thirteen quoted names is harder to read
)
"""Fields of every kind that have no say in the merged weight."""

Alpha = Annotated[float, Field(ge=-(2.0**32), le=2.0**32)]
Rank = Annotated[int, Field(ge=1, le=65536)]


class PeftConfig(BaseModel):
    """The fields that decide the delta; a kind of adapter adds its own."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, strict=True)

    base_model_name_or_path: Annotated[str, Field(max_length=4096)] | None = None


Kind = TypeVar("Kind", bound=PeftConfig)


def peft_type(files: FileTree) -> str | None:
    """The kind of adapter that the config names; None where there is no config, or a broken one."""
    if CONFIG not in files:
        return None
    try:
        kind = read_json(files[CONFIG], CONFIG, MOST_BYTES).get("peft_type")
    except FileError:
        return None
    return kind if isinstance(kind, str) else None


def read_peft_config(path: Path, kind: str, model: type[Kind], harmless: Collection[str]) -> Kind:
    """The config as `model`; `harmless` are further fields without a say in the weights.

    Raises FileError for a malformed config, UnsupportedError for a variant whose weights mean something else.
    """
    content = read_json(path, CONFIG, MOST_BYTES)
    return validated(known_fields(content, kind, {*harmless, *model.model_fields}), model)


def known_fields(content: Mapping[str, Any], kind: str, known: Collection[str]) -> Mapping[str, Any]:
    """The config's fields. Raises UnsupportedError for another kind, and for an unknown field that is set."""
    if content.get("peft_type") != kind:
        where, found = f"{CONFIG}: peft_type", repr(content.get("peft_type"))[:80]
        raise UnsupportedError("this kind of adapter is not read", where=where, found=found, expected=kind)
    for field, value in content.items():
        if field not in SHARED and field not in known and value not in (None, False, "", [], {}):
            where, found = f"{CONFIG}: {field[:200]}", repr(value)[:80]
            message = "this field changes what the weights mean"
            raise UnsupportedError(message, where=where, found=found, expected="unset")
    return content


def validated(content: Mapping[str, Any], model: type[Kind]) -> Kind:
    """The fields as `model`. Raises FileError that names the first field that is malformed."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{CONFIG}: {'.'.join(str(part) for part in first['loc'])[:200]}"
        raise FileError(first["msg"], where=where, found=repr(first["input"])[:80]) from error


def by_pattern(patterns: Mapping[str, T] | None, modules: Sequence[str], default: T, field: str) -> dict[str, T]:
    """Each module's value: that of the first pattern it falls under, or the default."""
    keys = first_matches(patterns or {}, modules, f"{CONFIG}: {field}")
    return {module: patterns[keys[module]] if patterns and module in keys else default for module in modules}
