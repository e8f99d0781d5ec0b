"""Files of kohya's scripts and LyCORIS: which weights their names mean, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merge_core.errors import FileError, InputError, RecipeError, UnsupportedError
from merge_core.formats import read
from merge_core.formats.kohya_names import spelt_out
from merge_core.sources import folder_source
from tests.merge_core.building import built, mix, write_model

BASE = [
    "unet.down_blocks.0.attn_1.to_q.weight",
    "text_encoder.text_model.layers.0.self_attn.q_proj.weight",
    "text_encoder_2.text_model.layers.0.self_attn.q_proj.weight",
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lora_unet_down_blocks_0_attn_1_to_q.weight", BASE[0]),
        ("lora_te_text_model_layers_0_self_attn_q_proj.weight", BASE[1]),
        ("lora_te1_text_model_layers_0_self_attn_q_proj.weight", BASE[1]),
        ("lora_te2_text_model_layers_0_self_attn_q_proj.weight", BASE[2]),
        ("lycoris_unet_down_blocks_0_attn_1_to_q.weight", BASE[0]),
        ("unet.down_blocks.0.attn_1.to_q.weight", BASE[0]),
    ],
)
def test_a_name_means_the_weight_that_is_spelt_with_dots(name: str, meant: str) -> None:
    assert spelt_out([name], BASE) == {name: meant}


def test_a_base_without_its_outermost_module_is_met() -> None:
    name = "lora_te_text_model_encoder_layers_0_q_proj.weight"
    assert spelt_out([name], ["encoder.layers.0.q_proj.weight", "q_proj.weight"])[name].startswith("encoder.")


def test_a_name_that_could_mean_several_weights_is_refused_with_all_of_them() -> None:
    with pytest.raises(RecipeError, match=r"several.*'text_encoder\.text.*' and 'text_encoder_2\.text"):
        spelt_out(["lora_x_text_model_layers_0_self_attn_q_proj.weight".replace("x_", "")], BASE)


def test_two_modules_that_mean_one_weight_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"a.b_c.weight": torch.ones(2, 2)})
    lora(tmp_path, {"lora_unet_a_b_c.diff": torch.ones(2, 2), "lora_a_b_c.diff": torch.ones(2, 2)})
    with pytest.raises(FileError, match=r"a\.b_c\.weight'.*two modules mean the same weight"):
        built(tmp_path, mix("adapter", base="base", method="task_arithmetic"))


def test_a_linear_lora_lands_on_a_pointwise_convolution(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"proj_in.weight": torch.zeros(3, 2, 1, 1)})
    pair = {
        "lora_unet_proj_in.lora_down.weight": torch.ones(1, 2),
        "lora_unet_proj_in.lora_up.weight": torch.ones(3, 1),
    }
    lora(tmp_path, pair | {"lora_unet_proj_in.alpha": torch.tensor(4)})
    found = built(tmp_path, mix("adapter", base="base", method="task_arithmetic"))
    assert torch.equal(found["proj_in.weight"], torch.full((3, 2, 1, 1), 4.0))


def lora(root: Path, tensors: dict[str, torch.Tensor]) -> None:
    (root / "adapter").mkdir()
    save_file(tensors, root / "adapter/pytorch_lora_weights.safetensors")


DOWN, UP = "lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight"
PAIR = {DOWN: torch.ones(2, 5), UP: torch.ones(3, 2)}
REFUSED: dict[str, tuple[dict[str, torch.Tensor], type[InputError], str]] = {
    "down alone": ({DOWN: PAIR[DOWN]}, FileError, "lora_unet_x'.*no partner; found only down"),
    "up alone": ({UP: PAIR[UP]}, FileError, "lora_unet_x'.*no partner; found only up"),
    "a rank of 0": ({DOWN: torch.ones(0, 5), UP: torch.ones(3, 0)}, FileError, r"A \[0, 5\]"),
    "a core of another rank": (
        PAIR | {"lora_unet_x.lora_mid.weight": torch.ones(3, 3, 1)},
        FileError,
        r"core does not fit its factors; found \[2, 5\] and \[3, 3, 1\]",
    ),
    "two alphas": (PAIR | {"lora_unet_x.alpha": torch.ones(2)}, FileError, r"alpha is one number; found .*\[2\]"),
    "an alpha of truth": (PAIR | {"lora_unet_x.alpha": torch.tensor(True)}, FileError, "alpha is one number"),
    "an alpha past float32": (
        PAIR | {"lora_unet_x.alpha": torch.tensor(1e60, dtype=torch.float64)},
        FileError,
        "alpha is no sensible number; found inf",
    ),
    "an alpha alone": (PAIR | {"lora_unet_y.alpha": torch.ones(())}, FileError, "lora_unet_y': there is nothing"),
    "magnitudes of neither": (
        PAIR | {"lora_unet_x.dora_scale": torch.ones(4, 1)},
        FileError,
        r"magnitudes do not fit; found \[4, 1\]; expected one for each of 3 outputs or 5 inputs",
    ),
    "factors and a difference": (PAIR | {"lora_unet_x.diff": torch.ones(3, 5)}, FileError, "adapted twice"),
    "two differences": (
        PAIR | {"lora_unet_y.diff": torch.ones(3), "lora_unet_y.w_norm": torch.ones(3)},
        FileError,
        "lora_unet_y': a weight is adapted twice",
    ),
    "parts of two algorithms": (
        PAIR | {"lora_unet_x.hada_w1_a": torch.ones(3, 2)},
        FileError,
        "not those of one delta; found .lora_down.weight beside",
    ),
    "GLoRA": (PAIR | {"lora_unet_y.a1.weight": torch.ones(2)}, UnsupportedError, "algorithm.*not read; found GLoRA"),
    "an unknown part": (PAIR | {"lora_unet_x.quux": torch.ones(2)}, FileError, "lora_unet_x.quux'.*unknown meaning"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_parts_that_do_not_fit_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    tensors, error, found = REFUSED[kind]
    lora(tmp_path, tensors)
    with pytest.raises(error, match=found):
        read(folder_source(str(tmp_path / "adapter")).files)
