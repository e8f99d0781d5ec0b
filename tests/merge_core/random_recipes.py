"""Random small models and recipes over them: every method with parameters from its own schema, every output kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from hypothesis import strategies as st
from safetensors.torch import save_file

from merge_core.errors import RecipeError
from merge_core.formats.patch import METADATA, patch_metadata
from merge_core.methods import METHODS, Method
from tests.merge_core.building import write_adapter, write_model
from tests.merge_core.oracles_statistics import write_statistics

FLOATS = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
OTHERS = [torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn]
SHAPES = [(2, 3), (3, 2), (4,), (), (0, 3), (5, 0), (0,), (1, 1), (2, 3, 1), (2, 3, 2, 2)]
ORDINARY = {
    "embed.weight": ((3, 2), torch.float32),
    "layers.0.a.weight": ((2, 3), torch.float32),
    "layers.1.a.weight": ((2, 3), torch.bfloat16),
    "layers.1.b.bias": ((4,), torch.float32),
    "head.weight": ((3, 2), torch.float16),
}
NAMES = [*ORDINARY, "layers.2.a.weight", "ids"]
MODULES = ["layers.0.a", "layers.1.a", "head", "embed"]
SOURCES = ["m0", "m1", "m2", "lora", "lora2", "patch"]
STATISTICS = st.sampled_from(["all", "some", "other shapes", "none"])

Specs = dict[str, tuple[tuple[int, ...], torch.dtype]]


@dataclass(frozen=True)
class Stock:
    """What lies on disk: three checkpoints with their statistics, two adapters and a patch."""

    models: list[Specs]
    statistics: list[str]
    adapters: list[dict[str, tuple[int, int, int]]]
    adapter_dtype: torch.dtype
    spread: float

    def write(self, root: Path) -> None:
        for position, specs in enumerate(self.models):
            tensors = {name: self._values(f"{position}", name, *spec) for name, spec in specs.items()}
            write_model(root / f"m{position}", tensors)
            (root / f"m{position}" / "config.json").write_text('{"num_hidden_layers": 2}')
            self._write_statistics(root / f"m{position}", position, specs)
        for name, modules in zip(("lora", "lora2"), self.adapters, strict=True):
            ranks = {module: self._factors(name, module, *sizes) for module, sizes in modules.items()}
            write_adapter(root / name, ranks)
            write_statistics(root / name, 7, {key: shape for key, (shape, _) in ORDINARY.items()})
        _write_patch(root / "patch")

    def _values(self, model: str, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Near those of the other models; integers are the same in all."""
        common = _normal(name, shape)
        if dtype not in FLOATS:
            return (common * 3).to(dtype)
        return (common + self.spread * _normal(model + name, shape)).to(dtype)

    def _factors(self, adapter: str, module: str, rank: int, rows: int, columns: int) -> tuple[torch.Tensor, ...]:
        a, b = _normal(f"{adapter}{module}A", (rank, columns)), _normal(f"{adapter}{module}B", (rows, rank))
        return (self.spread * a).to(self.adapter_dtype), b.to(self.adapter_dtype)

    def _write_statistics(self, folder: Path, position: int, specs: Specs) -> None:
        kind = self.statistics[position]
        shapes = {name: shape for name, (shape, _) in specs.items()}
        if kind == "some":
            shapes = dict(list(shapes.items())[1:])
        if kind == "other shapes":
            shapes = {name: (*shape, 2) for name, shape in shapes.items()}
        if kind != "none":
            write_statistics(folder, position, shapes)


def _normal(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(crc32(key.encode())))


def _write_patch(folder: Path) -> None:
    folder.mkdir()
    name = "layers.0.a.weight"
    tensors = {f"{name}.indices": torch.tensor([1, 4], dtype=torch.int32), f"{name}.values": torch.tensor([0.5, -2.0])}
    save_file(tensors, folder / "patch.safetensors", metadata={METADATA: patch_metadata({name: (2, 3)})})


def rarely(unusual: st.SearchStrategy[Any], usual: st.SearchStrategy[Any], chance: int = 12) -> st.SearchStrategy[Any]:
    """Once in `chance` times what is mostly refused, so that most recipes are not."""
    return st.sampled_from(range(chance)).flatmap(lambda number: usual if number else unusual)


@st.composite
def specs(draw: st.DrawFn) -> Specs:
    """The ordinary tensors, some of them changed, dropped or added."""
    chosen: Specs = dict(ORDINARY)
    other = st.tuples(st.sampled_from(SHAPES), rarely(st.sampled_from(OTHERS), st.sampled_from(FLOATS), 4))
    chosen |= draw(st.dictionaries(st.sampled_from(NAMES), other, max_size=2))
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=1)):
        chosen.pop(name, None)
    return chosen


def prefixed(one: Specs) -> Specs:
    return {f"bert.{name}": spec for name, spec in one.items()}


def adapters() -> st.SearchStrategy[dict[str, tuple[int, int, int]]]:
    """(rank, rows, columns) by module; mostly such as fit the ordinary tensors."""
    modules = st.lists(st.sampled_from(MODULES), min_size=1, max_size=3, unique=True)
    return st.tuples(rarely(modules.map(lambda some: [*some, "ids"]), modules), rarely(st.just(1), st.just(2), 4)).map(
        lambda pair: {name: (pair[1], *ORDINARY.get(f"{name}.weight", ((4, 3), None))[0]) for name in pair[0]}
    )


def stocks() -> st.SearchStrategy[Stock]:
    """A common kind of models; now and then one with a prefix, and ones that do not fit together."""
    alike = specs().map(lambda one: [one] * 3)
    ordinary = st.just([ORDINARY] * 3)
    odd = st.lists(specs(), min_size=3, max_size=3) | alike.map(lambda three: [*three[:2], prefixed(three[2])])
    return st.builds(
        Stock,
        rarely(odd, st.one_of(ordinary, alike), 6),
        rarely(st.lists(STATISTICS, min_size=3, max_size=3), st.just(["all"] * 3), 4),
        st.lists(adapters(), min_size=2, max_size=2),
        st.sampled_from(FLOATS),
        st.sampled_from([0.1, 0.1, 0.0, 3.0]),
    )


def values_of(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that the JSON schema of a parameter allows, its edges among them."""
    if "anyOf" in schema:
        return st.one_of([values_of(one) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "integer":
        low, high = schema["minimum"], schema.get("maximum", 10**30)
        return st.sampled_from(sorted({low, min(low + 1, high), min(low + 2, high), high}))
    if schema["type"] == "number":
        return _numbers(schema)
    if schema["type"] == "array":
        return st.lists(values_of(schema["items"]), max_size=4)
    if schema["type"] == "object" and "default" in schema:
        return st.just(schema["default"])
    if schema["type"] == "object":
        fields, required = schema.get("properties", {}), schema.get("required", ())
        needed = {name: values_of(one) for name, one in fields.items() if name in required}
        other = {name: values_of(one) for name, one in fields.items() if name not in required}
        return st.fixed_dictionaries(needed, optional=other)
    return {"boolean": st.booleans(), "null": st.none(), "string": st.sampled_from(SOURCES)}[schema["type"]]


def _numbers(schema: Mapping[str, Any]) -> st.SearchStrategy[float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -2.0))
    high = min(schema.get("maximum", schema.get("exclusiveMaximum", 2.0)), 2.0)
    low = max(low, -2.0)
    between = st.floats(low, high, exclude_min="exclusiveMinimum" in schema, exclude_max="exclusiveMaximum" in schema)
    edges = [schema[key] for key in ("minimum", "maximum") if key in schema and abs(schema[key]) <= 10.0]
    return st.sampled_from([*edges, (low + high) / 2]) | between


def settings_of(method: type[Method]) -> st.SearchStrategy[dict[str, Any]]:
    """The method with some of its parameters."""
    optional = {name: values_of(schema) for name, schema in parameters_of(method).items()}
    return st.fixed_dictionaries({"name": st.just(method.title())}, optional=optional)


@cache
def parameters_of(method: type[Method]) -> dict[str, Any]:
    whole = method.model_json_schema()
    schemas = _resolved(whole["properties"], whole.get("$defs", {}))
    return {name: schema for name, schema in schemas.items() if name != "name"}


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with what its references mean in their place."""
    if isinstance(schema, list):
        return [_resolved(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _resolved(value, definitions) for key, value in schema.items()}


def _not_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """In a rule null means that the rule does not say."""
    return next((one for one in schema.get("anyOf", ()) if one["type"] != "null"), schema)


def _is_plain(schema: Mapping[str, Any]) -> bool:
    return _not_null(schema).get("type") not in ("array", "object")


@cache
def weights_of(method: type[Method]) -> st.SearchStrategy[float]:
    """Such as the method takes, as far as it can tell from one."""
    fitting = [weight for weight in (1.0, 0.5, 0.3, 2.0, -1.0, 0.0) if _takes(method, weight)]
    return rarely(st.sampled_from([-1.0, 0.0]), st.sampled_from(fitting))


def _takes(method: type[Method], weight: float) -> bool:
    try:
        method().check([1.0, weight][-(method.most_inputs or 2) :], "x")
    except RecipeError:
        return False
    return True


def gradients(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=3).map(lambda steps: {"gradient": steps})


def rules(method: type[Method], count: int) -> st.SearchStrategy[dict[str, Any]]:
    """Rules on some tensors: whose they are, other weights, other parameters, another scale, by layer too."""
    scale = gradients(st.sampled_from([1.0, 0.0, -0.5]))
    weights = st.lists(st.none() | gradients(weights_of(method)), min_size=count, max_size=count)
    wishes: list[st.SearchStrategy[dict[str, Any]]] = [
        st.fixed_dictionaries({"take": st.sampled_from(["base", 0, count - 1])}),
        st.fixed_dictionaries({"weights": weights}, optional={} if method.space == "weight" else {"scale": scale}),
    ]
    plain = [(name, schema) for name, schema in parameters_of(method).items() if _is_plain(schema)]
    if plain:
        one = st.sampled_from(plain).flatmap(lambda pair: values_of(_not_null(pair[1])).map(lambda v: {pair[0]: v}))
        wishes.append(st.fixed_dictionaries({"parameters": one}))
    match = st.sampled_from(["*", "layers.*", "*.bias", "ids", "head*"])
    return st.tuples(match, st.one_of(wishes)).map(lambda pair: {"match": pair[0], **pair[1]})


OUTPUTS = st.sampled_from(
    [
        *[{"kind": "checkpoint", "max_shard_bytes": size} for size in (1, 40, 10_000)] * 2,
        {"kind": "dense"},
        {"kind": "patch"},
        {"kind": "lora"},
        {"kind": "lora", "rank": 1},
        {"kind": "lora", "rank": 3},
        {"kind": "ternary"},
        {"kind": "ternary", "density": 0.0, "form": "hot"},
        {"kind": "ternary", "density": 1.0, "scope": "tensor"},
        {"kind": "ternary", "convention": "original", "magnitude": "signed_mean"},
    ]
)


JOINED = {"stack": [{"source": "m0", "layers": [0, 1]}, {"source": "m1", "layers": [1, 2]}]}

TOP = 2
"""How deep recipes lie in recipes."""


@st.composite
def recipes(draw: st.DrawFn, methods: tuple[type[Method], ...] = METHODS, depth: int = TOP) -> dict[str, Any]:
    """A recipe by one of the methods, mostly such as it takes; its sources may be recipes and stacks."""
    method = draw(st.sampled_from(methods))
    most = method.most_inputs or 3
    count = draw(rarely(st.just(2), st.integers(method.fewest_inputs, most)))
    needed = {
        "method": settings_of(method),
        "base": rarely(st.sampled_from(["lora", None, JOINED]), st.sampled_from(["m0", "m1"])),
        "ingredients": st.lists(ingredients(method, depth), min_size=count, max_size=count),
    }
    chosen = st.fixed_dictionaries(needed, optional=wishes(method, count) if depth == TOP else {})
    return draw(chosen) | ({"output": draw(OUTPUTS)} if depth == TOP else {})


def ingredients(method: type[Method], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    sources: st.SearchStrategy[Any] = st.sampled_from(SOURCES if method.complete_inputs else ["lora", "lora2"])
    if depth and method.complete_inputs:
        sources = rarely(st.one_of(recipes(depth=depth - 1), stacks()), sources, 6)
    shift = rarely(st.sampled_from([1, -1]), st.just(0), 8)
    return st.fixed_dictionaries({"source": sources}, optional={"weight": weights_of(method), "layer_shift": shift})


def wishes(method: type[Method], count: int) -> dict[str, st.SearchStrategy[Any]]:
    """What else a recipe may say."""
    return {
        "scale": st.just(1.0) if method.space == "weight" else st.sampled_from([0.5, -1.0, 0.0]),
        "dtype": st.sampled_from(["same", "float32", "float16", "bfloat16"]),
        "seed": st.sampled_from([0, 1, 2**63 - 1]),
        "tensors": st.lists(rules(method, count), max_size=2),
    }


def stacks() -> st.SearchStrategy[dict[str, Any]]:
    """Two layers of checkpoints, from one or two of them."""
    layers = st.sampled_from([[0, 1], [1, 2], [0, 2]])
    part = st.fixed_dictionaries({"source": st.sampled_from(["m0", "m1"]), "layers": layers})
    return st.lists(part, min_size=1, max_size=2).map(lambda parts: {"stack": parts})
