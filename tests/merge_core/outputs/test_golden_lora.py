"""Adapters as PEFT's add_weighted_adapter combines them: side by side (cat), and cut to a rank (svd)."""

from pathlib import Path
from typing import Any

import pytest
import torch

from merge_core.outputs.lora_sink import read_errors
from tests.merge_core.building import built, mix, planned
from tests.merge_core.methods.test_approximate_factors import delta_as_peft_has_it, modules_of, write
from tests.merge_core.outputs.loading import write as write_output
from tests.merge_core.test_golden import Case, cases

CASES = cases("peft_weighted", "cat_", "svd_", "ties_svd_", "single_adapter_")


def recipe_of(case: Case, names: list[str]) -> dict[str, Any]:
    kind, rank = case.params["combination_type"], case.params.get("svd_rank", max(case.params["ranks"]))
    method: dict[str, Any] = {"name": "task_arithmetic"}
    if kind == "ties_svd":
        method = {"name": "ties", "density": case.params["density"], "convention": "peft"}
    output = {"kind": "lora", "rank": None if kind == "cat" else rank}
    return mix(*names, weights=tuple(case.params["weights"]), base="base", method=method, output=output)


@pytest.mark.parametrize("name", CASES)
def test_the_products_of_the_factors_are_what_peft_makes(name: str, tmp_path: Path) -> None:
    case = Case(name)
    recipe = recipe_of(case, write(case, tmp_path))
    folder = write_output(tmp_path, recipe)
    plan = planned(tmp_path, recipe)
    found = built(tmp_path, mix("out", base="base", method="passthrough", dtype="float32"))
    close = {key: case.sidecar["compare"][key] for key in ("rtol", "atol")}
    expected = case.part("out.delta.")
    assert expected
    for module, tensor in expected.items():
        delta = delta_as_peft_has_it(module, found[f"{module}.weight"])
        torch.testing.assert_close(delta.double(), tensor.double(), **close, msg=lambda m, n=module: f"{n}: {m}")
    if case.params["combination_type"] == "cat":
        assert set(read_errors(folder).values()) == {0.0}
    elif "out_r" in case.params:
        ranks = {factors.shape[0] for factors, _ in modules_of(case.part("out.base_model.model.")).values()}
        assert {factors.rank for factors in plan.tensors.values()} == ranks


def test_a_rank_beyond_a_matrix_gives_an_adapter_that_loads_where_peft_writes_a_broken_one(tmp_path: Path) -> None:
    case = Case("peft_weighted/svd_2_rank8_broken")
    assert "shapes cannot be multiplied" in case.sidecar["expect"]["error_on_use"]
    write_output(tmp_path, recipe_of(case, write(case, tmp_path)))
    found = built(tmp_path, mix("out", base="base", method="passthrough"))["v.weight"]
    exact = sum(
        2.0 * b.double() @ a.double()
        for a, b in (modules_of(case.part(f"in.a{i}.base_model.model."))["v"] for i in (0, 1))
    )
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)
