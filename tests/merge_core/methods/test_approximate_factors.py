"""LoRA factors merged apart: as PEFT and LoraHub merge them, and with the error that comes of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kernels.random_drop.reference import keep
from merge_core.errors import RecipeError
from merge_core.execute import execute
from merge_core.methods.merged_factors import MergedFactors
from merge_core.planning.tensors import Merge
from tests.merge_core.building import built, mix, planned, write_adapter, write_model
from tests.merge_core.test_golden import Case, cases, raising, returning

FACTORS = ("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B")
BY_PEFT = [
    name for name in cases("peft_weighted", "linear_", "ties_", "dare_", "magprune_", "rslora_") if "_svd_" not in name
]


def modules_of(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(A, B) by module, embeddings as the plain factors that they are."""
    found = {}
    for a_key, b_key in FACTORS:
        for name in tensors:
            if name.endswith(a_key):
                module = name.removesuffix(f".{a_key}")
                found[module] = (tensors[name], tensors[f"{module}.{b_key}"])
    return found


def masked(case: Case, position: int, module: str, pair: tuple[torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
    """The factors as the case's own mask leaves them, where it has one."""
    masks = [case.tensors.get(f"in.keep_mask.{module}.lora_{factor}.a{position}") for factor in "AB"]
    density = case.params.get("density", 1.0)
    return [t if mask is None else keep(t, mask.bool(), density, True) for t, mask in zip(pair, masks, strict=True)]


def write(case: Case, root: Path) -> list[str]:
    """The adapters, and a base of zeros that they fit."""
    ranks, names = case.params["ranks"], []
    for i, (rank, alpha) in enumerate(zip(ranks, case.params["lora_alpha"], strict=True)):
        modules = modules_of(case.part(f"in.a{i}.base_model.model."))
        modules = {name: masked(case, i, name, pair) for name, pair in modules.items()}
        config = {"r": rank, "lora_alpha": alpha, "use_rslora": case.params["use_rslora"]}
        names.append(write_adapter(root / f"a{i}", {name: (a, b) for name, (a, b) in modules.items()}, **config))
    shapes = {f"{name}.weight": (len(b), *a.shape[1:]) for name, (a, b) in modules.items()}
    dtype = next(iter(modules.values()))[0].dtype
    write_model(root / "base", {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()})
    return names


def recipe_of(case: Case, names: list[str]) -> dict[str, Any]:
    params = case.params
    merge_by = params["combination_type"]
    density = 1.0 if merge_by.startswith("dare") else params.get("density", 1.0)
    votes = params.get("majority_sign_method", "total")
    method = {"name": "approximate_factors", "merge_by": merge_by, "density": density, "votes": votes}
    # The merged config keeps rsLoRA and alpha = r, which scales once more.
    scale = params.get("out_scaling", {"q": 1.0})["q"]
    return mix(*names, weights=tuple(params["weights"]), base="base", method=method, scale=scale)


def delta_as_peft_has_it(module: str, delta: torch.Tensor) -> torch.Tensor:
    """PEFT transposes what its embedding and Conv1D layers store the other way round."""
    return delta.T if module in ("emb", "c1") else delta


@pytest.mark.parametrize("name", returning(BY_PEFT))
def test_factors_and_their_product_are_what_peft_makes(name: str, tmp_path: Path) -> None:
    case = Case(name)
    recipe = recipe_of(case, write(case, tmp_path))
    plan, found = planned(tmp_path, recipe), built(tmp_path, recipe)
    if case.sidecar["compare"]["mode"] == "informative":
        assert found
        return
    for module, factors in modules_of(case.part("out.base_model.model.")).items():
        (merged,) = plan.tensors[f"{module}.weight"].inputs
        for mine, theirs in zip(merged.factors(), factors, strict=True):
            close = {key: case.sidecar["compare"][key] for key in ("rtol", "atol")}
            torch.testing.assert_close(torch.from_numpy(mine), theirs.float().flatten(1), **close)
    weights = {name.removesuffix(".weight"): tensor for name, tensor in found.items()}
    case.check({name: delta_as_peft_has_it(name, tensor) for name, tensor in weights.items()}, "out.delta.")


@pytest.mark.parametrize("name", raising(BY_PEFT))
def test_ranks_that_differ_are_refused_in_planning_as_peft_refuses_them(name: str, tmp_path: Path) -> None:
    case = Case(name)
    with pytest.raises(RecipeError, match=r"tensor 'q\.weight': the factors do not add up; found rank 4 and 2"):
        planned(tmp_path, recipe_of(case, write(case, tmp_path)))


@pytest.mark.parametrize("name", cases("lorahub"))
def test_weights_on_both_factors_are_what_lorahub_makes(name: str, tmp_path: Path) -> None:
    case = Case(name)
    count = len(case.params["weights"])
    inputs = [modules_of(case.part(f"in.m{i}."))["l"] for i in range(count)]
    write_model(tmp_path / "base", {"l.weight": torch.zeros(len(inputs[0][1]), inputs[0][0].shape[1])})
    names = [write_adapter(tmp_path / f"m{i}", {"l": pair}) for i, pair in enumerate(inputs)]
    method = {"name": "approximate_factors", "weigh": "both"}
    recipe = mix(*names, weights=tuple(case.params["weights"]), base="base", method=method)
    case.check({"": built(tmp_path, recipe)["l.weight"]}, "out.BA")
    (merged,) = planned(tmp_path, recipe).tensors["l.weight"].inputs
    a, b = map(torch.from_numpy, merged.factors())
    case.check({"l.lora_A.weight": a, "l.lora_B.weight": b, "BA": b @ a}, "out.")


def adapters(root: Path, count: int, seed: int = 0) -> tuple[list[str], list[torch.Tensor]]:
    """So many adapters of one layer on a base of zeros, and what each adds to it."""
    generator = torch.Generator().manual_seed(seed)
    write_model(root / "base", {"l.weight": torch.zeros(6, 5), "l.bias": torch.ones(6)})
    pairs = [(torch.randn(2, 5, generator=generator), torch.randn(6, 2, generator=generator)) for _ in range(count)]
    names = [write_adapter(root / f"m{i}", {"l": pair}, lora_alpha=1) for i, pair in enumerate(pairs)]
    return names, [0.5 * (b @ a) for a, b in pairs]


def test_the_plan_says_how_far_the_product_is_from_the_sum_of_the_deltas(tmp_path: Path) -> None:
    names, deltas = adapters(tmp_path, 3)
    weights = (1.0, -0.5, 2.0)
    recipe = mix(*names, weights=weights, base="base", method="approximate_factors")
    exact = sum(weight * delta for weight, delta in zip(weights, deltas, strict=True))
    error = (built(tmp_path, recipe)["l.weight"] - exact).norm() / exact.norm()
    expected = f"relative error {error:.2g} over 1 tensors, at most {error:.2g}, in 'l.weight'"
    assert any(expected in note for note in planned(tmp_path, recipe).warnings)
    alone = planned(tmp_path, mix("m1", weights=(-0.7,), base="base", method="approximate_factors"))
    assert any("relative error 0 over 1 tensors" in note for note in alone.warnings)


def test_many_adapters_are_measured_on_a_part_of_their_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merge_core.planning.approximation.MOST_PAIRS", 10)
    a, b = torch.ones(1, 3), torch.ones(2, 1)
    write_model(tmp_path / "base", {f"l{i}.weight": torch.zeros(2, 3) for i in range(4)})
    for name in ("a", "b"):
        write_adapter(tmp_path / name, {f"l{i}": (a.clone(), b.clone()) for i in range(4)})
    plan = planned(tmp_path, mix("a", "b", base="base", method="approximate_factors"))
    assert any("over 1 of 4 tensors" in note for note in plan.warnings)


@pytest.mark.parametrize("merge_by", ["linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"])
def test_density_zero_gives_the_base_and_one_adapter_itself(merge_by: str, tmp_path: Path) -> None:
    names, deltas = adapters(tmp_path, 2)
    method = {"name": "approximate_factors", "merge_by": merge_by}
    alone = built(tmp_path, mix(names[0], base="base", method=method))["l.weight"]
    torch.testing.assert_close(alone, deltas[0])
    if merge_by != "linear":
        none = built(tmp_path, mix(*names, base="base", method=method | {"density": 0.0}))
        assert not none["l.weight"].any()


def test_an_adapter_that_leaves_a_weight_alone_has_no_part_in_it(tmp_path: Path) -> None:
    (first, _), deltas = adapters(tmp_path, 2)
    write_model(tmp_path / "wide", {"l.weight": torch.zeros(6, 5), "k.weight": torch.zeros(2, 3)})
    write_adapter(tmp_path / "other", {"k": (torch.ones(2, 3), torch.ones(2, 2))})
    method = {"name": "approximate_factors", "merge_by": "ties", "density": 1.0}
    found = built(tmp_path, mix(first, "other", base="wide", method=method))
    torch.testing.assert_close(found["l.weight"], deltas[0])
    assert found["k.weight"].tolist() == [[2.0] * 3] * 2


def test_what_is_no_lora_is_refused_by_tensor_and_kind(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"l.weight": torch.zeros(6, 5)})
    write_model(tmp_path / "full", {"l.weight": torch.ones(6, 5)})
    with pytest.raises(RecipeError, match="'full': approximate_factors merges adapters"):
        planned(tmp_path, mix("full", base="base", method="approximate_factors"))
    patch = mix("full", base="base", method="task_arithmetic", output={"kind": "patch"})
    execute(planned(tmp_path, patch), tmp_path / "patch", durable=False)
    with pytest.raises(RecipeError, match=r"tensor 'l\.weight': only LoRA factors .* found sparse in ingredient 0"):
        planned(tmp_path, mix("patch", base="base", method="approximate_factors"))


def test_threads_share_the_merged_factors_and_let_them_go(tmp_path: Path) -> None:
    names, _ = adapters(tmp_path, 2)
    merge = planned(tmp_path, mix(*names, base="base", method="approximate_factors")).tensors["l.weight"]
    assert isinstance(merge, Merge)
    (merged,) = merge.inputs
    assert isinstance(merged, MergedFactors)
    a, b = merged.factors()
    assert merged.factors()[0] is a
    address = id(a)
    del a, b
    assert [reference() for reference in merged._kept] == [None, None], address
