"""A model as mergekit refers to it: `path`, `path@revision`, `path+adapter`, or the same spelt out as a mapping."""

from dataclasses import dataclass
from typing import Any

from merge_core.errors import RecipeError, UnsupportedError, nearest


@dataclass(frozen=True, slots=True)
class Reference:
    """A model, or a model with an adapter on top."""

    model: str
    adapter: str | None = None

    def __str__(self) -> str:
        return self.model if self.adapter is None else f"{self.model}+{self.adapter}"

    @property
    def source(self) -> Any:
        """The reference as a recipe's source."""
        if self.adapter is None:
            return self.model
        return {"base": self.model, "method": "task_arithmetic", "ingredients": [{"source": self.adapter}]}


def read_reference(value: Any, where: str) -> Reference:
    """Raises RecipeError for what is no reference, UnsupportedError for an architecture that is overridden."""
    if isinstance(value, dict):
        return _spelt_out(value, where)
    if not isinstance(value, str) or not value:
        raise RecipeError(
            "not a model", where=where, found=repr(value)[:80], expected="path, path@revision or path+adapter"
        )
    model, plus, adapter = value.partition("+")
    if "+" in adapter or not model or (plus and not adapter):
        raise RecipeError("not a model", where=where, found=repr(value)[:80], expected="path or path+adapter")
    return Reference(model, adapter or None)


def _spelt_out(value: dict[str, Any], where: str) -> Reference:
    _refuse_unknown(value, ("model", "lora", "override_architecture"), where)
    if value.get("override_architecture") is not None:
        message = "override_architecture is not supported"
        raise UnsupportedError(message, where=where, expected="nothing: names and shapes say what a model is")
    model = value.get("model")
    if isinstance(model, str):
        inner = read_reference(model, f"{where}.model")
        lora = value.get("lora")
        if lora is None or inner.adapter is not None:
            return inner
        return Reference(inner.model, _path(lora, f"{where}.lora"))
    lora = value.get("lora")
    return Reference(_path(model, f"{where}.model"), None if lora is None else _path(lora, f"{where}.lora"))


def _path(value: Any, where: str) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, dict):
        _refuse_unknown(value, ("path", "revision"), where)
        path, revision = value.get("path"), value.get("revision")
        if isinstance(path, str) and path and (revision is None or isinstance(revision, str)):
            return path if revision is None else f"{path}@{revision}"
    raise RecipeError("not a model", where=where, found=repr(value)[:80], expected="a path, or {path, revision}")


def _refuse_unknown(value: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in value:
        if key not in known:
            raise RecipeError(
                "unknown key", where=f"{where}.{key[:80]}", found=repr(key[:80]), expected=nearest(key, known)
            )
