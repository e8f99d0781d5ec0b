"""What ComPEFT's own code gave, against the whole way from recipe to ternary file and back.

Its `-1` only prunes and gives no ternary tensor: there the entries that are kept are compared.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from merge_core.errors import RecipeError
from merge_core.formats.ternary import open_ternary
from tests.merge_core.building import built, execute, mix, planned, write_model
from tests.merge_core.test_golden import Case, cases, density, raising, returning

CONFIG = '{"peft_type": "LORA", "r": %d, "lora_alpha": %d, "target_modules": ["q_proj", "v_proj"]}'
MAGNITUDES = {-2: "signed_mean", -1: "std"}


def wish_of(case: Case, form: str = "cold") -> dict[str, Any]:
    factor = case.params["replace_factor"]
    magnitude, alpha = MAGNITUDES.get(factor, "std"), float(max(factor, 0) or 1)
    share = density(case.params["k"])
    return {
        "kind": "ternary",
        "convention": "original",
        "density": share,
        "alpha": alpha,
        "magnitude": magnitude,
        "form": form,
    }


def write_lora(folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    folder.mkdir()
    rank = next(len(tensor) for name, tensor in tensors.items() if "lora_A" in name)
    (folder / "adapter_config.json").write_text(CONFIG % (rank, rank))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder.name


def compressed(root: Path, name: str, output: dict[str, Any], base: str | None = None) -> Path:
    folder = root / f"{name}.ternary"
    wish = mix(name, method="passthrough", output=output) | ({} if base is None else {"base": base})
    execute(planned(root, wish), folder, durable=False)
    return folder


def decoded(folder: Path) -> dict[str, torch.Tensor]:
    """The ternary tensors of a file, as float32."""
    found = open_ternary({"ternary.safetensors": folder / "ternary.safetensors"})
    tensors = {}
    for name, delta in found.deltas.items():
        out = torch.empty(delta.shape).flatten()
        delta.open().load_delta(out.numpy(), 0, None)
        tensors[name] = out.reshape(delta.shape)
    return tensors


def filled(found: dict[str, torch.Tensor], like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A tensor without entries is not in the file."""
    return {name: found.get(name, torch.zeros(tensor.shape)) for name, tensor in like.items()}


PLAIN = [name for name in returning(cases("compeft", "k", "sweep")) if "prune" not in name]


@pytest.mark.parametrize("form", ["hot", "cold"])
@pytest.mark.parametrize("name", PLAIN)
def test_an_adapters_own_tensors_are_compressed_as_in_the_original(name: str, form: str, tmp_path: Path) -> None:
    case = Case(name)
    source = write_lora(tmp_path / "adapter", case.part("in."))
    found = decoded(compressed(tmp_path, source, wish_of(case, form)))
    outputs = {key: tensor for key, tensor in case.part("out.").items() if "lora_" in key}
    case.check(filled(found, outputs) | {key: case.part("out.")[key] for key in ("mask_flat", "ternary_flat")}, "out.")
    flat = torch.cat([filled(found, outputs)[key].sign().flatten() for key in sorted(outputs)])
    signs = torch.cat([case.part("in.")[key].sign().flatten() for key in sorted(outputs)])
    assert torch.equal(flat != 0, case.tensors["out.mask_flat"].flatten().bool())
    assert torch.equal(flat * flat, (flat * signs).abs())


def test_what_the_original_prunes_is_what_is_kept_here(tmp_path: Path) -> None:
    case = Case("compeft/k20_prune_only")
    source = write_lora(tmp_path / "adapter", case.part("in."))
    found = decoded(compressed(tmp_path, source, wish_of(case)))
    pruned = {key: tensor for key, tensor in case.part("out.").items() if "lora_" in key}
    for key, tensor in filled(found, pruned).items():
        assert torch.equal(tensor.sign(), pruned[key].sign())


@pytest.mark.parametrize("name", raising(cases("compeft")))
def test_what_the_original_does_not_compress_is_refused_by_its_convention(name: str, tmp_path: Path) -> None:
    case = Case(name)
    source = write_lora(tmp_path / "adapter", case.part("in."))
    wish = wish_of(case) | {"density": 1.0}
    with pytest.raises(RecipeError) as caught:
        compressed(tmp_path, source, wish)
    assert caught.value.where == "output.density"
    found = decoded(compressed(tmp_path, source, wish | {"convention": "stockpot"}))
    assert all(found[key].count_nonzero() == tensor.count_nonzero() for key, tensor in case.part("in.").items())


@pytest.mark.parametrize("name", cases("compeft", "ia3"))
def test_factors_that_multiply_are_compressed_around_one(name: str, tmp_path: Path) -> None:
    case = Case(name)
    case.params["replace_factor"] = int(name.rpartition("_a")[2])
    write_model(tmp_path / "tuned", case.part("in."))
    write_model(tmp_path / "base", {key: torch.ones_like(tensor) for key, tensor in case.part("in.").items()})
    compressed(tmp_path, "tuned", wish_of(case), base="base")
    back = built(tmp_path, mix("tuned.ternary", base="base", method="task_arithmetic"))
    case.check(back, "out.")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        '{"peft_type": "IA3", "target_modules": ["k"], "feedforward_modules": []}'
    )
    save_file(case.part("in."), adapter / "adapter_model.safetensors")
    own = open_ternary({"ternary.safetensors": compressed(tmp_path, "adapter", wish_of(case)) / "ternary.safetensors"})
    assert all(entry.center == 1.0 for entry in own.entries.values())
    case.check(
        {key: 1 + tensor for key, tensor in filled(decoded(tmp_path / "adapter.ternary"), case.part("in.")).items()},
        "out.",
    )


@pytest.mark.parametrize("name", cases("compeft", "merge"))
def test_compressed_experts_merge_as_in_the_original(name: str, tmp_path: Path) -> None:
    """The experts' own tensors as weights of a base of zeros: the original merges them as one vector."""
    case = Case(name)
    count = case.params["n_experts"]
    experts = [case.part(f"in.expert{i}.") for i in range(count)]
    write_model(tmp_path / "base", {key: torch.zeros_like(tensor) for key, tensor in experts[0].items()})
    names = [f"expert{i}" for i in range(count)]
    for expert, tensors in zip(names, experts, strict=True):
        write_model(tmp_path / expert, tensors)
        case.check(
            filled(decoded(compressed(tmp_path, expert, wish_of(case), "base")), tensors),
            f"out.compressed{expert[6:]}.",
        )
    sources = [f"{expert}.ternary" for expert in names]
    ties = {"name": "ties", "density": case.params["ties_K"] / 100, "scope": "model", "convention": "original"}
    for method, scale, key in (
        ("task_arithmetic", "ta_lambda", "task_arithmetic_flat"),
        (ties, "ties_lambda", "ties_flat"),
    ):
        merged = built(tmp_path, mix(*sources, base="base", method=method, scale=case.params[scale]))
        case.check({"": torch.cat([merged[one].flatten() for one in sorted(merged)])}, f"out.{key}")


def test_the_file_is_read_by_the_official_library(tmp_path: Path) -> None:
    case = Case("compeft/k20_a1")
    source = write_lora(tmp_path / "adapter", case.part("in."))
    tensors = load_file(compressed(tmp_path, source, wish_of(case, "hot")) / "ternary.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.uint8}
    assert {name.rpartition(".")[2] for name in tensors} == {"positive", "negative"}
