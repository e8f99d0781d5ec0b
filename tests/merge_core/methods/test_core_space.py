"""Merging in the space that adapters share: exact where full space is, and never a dense input."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merge_core.errors import FileError, RecipeError, UnsupportedError
from merge_core.execute import execute
from merge_core.methods.iso_c import IsoC
from merge_core.recipe import Recipe
from tests.merge_core.building import built, mix, planned, relative_rms, write_adapter, write_model
from tests.merge_core.methods.spectra import by_oracle, is_near, random_deltas, singular_values
from tests.merge_core.oracles import ORACLES

SHAPE = (40, 30)
Pair = tuple[Tensor, Tensor]


def pairs(*ranks: int, shape: tuple[int, int] = SHAPE, seed: int = 0) -> list[Pair]:
    """(A, B) of each rank."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = shape
    return [(torch.randn(r, columns, generator=generator), torch.randn(rows, r, generator=generator)) for r in ranks]


def write(root: Path, factors: list[Pair], base: Tensor | None = None) -> list[str]:
    rows, columns = factors[0][1].shape[0], factors[0][0].shape[1]
    write_model(root / "base", {"w.weight": torch.zeros(rows, columns) if base is None else base})
    return [write_adapter(root / f"a{i}", {"w": pair}) for i, pair in enumerate(factors)]


def merged(root: Path, factors: list[Pair], weights: tuple[float, ...], method: Any) -> Tensor:
    return built(root, mix(*write(root, factors), weights=weights, base="base", method=method))["w.weight"]


def dense(factors: list[Pair]) -> list[Tensor]:
    return [b.double() @ a.double() for a, b in factors]


SPECTRAL: list[dict[str, Any]] = [
    {"name": "tsv_m"},
    {"name": "iso_c"},
    {"name": "iso_cts", "common": 0.3},
    {"name": "knots", "density": 0.4},
    {"name": "swudi"},
    {"name": "svc", "of": "tsv_m"},
]


@pytest.mark.parametrize("method", SPECTRAL, ids=lambda method: method["name"])
@pytest.mark.parametrize("ranks", [(3, 3), (1, 5, 2), (12, 14)])
def test_a_method_on_singular_values_gives_of_adapters_what_full_space_gives(
    method: dict[str, Any], ranks: tuple[int, ...], tmp_path: Path
) -> None:
    factors, weights = pairs(*ranks), (1.0, 0.5, 2.0)[: len(ranks)]
    settings = {key: value for key, value in method.items() if key != "name"}
    wanted = by_oracle(ORACLES[method["name"]], *dense(factors), weights=weights, **settings)
    assert is_near(merged(tmp_path, factors, weights, method), wanted, 1e-6)


@pytest.mark.parametrize("inner", ["task_arithmetic", "linear", "selma", "tsv_m"])
@pytest.mark.parametrize("ranks", [(3, 3, 3), (1, 6, 2), (20, 20, 20)])
def test_sums_and_tsv_m_are_exact_in_core_space(inner: str, ranks: tuple[int, ...], tmp_path: Path) -> None:
    factors, weights = pairs(*ranks), (1.0, 0.5, -0.25)
    wanted = by_oracle(ORACLES[inner], *dense(factors), weights=weights)
    found = merged(tmp_path, factors, weights, {"name": "core_space", "method": inner})
    assert is_near(found, wanted, 1e-6)


def core(factors: list[Pair]) -> tuple[Tensor, list[Tensor], Tensor]:
    """The bases and the M_t as the paper prints them."""
    u = torch.linalg.svd(torch.cat([b for _, b in factors], dim=1).double(), full_matrices=False).U
    vt = torch.linalg.svd(torch.cat([a for a, _ in factors]).double(), full_matrices=False).Vh
    return u, [u.T @ b.double() @ a.double() @ vt.T for a, b in factors], vt


@pytest.mark.parametrize(
    ("inner", "oracle", "settings"),
    [("ties", "ties", {"density": 0.3}), ("iso_cts", "iso_cts", {"common": 0.5}), ("iso_c", "iso_c", {})],
)
def test_another_method_merges_the_small_matrices_as_if_they_were_the_weights(
    inner: str, oracle: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    factors, weights = pairs(3, 4, 2), (1.0, 0.5, 2.0)
    u, tasks, vt = core(factors)
    wanted = u @ by_oracle(ORACLES[oracle], *tasks, weights=weights, **settings) @ vt
    found = merged(tmp_path, factors, weights, {"name": "core_space", "method": {"name": inner, **settings}})
    assert is_near(found, wanted, 1e-6)


def test_every_direction_is_as_strong_as_the_others_after_iso_c(tmp_path: Path) -> None:
    """In full space float32 noise of the null directions would get the mean's size."""
    found = merged(tmp_path, pairs(4, 4), (1.0, 1.0), "iso_c")
    values = singular_values(found)
    assert torch.allclose(values[:8], values[:1], rtol=1e-5)
    assert (values[8:] < 1e-5 * values[0]).all()


def test_transposed_factors_and_scales_are_taken_as_they_are(tmp_path: Path) -> None:
    (a, b), (c, d) = pairs(2, 3)
    write_model(tmp_path / "base", {"w.weight": torch.zeros(SHAPE)})
    write_adapter(tmp_path / "a0", {"w": (a, b)}, lora_alpha=5)
    write_adapter(tmp_path / "a1", {"w": (d.T, c.T)}, fan_in_fan_out=True)
    deltas = [2.5 * b.double() @ a.double(), d.double() @ c.double()]
    found = built(tmp_path, mix("a0", "a1", base="base", method="tsv_m"))["w.weight"]
    assert is_near(found, by_oracle(ORACLES["tsv_m"], *deltas), 1e-6)


@pytest.mark.parametrize("method", ["iso_c", "knots", "tsv_m", {"name": "core_space", "method": "ties"}])
def test_adapters_that_add_nothing_leave_the_base(method: Any, tmp_path: Path) -> None:
    """As LoRA starts: B is zero."""
    base = torch.randn(SHAPE)
    names = write(tmp_path, [(a, torch.zeros_like(b)) for a, b in pairs(3, 2)], base)
    assert torch.equal(built(tmp_path, mix(*names, base="base", method=method))["w.weight"], base)


def test_one_adapter_twice_breaks_nothing(tmp_path: Path) -> None:
    [pair] = pairs(3)
    found = merged(tmp_path, [pair, pair], (1.0, 1.0), {"name": "core_space", "method": "task_arithmetic"})
    assert is_near(found, 2 * dense([pair])[0], 1e-6)


def test_no_input_is_ever_dense(tmp_path: Path) -> None:
    """The plan says what it takes, which is far less than one dense input; and so it is."""
    names = write(tmp_path, pairs(4, 4, 4, shape=(2000, 1500)), torch.zeros(2000, 1500).bfloat16())
    plan = planned(tmp_path, mix(*names, base="base", method="iso_c"))
    [row] = plan.describe()["tensors"]
    assert (row["action"], row["inputs"]) == ("core_space", ["core"])
    execute(plan, tmp_path / "warm", threads=1, durable=False)
    tracemalloc.start()
    execute(plan, tmp_path / "out", threads=1, durable=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= plan.memory_bytes + 1_000_000
    assert plan.memory_bytes < 4 * 2000 * 1500


def test_dense_inputs_are_refused_by_the_tensors_name(tmp_path: Path) -> None:
    names = write(tmp_path, pairs(2, 2))
    write_model(tmp_path / "full", {"w.weight": torch.ones(SHAPE)})
    with pytest.raises(RecipeError, match=r"'full'.*core_space merges adapters|core_space merges adapters.*checkpoint"):
        planned(tmp_path, mix(names[0], "full", base="base", method="core_space"))
    tensors = load_file(tmp_path / "a1" / "adapter_model.safetensors")
    tensors |= {"base_model.model.v.weight": torch.ones(3)}
    save_file(tensors, tmp_path / "a1" / "adapter_model.safetensors")
    write_model(tmp_path / "wide", {"w.weight": torch.zeros(SHAPE), "v.weight": torch.zeros(3)})
    with pytest.raises(
        RecipeError, match=r"tensor 'v.weight': core space is made of low-rank.*replacement in ingredient 1"
    ):
        planned(tmp_path, mix(*names, base="wide", method="core_space"))


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("tsv", r"method\.method\.name: unknown method in core space; found 'tsv'; expected one of 'tsv_m'"),
        ("core_space", r"method\.method\.name: unknown method in core space"),
        (3, r"method\.method: the value is not acceptable; found int; expected a method's name"),
        ({"name": "ties", "density": 2.0}, r"method\.method\.density: .*found 2\.0"),
        ({"name": "ties", "dense": 1}, r"method\.method\.dense: "),
        ({"name": "ties", "scope": "model"}, r"method\.method: .*core space; found ties over the whole model"),
    ],
)
def test_an_inner_method_that_cannot_be_is_refused(inner: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(mix("a", base="b", method={"name": "core_space", "method": inner}))


def test_a_recipe_in_core_space_says_every_parameter_of_the_inner_method() -> None:
    recipe = Recipe.parse(
        mix("a", base="b", method={"name": "core_space", "method": {"name": "ties", "density": 0.25}})
    )
    assert '"density":0.25' in recipe.canonical()
    assert Recipe.parse(recipe.model_dump(mode="json")) == recipe


def test_the_number_of_inputs_is_the_inner_methods(tmp_path: Path) -> None:
    names = write(tmp_path, pairs(2, 2, 2))
    with pytest.raises(RecipeError, match=r"ingredients: slerp takes another number .*found 3; expected 2"):
        planned(tmp_path, mix(*names, base="base", method={"name": "core_space", "method": "slerp"}))


def test_a_value_that_is_not_finite_is_named_with_its_ingredient(tmp_path: Path) -> None:
    first, (a, b) = pairs(2, 2)
    a[0, 3] = float("nan")
    with pytest.raises(FileError, match=r"tensor 'w.weight': .*NaN or infinity in ingredient 1"):
        merged(tmp_path, [first, (a, b)], (1.0, 1.0), "iso_c")


def test_a_decomposition_that_fails_names_tensor_and_method(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """LAPACK gives up on some matrices; which ones is its secret."""

    def fail(self: IsoC, tasks: Any, chunk: Any) -> Any:
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(IsoC, "merge_matrices", fail)
    with pytest.raises(UnsupportedError, match=r"tensor 'w.weight': .*SVD did not converge, in iso_c"):
        merged(tmp_path, pairs(2, 2), (1.0, 1.0), "iso_c")
    write_model(tmp_path / "full", {"w.weight": random_deltas(1, *SHAPE)[0]})
    with pytest.raises(UnsupportedError, match=r"tensor 'w.weight': .*SVD did not converge, in iso_c"):
        built(tmp_path, mix("full", base="base", method="iso_c"))


@pytest.mark.parametrize(
    "method", ["iso_c", {"name": "core_space", "method": "ties"}, {"name": "knots", "density": 0.5}]
)
def test_what_is_merged_in_core_space_is_an_adapter_again(method: Any, tmp_path: Path) -> None:
    names = write(tmp_path, pairs(3, 2), torch.randn(SHAPE))
    recipe = mix(*names, weights=(1.0, 0.5), base="base", method=method, scale=0.7)
    plan = planned(tmp_path, recipe | {"output": {"kind": "lora"}})
    execute(plan, tmp_path / "out", durable=False)
    found = built(tmp_path, mix("out", base="base", method="passthrough"))["w.weight"]
    assert relative_rms(found, built(tmp_path, recipe)["w.weight"]) < 2e-7
    assert load_file(tmp_path / "out" / "adapter_model.safetensors")["base_model.model.w.lora_A.weight"].shape[0] == 5
