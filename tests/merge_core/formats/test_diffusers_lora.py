"""LoRA files as diffusers writes them; what they give is held by the golden SELMA cases."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merge_core.deltas import LowRank
from merge_core.errors import FileError, InputError, RecipeError
from merge_core.formats import Artefact, read
from merge_core.sources import folder_source
from tests.merge_core.building import built, mix, planned, write_model

DOWN, UP = "unet.mid.to_q.lora.down.weight", "unet.mid.to_q.lora.up.weight"
PAIR = {DOWN: torch.ones(2, 5), UP: torch.ones(3, 2)}


def lora(folder: Path, tensors: dict[str, torch.Tensor]) -> Artefact:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    return read(folder_source(str(folder)).files)


def test_factors_are_multiplied_with_scale_1_under_the_name_without_the_component(tmp_path: Path) -> None:
    artefact = lora(tmp_path / "adapter", PAIR)
    ((name, delta),) = artefact.deltas.items()
    assert name == "mid.to_q.weight"
    assert isinstance(delta, LowRank)
    assert (delta.shape, delta.scale, artefact.facts["ranks"]) == ((3, 5), 1.0, [2])
    write_model(tmp_path / "base", {name: torch.zeros(3, 5)})
    assert torch.equal(built(tmp_path, mix("adapter", base="base", method="selma"))[name], torch.full((3, 5), 2.0))


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        ({DOWN: PAIR[DOWN]}, "mid.to_q'.*no partner; found only down"),
        ({UP: PAIR[UP]}, "mid.to_q'.*no partner; found only up"),
        (PAIR | {"unet.mid.alpha": torch.ones(())}, "'unet.mid.alpha'.*unknown meaning"),
        (PAIR | {DOWN.removeprefix("unet."): torch.ones(2, 5)}, "two tensors have the same meaning"),
        (PAIR | {UP: torch.ones(3, 4)}, r"do not multiply; found A \[2, 5\], B \[3, 4\]"),
        ({DOWN: torch.ones(0, 5), UP: torch.ones(3, 0)}, r"do not multiply; found A \[0, 5\], B \[3, 0\]"),
        (PAIR | {DOWN: torch.ones(2, 5).int()}, "not a LoRA factor; found .*int32"),
        ({}, "no LoRA factors"),
    ],
)
def test_factors_that_do_not_fit_are_refused_by_name(
    tensors: dict[str, torch.Tensor], found: str, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match=f"^pytorch_lora_weights.safetensors.*{found}"):
        lora(tmp_path, tensors)


def test_a_module_that_the_base_lacks_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    lora(tmp_path / "adapter", PAIR)
    write_model(tmp_path / "base", {"mid.to_k.weight": torch.zeros(3, 5)})
    with pytest.raises(RecipeError, match=r"'mid\.to_q\.weight' of 'adapter'; expected one of 'mid\.to_k\.weight'"):
        planned(tmp_path, mix("adapter", base="base", method="selma"))


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ('{"unet.r": 3, "unet.lora_alpha": 3}', r"rank differs; found \[2, 5\]; expected \[3, …\] as in the metadata"),
        ('{"unet.r": 2, "unet.lora_alpha": "2"}', "lora_adapter_metadata.*lora_alpha"),
        (
            '{"unet.r": 2, "unet.lora_alpha": 2, "unet.use_quux": true}',
            "lora_adapter_metadata.*use_quux.*expected unset",
        ),
        ('{"unet.r": 2, "unet.lora_alpha": 2, "unet.init_lora_weights": "pissa"}', "changed base.*'pissa'"),
        ("[]", "lora_adapter_metadata.*not a JSON object"),
        ("{", "lora_adapter_metadata.*not valid JSON"),
    ],
)
def test_a_config_in_the_metadata_is_held_to_the_same_rules_as_one_in_a_file(
    metadata: str, found: str, tmp_path: Path
) -> None:
    save_file(PAIR, tmp_path / "pytorch_lora_weights.safetensors", metadata={"lora_adapter_metadata": metadata})
    with pytest.raises(InputError, match=found):
        read(folder_source(str(tmp_path)).files)


def test_an_alpha_beside_the_factors_scales_them(tmp_path: Path) -> None:
    ((_, delta),) = lora(tmp_path, PAIR | {"unet.mid.to_q.alpha": torch.tensor(5.0)}).deltas.items()
    assert isinstance(delta, LowRank)
    assert delta.scale == 2.5


def test_names_of_several_models_keep_the_model_that_they_are_of(tmp_path: Path) -> None:
    text = {f"text_encoder.q_proj.lora_linear_layer.{part}.weight": torch.ones(2, 2) for part in ("down", "up")}
    old = {f"text_encoder.self_attn.to_out_lora.{part}.weight": torch.ones(2, 2) for part in ("down", "up")}
    names = set(lora(tmp_path, PAIR | text | old).deltas)
    assert names == {
        "unet.mid.to_q.weight",
        "text_encoder.q_proj.weight",
        "text_encoder.self_attn.out_proj.weight",
    }
