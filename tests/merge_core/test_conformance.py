"""What every method owes, whoever wrote it: a newcomer in METHODS is tested here as soon as it has an oracle."""

import json
import queue
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from merge_core import plan, schedule
from merge_core.errors import RecipeError
from merge_core.execute import execute
from merge_core.methods import METHODS, Method, catalogue
from tests.merge_core.building import (
    FLOATS,
    TOLERANCE,
    built,
    file_hashes,
    loaded,
    planned,
    raw,
    relative_rms,
    write_adapter,
    write_model,
)
from tests.merge_core.oracles import ORACLES, TRIALS, Trial, expected
from tests.merge_core.oracles_statistics import write_statistics

MATRICES = {
    "one": (1, 1),
    "small": (7, 9),
    "block": (128, 128),
    "block_and_one": (5, 3277),
    "chunk": (256, 256),
    "chunk_and_one": (1, 65537),
    "long": (200003, 1),
}
"""1, 63, 16384, 16385, 65536, 65537 and 200003 elements: on, before and after the borders of blocks and chunks."""

OTHERS = {"scalar": (), "vector": (63,), "empty": (0, 5), "kernel": (3, 5, 2, 2), "nothing": (0,), "narrow": (5, 0)}

CASES = [(method, trial) for method in METHODS for trial in TRIALS.get(method.title(), [Trial({}, (1.0, 1.0, 1.0))])]
NAMES = [f"{method.title()}-{json.dumps(trial.settings)}-{trial.scale}" for method, trial in CASES]
of_every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.title())
in_every_setting = pytest.mark.parametrize(("method", "trial"), CASES, ids=NAMES)


@dataclass(frozen=True)
class Inputs:
    """Models on disk, and what they say as dense tensors."""

    root: Path
    base: dict[str, Tensor]
    models: list[dict[str, Tensor]]
    names: list[str]

    def recipe(self, method: type[Method], trial: Trial, **fields: Any) -> dict[str, Any]:
        pairs = zip(self.names, trial.weights, strict=True)
        ingredients = [{"source": name, "weight": weight} for name, weight in pairs]
        settings = {"name": method.title(), **trial.settings}
        return {"base": "base", "method": settings, "ingredients": ingredients, "scale": trial.scale, **fields}


def on_a_grid(shape: tuple[int, ...], most: int, step: float, seed: int) -> Tensor:
    """Multiples of `step`, so that sums are exact in every dtype and many magnitudes are equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-most, most + 1, shape, generator=generator) * step


InputsOf = Callable[[type[Method], Trial, str], Inputs]


@pytest.fixture(scope="module")
def inputs_of(tmp_path_factory: pytest.TempPathFactory) -> InputsOf:
    """The inputs for a method's trial in one of MIXES, written once for all that take the same."""

    @cache
    def make(count: int, complete: bool, mix: str) -> Inputs:
        dtypes, adapters = MIXES[mix]
        return make_inputs(tmp_path_factory.mktemp("inputs"), count, dtypes, adapters if complete else (True,))

    return lambda method, trial, mix: make(len(trial.weights), method.complete_inputs, mix)


WantedOf = Callable[[type[Method], Trial, str], dict[str, Tensor]]


@pytest.fixture(scope="module")
def wanted_of(inputs_of: InputsOf) -> WantedOf:
    """What the oracle says; once for all mixes of checkpoints, whose values every dtype holds exactly."""
    known: dict[str, dict[str, Tensor]] = {}

    def wanted(method: type[Method], trial: Trial, mix: str) -> dict[str, Tensor]:
        key = f"{method.title()} {trial} {MIXES[mix][1]}"
        if key not in known:
            inputs = inputs_of(method, trial, mix)
            untouched = OTHERS if mix == "adapters" or not method.complete_inputs else ()
            found = expected(method.title(), trial, inputs.base, inputs.models, method.space, untouched)
            known[key] = _as_weights(found)
        return known[key]

    return wanted


def make_inputs(root: Path, count: int, dtypes: tuple[torch.dtype, ...], adapters: tuple[bool, ...]) -> Inputs:
    """A base and `count` models; `dtypes` (the base's first) and `adapters` are cycled through."""
    base = {
        name: on_a_grid(shape, 8, 2.0**-3, seed=i).to(dtypes[0])
        for i, (name, shape) in enumerate([*MATRICES.items(), *OTHERS.items()])
    }
    write_model(root / "base", _as_weights(base))
    models, names = [], []
    for i in range(count):
        make = _adapter if adapters[i % len(adapters)] else _model
        models.append(make(root / f"m{i}", base, dtypes[(i + 1) % len(dtypes)], seed=100 * (i + 1)))
        names.append(f"m{i}")
        write_statistics(root / f"m{i}", i, _shapes(base))
    return Inputs(root, base, models, names)


def _as_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.weight": tensor for name, tensor in tensors.items()}


def _shapes(base: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in _as_weights(base).items()}


def _model(folder: Path, base: dict[str, Tensor], dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    tensors = {}
    for i, (name, tensor) in enumerate(base.items()):
        tensors[name] = (tensor.double() + on_a_grid(tuple(tensor.shape), 6, 2.0**-4, seed + i)).to(dtype)
    write_model(folder, _as_weights(tensors))
    return tensors


def _adapter(folder: Path, base: dict[str, Tensor], dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """A LoRA on every matrix; the other tensors stay as in the base."""
    factors, tensors = {}, {name: tensor.double() for name, tensor in base.items()}
    for i, (name, (rows, columns)) in enumerate(MATRICES.items()):
        a = on_a_grid((2, columns), 2, 2.0**-1, seed + i)
        b = on_a_grid((rows, 2), 2, 2.0**-2, seed + 50 + i)
        factors[name] = (a.to(dtype), b.to(dtype))
        tensors[name] = tensors[name] + 0.5 * (b.double() @ a.double())
    write_adapter(folder, factors, lora_alpha=1)
    return tensors


MIXES = {
    "float64": ((torch.float64,), (False,)),
    "float32": ((torch.float32,), (False,)),
    "float16": ((torch.float16,), (False,)),
    "bfloat16": ((torch.bfloat16,), (False,)),
    "every dtype": ((torch.bfloat16, torch.float32, torch.float16, torch.float64), (False,)),
    "adapters": ((torch.float32,), (True,)),
    "adapters and checkpoints": ((torch.float16, torch.bfloat16, torch.float32), (True, False)),
}


@in_every_setting
@pytest.mark.parametrize("mix", MIXES)
def test_a_method_gives_what_its_oracle_gives(
    method: type[Method], trial: Trial, mix: str, inputs_of: InputsOf, wanted_of: WantedOf
) -> None:
    inputs = inputs_of(method, trial, mix)
    found = built(inputs.root, inputs.recipe(method, trial))
    wanted = wanted_of(method, trial, mix)
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == inputs.base[name.removesuffix(".weight")].dtype
        assert found[name].shape == tensor.shape
        assert relative_rms(found[name], tensor) <= TOLERANCE[found[name].dtype], name


@in_every_setting
def test_a_method_on_random_values_gives_what_its_oracle_gives(
    method: type[Method], trial: Trial, tmp_path: Path
) -> None:
    """Off the grid; deltas are taken as rounded to float32, so that the oracle trims the same entries."""
    generator = torch.Generator().manual_seed(7)
    base = {name: torch.randn(shape, generator=generator) for name, shape in MATRICES.items()}
    write_model(tmp_path / "base", _as_weights(base))
    models, names = [], [f"m{i}" for i in range(len(trial.weights))]
    for name in names:
        if method.complete_inputs:
            tensors = {key: t + 0.05 * torch.randn(t.shape, generator=generator) for key, t in base.items()}
            write_model(tmp_path / name, _as_weights(tensors))
        else:
            tensors = _random_adapter(tmp_path / name, base, generator)
        write_statistics(tmp_path / name, len(models), _shapes(base))
        models.append({key: (t - base[key]).double() + base[key].double() for key, t in tensors.items()})
    found = built(tmp_path, Inputs(tmp_path, base, models, names).recipe(method, trial))
    if method.space == "weight":
        models = [{key: tensor.float().double() for key, tensor in model.items()} for model in models]
    for name, tensor in _as_weights(expected(method.title(), trial, base, models, method.space)).items():
        assert relative_rms(found[name], tensor) <= TOLERANCE[torch.float32], name


def _random_adapter(folder: Path, base: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    factors = {}
    for name, (rows, columns) in MATRICES.items():
        a, b = torch.randn((4, columns), generator=generator), torch.randn((rows, 4), generator=generator)
        factors[name] = (0.2 * a, 0.2 * b)
    write_adapter(folder, factors)
    return {name: base[name].double() + (b.double() @ a.double()) for name, (a, b) in factors.items()}


class LastInFirstOut(ThreadPoolExecutor):
    """Runs what waits in the opposite order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._work_queue = queue.LifoQueue()  # type: ignore[assignment]


@in_every_setting
def test_bytes_do_not_depend_on_threads_chunks_pieces_or_order(
    method: type[Method], trial: Trial, inputs_of: InputsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(method, trial, "adapters and checkpoints")
    made = planned(inputs.root, inputs.recipe(method, trial))

    def hashes(threads: int) -> dict[str, str]:
        folder = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        execute(made, folder, threads=threads, durable=False)
        return file_hashes(folder)

    first = hashes(threads=1)
    assert [hashes(threads) for threads in (1, 2, 4)] == [first] * 3
    for chunk, piece in ((16384, 16384), (49152, 1 << 17), (1 << 20, 1 << 22)):
        monkeypatch.setattr(plan, "CHUNK", chunk)
        monkeypatch.setattr(schedule, "PIECE", piece)
        assert hashes(threads=2) == first, f"chunks of {chunk}, pieces of {piece}"
    monkeypatch.setattr(plan, "CHUNK", 16384)
    monkeypatch.setattr(schedule, "PIECE", 16384)
    monkeypatch.setattr(schedule, "ThreadPoolExecutor", LastInFirstOut)
    assert hashes(threads=4) == first, "in another order"


@of_every_method
def test_tensors_do_not_depend_on_the_size_of_shards(method: type[Method], inputs_of: InputsOf) -> None:
    trial = TRIALS[method.title()][-1]
    inputs = inputs_of(method, trial, "every dtype")
    whole = built(inputs.root, inputs.recipe(method, trial))
    for size in (1, 1000, 200_000):
        recipe = inputs.recipe(method, trial, output={"max_shard_bytes": size})
        parts = built(inputs.root, recipe)
        assert {name: raw(tensor) for name, tensor in parts.items()} == {n: raw(t) for n, t in whole.items()}


@of_every_method
def test_a_shard_built_alone_is_the_shard_of_the_whole(
    method: type[Method], inputs_of: InputsOf, tmp_path: Path
) -> None:
    for number, trial in enumerate(TRIALS[method.title()]):
        inputs = inputs_of(method, trial, "bfloat16")
        made = planned(inputs.root, inputs.recipe(method, trial, output={"max_shard_bytes": 300_000}))
        assert len(made.shards) > 2
        execute(made, tmp_path / f"{number}-whole", durable=False)
        whole = file_hashes(tmp_path / f"{number}-whole")
        for position, shard in enumerate(made.shards):
            folder = tmp_path / f"{number}-{position}"
            execute(made, folder, shards=[position], durable=False)
            assert file_hashes(folder) == {shard.name: whole[shard.name]}


@of_every_method
def test_one_thread_stays_within_the_memory_that_the_plan_states(
    method: type[Method], inputs_of: InputsOf, tmp_path: Path
) -> None:
    for trial in TRIALS[method.title()]:
        inputs = inputs_of(method, trial, "adapters and checkpoints")
        made = planned(inputs.root, inputs.recipe(method, trial))
        execute(made, tmp_path / "warm", threads=1, durable=False)
        tracemalloc.start()
        execute(made, tmp_path / "measured", threads=1, durable=False)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= made.memory_bytes + 1_000_000, f"{trial}: {peak} of {made.memory_bytes}"


@of_every_method
def test_a_method_refuses_more_or_fewer_inputs_than_it_takes(method: type[Method], inputs_of: InputsOf) -> None:
    trial = Trial({}, (1.0,) * (method.most_inputs or 2))
    inputs = inputs_of(method, trial, "bfloat16")
    names = inputs.names * 3
    counts = {method.fewest_inputs - 1, *({method.most_inputs + 1} if method.most_inputs else ())} - {0}
    for count in counts:
        recipe = inputs.recipe(method, trial) | {"ingredients": [{"source": name} for name in names[:count]]}
        with pytest.raises(RecipeError, match=rf"ingredients: {method.title()} takes .*found {count}; expected"):
            planned(inputs.root, recipe)


@of_every_method
def test_a_method_says_what_it_is(method: type[Method]) -> None:
    entry = next(entry for entry in catalogue() if entry["name"] == method.title())
    json.dumps(entry)
    assert method.title() in ORACLES, "a method needs an oracle in tests/merge_core/oracles.py"
    assert method.title() in TRIALS, "a method needs settings to be tried in"
    assert method.__doc__
    assert entry["summary"]
    assert entry["formula"]
    assert any(year in entry["source"] for year in map(str, range(1950, 2030))), "a source has a year"
    assert entry["space"] in ("weight", "delta")
    assert set(entry["parameters"]) == set(method.model_fields) - {"name"}
    for name, schema in entry["parameters"].items():
        assert "default" in schema, f"{name}: every parameter has a default, so that the bare name is a recipe"
    assert method().model_dump()["name"] == method.title()


def test_the_catalogue_has_every_method_once() -> None:
    assert [entry["name"] for entry in catalogue()] == [method.title() for method in METHODS]
    assert set(ORACLES) == {method.title() for method in METHODS} == set(TRIALS)


def test_every_dtype_that_is_merged_has_a_tolerance() -> None:
    assert set(FLOATS) == set(TOLERANCE)
    assert loaded(Path("no such folder")) == {}
