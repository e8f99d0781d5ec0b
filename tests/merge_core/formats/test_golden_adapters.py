"""What the papers' own code makes of adapters of its own, against the whole way from file to merged weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merge_core.errors import UnsupportedError
from merge_core.formats import inspect, read
from merge_core.sources import folder_source
from tests.merge_core.building import built, mix, write_model
from tests.merge_core.test_golden import Case, cases


def adapter(root: Path, tensors: dict[str, torch.Tensor], **config: object) -> None:
    (root / "adapter").mkdir()
    named = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
    save_file(named, root / "adapter/adapter_model.safetensors")
    (root / "adapter/adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | config))


def merged(root: Path) -> dict[str, torch.Tensor]:
    return built(root, mix("adapter", base="base", method="task_arithmetic"))


def close(case: Case, found: torch.Tensor, name: str) -> None:
    compare = case.sidecar["compare"]
    torch.testing.assert_close(found, case.tensors[name], rtol=compare["rtol"], atol=compare["atol"])


@pytest.mark.parametrize("name", cases("corda"))
def test_a_checkpoint_of_corda_is_what_its_script_merges(name: str, tmp_path: Path) -> None:
    case = Case(name)
    write_model(tmp_path / "base", {"q.weight": case.tensors["in.base"]})
    parts = {
        "q.ALinear.weight": case.tensors["in.trained.ALinear"],
        "q.BLinear.weight": case.tensors["in.trained.BLinear"],
        "q.weight_residual": case.tensors["in.weight_residual"],
    }
    write_model(tmp_path / "adapter", parts)
    assert inspect(folder_source(str(tmp_path / "adapter")).files).format == "corda"
    found = merged(tmp_path)["q.weight"]
    close(case, found, "out.merged_weight")
    close(case, found - case.tensors["in.base"], "out.delta_vs_base")


@pytest.mark.parametrize("name", cases("lora_xs_sb", "sb", "xs_r"))
def test_a_small_matrix_between_the_factors_is_multiplied_in(name: str, tmp_path: Path) -> None:
    case, params = Case(name), Case(name).params
    write_model(tmp_path / "base", {"q_proj.weight": case.tensors["in.base"]})
    factors = {f"q_proj.lora_{key}.weight": case.tensors[f"in.lora_{key}"] for key in "AB"}
    factors |= {"q_proj_lora_latent_mapping.weight": case.tensors["in.latent_R"]}
    settings = {key: params[key] for key in ("r", "lora_alpha", "fan_in_fan_out")}
    adapter(tmp_path, factors, **settings)
    close(case, merged(tmp_path)["q_proj.weight"] - case.tensors["in.base"], "out.delta")


@pytest.mark.parametrize("name", cases("lora_xs_sb", "xs_init"))
def test_initial_factors_with_a_matrix_of_ones_are_their_product(name: str, tmp_path: Path) -> None:
    case, rank = Case(name), Case(name).params["r"]
    write_model(tmp_path / "base", {"q_proj.weight": torch.zeros_like(case.tensors["in.base"])})
    factors = {f"q_proj.lora_{key}.weight": case.tensors[f"out.lora_{key}"] for key in "AB"}
    factors |= {"q_proj_lora_latent_mapping.weight": torch.eye(rank)}
    adapter(tmp_path, factors, r=rank, lora_alpha=rank)
    close(case, merged(tmp_path)["q_proj.weight"], "out.BA")


def test_ia3_factors_are_folded_as_peft_folds_them(tmp_path: Path) -> None:
    case = Case("residual_init/ia3_fold")
    write_model(tmp_path / "base", case.part("in.base."))
    factors = {name.removesuffix(".default"): t for name, t in case.part("in.base_model.model.").items()}
    adapter(tmp_path, factors, peft_type="IA3", feedforward_modules=["v"], target_modules=["q", "v"])
    case.check(merged(tmp_path), "out.merged.")


RESIDUAL = cases("residual_init", "pissa", "olora", "corda")


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_converted_adapter_is_an_ordinary_one_of_twice_the_rank(name: str, tmp_path: Path) -> None:
    case, params = Case(name), Case(name).params
    write_model(tmp_path / "base", case.part("in.base."))
    settings = {"r": params["converted_r"], "lora_alpha": params["converted_alpha"], "init_lora_weights": True}
    adapter(tmp_path, case.part("out.converted.base_model.model."), use_rslora=params["use_rslora"], **settings)
    case.check(merged(tmp_path), "out.merged.")


@pytest.mark.parametrize("name", RESIDUAL)
def test_an_adapter_of_a_changed_base_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    case, params = Case(name), Case(name).params
    settings = {"r": params["r"], "lora_alpha": params["lora_alpha"], "init_lora_weights": params["init"]}
    adapter(tmp_path, case.part("in.adapter_trained.base_model.model."), **settings)
    with pytest.raises(UnsupportedError, match=f"changed base.*found '{params['init']}'; expected the form PEFT"):
        read(folder_source(str(tmp_path / "adapter")).files)


@pytest.mark.parametrize("name", cases("loramoe"))
@pytest.mark.parametrize("says_so", [True, False])
def test_experts_behind_a_router_are_kept_and_not_baked_in(name: str, says_so: bool, tmp_path: Path) -> None:
    case, params = Case(name), Case(name).params
    parts = {f"q.{key}": tensor for key, tensor in case.part("in.").items() if key.startswith("lora_")}
    counts = {"lora_nums": params["lora_nums"]} if says_so else {}
    adapter(tmp_path, parts, r=params["r"], lora_alpha=params["lora_alpha"], **counts)
    found = inspect(folder_source(str(tmp_path / "adapter")).files)
    assert (found.kind, found.format) == ("files", "inference_only")
    assert "a router weighs its experts anew for each token" in str(found.reason)
