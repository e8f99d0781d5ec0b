"""One mergekit document, its keys checked: what is misspelt is refused by name, where mergekit takes no notice."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from merge_core.errors import InputError, RecipeError, nearest
from merge_core.mergekit.reference import Reference, read_reference

MOST_ENTRIES = 256


def _reference(value: Any) -> Any:
    try:
        return value if isinstance(value, Reference) else read_reference(value, "")
    except InputError as error:
        raise PydanticCustomError("misfit", error.message, {"found": error.found, "expected": error.expected}) from None


Model = Annotated[Reference, BeforeValidator(_reference)]
Parameters = dict[str, Any]
Layer = Annotated[int, Field(ge=0, le=100_000)]


class Keys(BaseModel):
    """A mapping with exactly these keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class InputModel(Keys):
    """An input, whole."""

    model: Model
    parameters: Parameters | None = None


class InputSlice(Keys):
    """Layers of an input."""

    model: Model
    layer_range: tuple[Layer, Layer]
    parameters: Parameters | None = None


class OutputSlice(Keys):
    """Layers of the output, and the inputs they are merged from."""

    sources: Annotated[list[InputSlice], Field(min_length=1, max_length=MOST_ENTRIES)]
    base_model: Model | None = None
    parameters: Parameters | None = None


class Module(Keys):
    """A part of a model with layers of its own."""

    slices: Annotated[list[OutputSlice], Field(max_length=MOST_ENTRIES)] | None = None
    models: Annotated[list[InputModel], Field(max_length=MOST_ENTRIES)] | None = None
    parameters: Parameters | None = None


class TokenFrom(Keys):
    """Whose embedding a token gets: a model's token, or zeros."""

    kind: Literal["model_token", "zero"]
    model: Model | None = None
    token_id: Annotated[int, Field(strict=True, ge=0)] | None = None
    token: str | None = None


class Token(Keys):
    """What is said of one token's embedding."""

    source: TokenFrom | Model | None = None
    force: bool = False


class Tokenizer(Keys):
    """Whose tokenizer the output has, and exceptions for single tokens."""

    source: Model = Reference("union")
    tokens: dict[str, Token] | None = None
    pad_to_multiple_of: Annotated[int, Field(strict=True, ge=1)] | None = None


class Document(Keys):
    """A merge configuration; `name` is what other documents of the same file call its output."""

    name: Annotated[str, Field(strict=True, min_length=1)] | None = None
    merge_method: Annotated[str, Field(strict=True)]
    base_model: Model | None = None
    models: Annotated[list[InputModel], Field(max_length=MOST_ENTRIES)] | None = None
    slices: Annotated[list[OutputSlice], Field(max_length=MOST_ENTRIES)] | None = None
    modules: dict[str, Module] | None = None
    parameters: Parameters | None = None
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: Model | None = None
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None


def read_document(data: object) -> Document:
    """The document in `data`; RecipeError names the key that is wrong, what was found and what was expected."""
    try:
        return Document.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        unknown = (problem for problem in problems if problem["type"] == "extra_forbidden")
        raise _refusal(next(unknown, problems[0])) from None


def _refusal(problem: Any) -> RecipeError:
    where, found = _path(problem["loc"]), repr(problem.get("input"))[:80]
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])[:80]
        return RecipeError("unknown key", where=where, found=repr(key), expected=nearest(key, _known(problem["loc"])))
    if problem["type"] == "misfit":
        context = problem["ctx"]
        return RecipeError(problem["msg"], where=where, found=context["found"], expected=context["expected"])
    if problem["type"] == "missing":
        return RecipeError("a required key is missing", where=where, found="nothing", expected=repr(problem["loc"][-1]))
    expected = str(problem["msg"]).removeprefix("Input should be ")
    return RecipeError("the value is not acceptable", where=where, found=found, expected=expected)


def _path(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in location if part != "TokenFrom"]
    return "".join(parts).lstrip(".") or "document"


def _known(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping around an unknown one can have."""
    owners: dict[str, type[Keys]] = {
        "models": InputModel,
        "slices": OutputSlice,
        "sources": InputSlice,
        "modules": Module,
        "tokenizer": Tokenizer,
        "tokens": Token,
        "TokenFrom": TokenFrom,
    }
    owner = next((owners[part] for part in reversed(location[:-1]) if part in owners), Document)
    return list(owner.model_fields)
