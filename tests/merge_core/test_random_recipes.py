"""Random recipes over random small models: refused in planning, or carried out to the end."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from merge_core.errors import InputError
from merge_core.execute import execute
from merge_core.plan import Plan
from tests.merge_core.building import loaded, planned, write_adapter, write_model

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool, torch.float8_e4m3fn]
SHAPES = [(2, 3), (3, 2), (4,), (), (0, 3), (1, 1), (2, 3, 1)]
NAMES = ["a.weight", "b.weight", "b.bias", "ids", "head.weight"]
ORDINARY = {"a.weight": ((2, 3), torch.float32), "b.weight": ((2, 3), torch.bfloat16), "b.bias": ((4,), torch.float32)}

specs = st.dictionaries(st.sampled_from(NAMES), st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES)), max_size=2)


@st.composite
def checkpoints(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """Mostly the ordinary tensors, some of them changed, dropped or added, at times under a prefix."""
    chosen = ORDINARY | draw(specs)
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=1)):
        chosen.pop(name, None)
    prefix, value = draw(st.sampled_from(["", "", "bert."])), draw(st.integers(-3, 3))
    return {prefix + name: torch.full(shape, value).to(dtype) for name, (shape, dtype) in chosen.items()}


@st.composite
def adapters(draw: st.DrawFn) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    rank, rows, columns = draw(st.sampled_from([(1, 2, 3), (2, 2, 3), (1, 4, 3)]))
    modules = draw(st.lists(st.sampled_from(["a", "b", "bert.a", "ids"]), min_size=1, max_size=2, unique=True))
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    return {module: (torch.ones(rank, columns).to(dtype), torch.ones(rows, rank).to(dtype)) for module in modules}


METHODS = st.sampled_from(
    [
        "linear",
        "task_arithmetic",
        "selma",
        "ties",
        {"name": "linear", "normalize": False},
        {"name": "slerp", "t": 0.3},
        {"name": "ties", "density": 0.4, "scope": "model"},
        {"name": "ties", "density": 0.4, "convention": "original", "scope": "model", "aggregate": "max"},
        {"name": "ties", "density": 0.0, "convention": "peft"},
    ]
)
SOURCES = st.sampled_from(["m0", "m1", "m2", "lora"])
RULES = st.fixed_dictionaries(
    {"match": st.sampled_from(["*", "b.*", "ids", "head*"]), "take": st.sampled_from(["base", 0, 0, 1])}
)


def recipes(sources: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    ingredient = st.fixed_dictionaries({"source": sources}, optional={"weight": st.sampled_from([1.0, 0.5, -1.0, 0.0])})
    return st.fixed_dictionaries(
        {
            "method": METHODS,
            "base": st.sampled_from(["m0", "m0", "m1", "lora", None]),
            "ingredients": st.lists(ingredient, min_size=1, max_size=3),
        },
        optional={
            "scale": st.sampled_from([1.0, 0.5]),
            "dtype": st.sampled_from(["same", "float32", "float16", "bfloat16"]),
            "tensors": st.lists(RULES, max_size=2),
            "output": st.sampled_from([{"max_shard_bytes": 1}, {"max_shard_bytes": 40}]),
        },
    )


def _write(root: Path, models: list[dict[str, torch.Tensor]], adapter: dict[str, Any]) -> None:
    for position, tensors in enumerate(models):
        write_model(root / f"m{position}", tensors)
    write_adapter(root / "lora", adapter)


def _planned(root: Path, recipe: dict[str, Any]) -> Plan | None:
    try:
        return planned(root, recipe)
    except InputError as error:
        event(f"refused: {error.message[:40]}")
        return None


@settings(max_examples=200)
@given(
    models=st.lists(checkpoints(), min_size=3, max_size=3),
    adapter=adapters(),
    recipe=recipes(SOURCES | recipes(SOURCES)),
)
def test_what_planning_accepts_is_carried_out(
    models: list[dict[str, torch.Tensor]], adapter: dict[str, Any], recipe: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), models, adapter)
        plan = _planned(Path(folder), recipe)
        if plan is not None:
            execute(plan, Path(folder) / "out", durable=False)
            found = loaded(Path(folder) / "out")
            event("carried out")
            assert found.keys() == plan.tensors.keys()
            assert {name: tuple(t.shape) for name, t in found.items()} == {
                n: t.spec.shape for n, t in plan.tensors.items()
            }
