"""Compositions that are adapters: built by the service, loaded by PEFT, and ingredients again."""

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import BertModel

from merge_core.outputs.lora_sink import read_errors
from tests.end_to_end.conftest import Service
from tests.end_to_end.test_first_light import hashes, merge_locally, recipe

EXACT = {"method": {"name": "task_arithmetic"}, "scale": 0.7, "output": {"kind": "lora"}}
CUT = {"method": {"name": "ties", "density": 0.5}, "output": {"kind": "lora", "rank": 3}}


def test_an_adapter_from_the_service_is_the_command_lines_and_says_its_errors(
    service: Service, folders: dict[str, Path], tmp_path: Path
) -> None:
    assert service.compose("soups/cut", recipe(**CUT))["state"] == "done"
    folder = service.download("soups/cut", tmp_path / "remote")
    assert hashes(folder) == merge_locally(CUT, folders, tmp_path / "local", 2)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "stock/base"
    errors = json.loads((folder / "stockpot_report.json").read_text())["relative_errors"]
    assert (folder / "stockpot_report.json").read_bytes() == (tmp_path / "local" / "stockpot_report.json").read_bytes()
    assert errors == read_errors(folder)
    assert all(0 < error < 1 for error in errors.values())


def test_an_adapter_that_was_composed_loads_and_is_an_ingredient_again(
    service: Service, folders: dict[str, Path], tmp_path: Path
) -> None:
    service.compose("soups/first", recipe(**EXACT))
    again = {"base": "stock/base@main", "method": "task_arithmetic", "ingredients": [{"source": "soups/first@main"}]}
    assert service.compose("soups/second", again)["state"] == "done"
    service.compose("soups/direct", recipe(**{**EXACT, "output": {"kind": "checkpoint"}}))
    second = BertModel.from_pretrained(service.download("soups/second", tmp_path / "second"))
    direct = BertModel.from_pretrained(service.download("soups/direct", tmp_path / "direct"))
    adapter = service.download("soups/first", tmp_path / "first")
    loaded = PeftModel.from_pretrained(BertModel.from_pretrained(folders["base"]), adapter).merge_and_unload()
    for found in (second, loaded):
        for (key, tensor), (_, wanted) in zip(found.named_parameters(), direct.named_parameters(), strict=True):
            torch.testing.assert_close(tensor, wanted, rtol=0.0, atol=1e-6, msg=key)


def test_a_plan_says_which_factors_are_exact_and_which_tensor_needs_a_rank(service: Service) -> None:
    rows = service.http.post("/v1/plan", json={"recipe": recipe(**EXACT)}).json()["tensors"]
    assert {(row["factors"], row["exact"]) for row in rows} == {("joined", True)}
    answer = service.http.post("/v1/plan", json={"recipe": recipe(**{**CUT, "output": {"kind": "lora"}})})
    assert answer.status_code == 422
    assert "output.rank" in answer.json()["expected"]
