"""Formats that adapt a weight by scales, factors or signs: folded as their own code folds them, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from merge_core.deltas.triangular import lower_diagonal_upper
from merge_core.errors import FileError, InputError, RecipeError, UnsupportedError
from merge_core.formats import inspect, read
from merge_core.sources import folder_source
from tests.merge_core.building import Tensors, built, mix, planned, relative_rms, write_model
from tests.merge_core.formats.golden_cases import Case, cases
from tests.merge_core.formats.test_sparse_formats import named

TASK = {"base": "base", "method": "task_arithmetic"}


def write_state(folder: Path, tensors: Tensors, **config: object) -> None:
    folder.mkdir()
    torch.save(dict(tensors), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config))


SSF_PLACES = {"block.": "blocks.0.", "patch_embed.": "patch_embed."}


def ssf_name(name: str) -> str:
    return next(new + name.removeprefix(old) for old, new in SSF_PLACES.items() if name.startswith(old))


def ssf_parts(case: Case) -> tuple[Tensors, Tensors, Tensors]:
    """The base, what is trained beside it, and what both fold to."""
    state = {ssf_name(name): t for name, t in case.part("in.").items() if name.startswith(tuple(SSF_PLACES))}
    base = {name: tensor for name, tensor in state.items() if "ssf_" not in name}
    added = {name: tensor for name, tensor in state.items() if "ssf_" in name}
    folded = {
        name.replace("patch.", "patch_embed.") if name.startswith("patch.") else f"blocks.0.{name}": tensor
        for name, tensor in case.part("out.folded.").items()
    }
    return base, added, folded


@pytest.mark.parametrize("case", cases("ssf"), ids=named)
@pytest.mark.parametrize("has_weights", [True, False])
def test_ssf_folds_into_weights_and_biases_and_makes_those_that_are_missing(
    case: Case, has_weights: bool, tmp_path: Path
) -> None:
    base, added, folded = ssf_parts(case)
    write_model(tmp_path / "base", base)
    write_state(tmp_path / "ssf", base | added if has_weights else added)
    found = built(tmp_path, mix("ssf", **TASK))
    assert found.keys() == base.keys() | folded.keys()
    for name, expected in folded.items():
        case.check_close(found[name], expected)


def test_ssf_of_an_unknown_operation_is_refused_by_name(tmp_path: Path) -> None:
    write_state(tmp_path / "ssf", {"token_mixer.ssf_scale_3": torch.ones(2), "token_mixer.ssf_shift_3": torch.ones(2)})
    with pytest.raises(UnsupportedError, match=r"'token_mixer\.ssf_.*_3': the scaled operation is not known"):
        read(folder_source("ssf", tmp_path).files)


@pytest.mark.parametrize("bent", [{"shift": None}, {"shift": torch.ones(3)}, {"scale": torch.ones(2, 2)}])
def test_ssf_pairs_that_do_not_fit_are_refused(bent: dict[str, Any], tmp_path: Path) -> None:
    parts = {"scale": torch.ones(2), "shift": torch.ones(2)} | bent
    state = {f"blocks.1.attn.ssf_{part}_1": tensor for part, tensor in parts.items() if tensor is not None}
    write_state(tmp_path / "ssf", state)
    with pytest.raises(FileError, match=r"blocks\.1\.attn\.qkv"):
        read(folder_source("ssf", tmp_path).files)


def lofit_state(case: Case) -> tuple[Tensors, Tensors]:
    """The base, and the heads' vectors by the original's names: a head without any is left out."""
    layer = "model.layers.3.self_attn"
    base = {f"{layer}.{name}": tensor for name, tensor in case.part("in.").items() if name.startswith("o_proj")}
    heads = {
        f"{layer}.attn_{part}.{head}": vector
        for part in "Av"
        for head, vector in enumerate(case.tensors[f"in.attn_{part}"])
        if vector.any()
    }
    return base, heads


@pytest.mark.parametrize("case", cases("lofit"), ids=named)
@pytest.mark.parametrize("has_weights", [True, False])
def test_lofit_folds_heads_into_the_projection_and_its_bias(case: Case, has_weights: bool, tmp_path: Path) -> None:
    base, heads = lofit_state(case)
    write_model(tmp_path / "base", base)
    write_state(tmp_path / "lofit", base | heads if has_weights else heads)
    found = built(tmp_path, mix("lofit", **TASK))
    for name, expected in case.part("out.folded.").items():
        case.check_close(found[f"model.layers.3.self_attn.{name}"], expected)


@pytest.mark.parametrize(("head", "size"), [(2, 6), (0, 5), (10**4 - 1, 6), (0, 0)])
def test_a_lofit_head_that_the_projection_lacks_is_refused(head: int, size: int, tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"l.self_attn.o_proj.weight": torch.ones(12, 12)})
    write_state(tmp_path / "lofit", {f"l.self_attn.attn_v.{head}": torch.ones(size)})
    with pytest.raises(FileError, match=f"found head {head} of {size} entries"):
        planned(tmp_path, mix("lofit", **TASK))


def test_lofit_of_a_layer_that_the_base_lacks_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"l.self_attn.o_proj.weight": torch.ones(12, 12)})
    write_state(tmp_path / "lofit", {"l.other_attn.attn_v.0": torch.ones(6)})
    with pytest.raises(RecipeError, match="lands on no tensor"):
        planned(tmp_path, mix("lofit", **TASK))


def dsee_state(case: Case) -> tuple[Tensors, Tensors]:
    layer = "bert.encoder.layer.0.attention.self"
    base, parts = {}, {}
    for module in ("query", "value"):
        tensors = case.part(f"in.{module}.")
        base[f"{layer}.{module}.weight"] = tensors["base"]
        parts |= {f"{layer}.{module}_lora_{part}.weight": tensors[f"lora_{part}"] for part in "ab"}
        parts |= {f"{layer}.{module}_{part}": tensors[part] for part in ("lora_s.weight_orig", "lora_s.weight_mask")}
    return base, parts


@pytest.mark.parametrize("case", cases("dsee"), ids=named)
@pytest.mark.parametrize("has_weights", [True, False])
def test_dsee_adds_what_its_forward_pass_adds(case: Case, has_weights: bool, tmp_path: Path) -> None:
    base, parts = dsee_state(case)
    write_model(tmp_path / "base", base)
    write_state(tmp_path / "dsee", base | parts if has_weights else parts, lora_alpha=case.params["lora_alpha"])
    found = built(tmp_path, mix("dsee", **TASK))
    for name, tensor in base.items():
        module = name.split(".")[-2]
        case.check_close(found[name], tensor + case.tensors[f"out.{module}.delta_forward"])


def test_dsee_without_its_alpha_is_stored_and_refused_in_recipes(tmp_path: Path) -> None:
    write_state(tmp_path / "dsee", dsee_state(cases("dsee")[0])[1])
    found = inspect(folder_source("dsee", tmp_path).files)
    assert (found.kind, found.format) == ("files", "dsee")
    assert "does not say how its parts are scaled" in str(found.reason)


def write_loldu(folder: Path, case: Case, **config: object) -> None:
    state = {"l.parametrizations.weight.0.vector_z": case.tensors["in.vector_z_trained"]}
    if "trained" in case.name:
        state["l.parametrizations.weight.0.scaling_factor"] = case.tensors["in.scaling_factor"]
    folder.mkdir()
    torch.save(state, folder / "pytorch_model.bin")
    if config:
        (folder / "loldu_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("case", cases("loldu"), ids=named)
def test_loldu_is_recovered_from_the_base_or_refused_where_it_began_at_random(case: Case, tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"l.weight": case.tensors["in.base"]})
    settings = {"lora_alpha": case.params["lora_alpha"], "init_method": case.params["init_method"]}
    write_loldu(tmp_path / "loldu", case, **settings)
    if settings["init_method"] in ("uniform", "normal"):
        with pytest.raises(UnsupportedError, match=r"began at random.*found uniform"):
            planned(tmp_path, mix("loldu", **TASK))
        return
    found = built(tmp_path, mix("loldu", **TASK))["l.weight"]
    case.check_close(found - case.tensors["in.base"], case.tensors["out.delta"])


def test_loldu_that_does_not_say_how_it_began_is_stored_and_refused_in_recipes(tmp_path: Path) -> None:
    write_loldu(tmp_path / "loldu", cases("loldu")[0])
    found = inspect(folder_source("loldu", tmp_path).files)
    assert (found.kind, found.format) == ("files", "loldu")
    assert "loldu_config.json" in str(found.reason)


@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9), (1, 1), (60, 40)])
def test_the_factors_are_those_of_torchs_decomposition(shape: tuple[int, int]) -> None:
    torch.manual_seed(3)
    matrix = torch.randn(shape, dtype=torch.float64)
    rank = max(min(shape) - 1, 1)
    lower, diagonal, upper = lower_diagonal_upper(matrix.numpy().copy(), rank)
    permutation, expected_lower, expected_upper = torch.linalg.lu(matrix)
    expected_diagonal = torch.diagonal(expected_upper)[:rank]
    assert relative_rms(torch.from_numpy(lower), (permutation @ expected_lower)[:, :rank]) < 1e-12
    assert relative_rms(torch.from_numpy(diagonal), expected_diagonal) < 1e-12
    assert relative_rms(torch.from_numpy(upper), expected_upper[:rank] / expected_diagonal[:, None]) < 1e-12


@pytest.mark.parametrize("case", cases("s2ft"), ids=named)
def test_s2ft_is_refused_since_its_rows_are_the_bases_in_another_order(case: Case, tmp_path: Path) -> None:
    write_model(tmp_path / "base", case.part("in.base."))
    write_model(tmp_path / "s2ft", case.part("out.fused_permuted."))
    with pytest.raises(UnsupportedError, match=r"'s2ft'.*(gate|q|k)_proj\.weight': the rows are the base's in another"):
        planned(tmp_path, mix("s2ft", **TASK))


def test_an_ordinary_fine_tune_of_frozen_and_trained_projections_is_merged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = {f"layers.{layer}.mlp.gate_proj.weight": torch.randn(200, 8) for layer in range(3)}
    half = dict(base) | {name: tensor + 0.1 * torch.randn(200, 8) for name, tensor in list(base.items())[1:]}
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "half", half)
    found = built(tmp_path, mix("half", **TASK))
    assert all(relative_rms(found[name], half[name]) < 1e-6 for name in base)


def pack(signs: torch.Tensor) -> torch.Tensor:
    """As BitDelta packs the transposed signs: 32 of the first dimension in a word, the first in its lowest bit."""
    bits = signs.T.reshape(-1, 32, signs.shape[0]).long() << torch.arange(32)[None, :, None]
    return bits.sum(1).to(torch.int32)


@pytest.mark.parametrize("shape", [(5, 32), (7, 96), (64, 64)])
def test_bitdelta_adds_or_takes_its_factor_by_the_sign_of_each_entry(shape: tuple[int, int], tmp_path: Path) -> None:
    torch.manual_seed(1)
    base, tuned, norm = torch.randn(shape), torch.randn(shape), torch.randn(3)
    coefficient = (tuned - base).abs().mean()
    write_model(tmp_path / "base", {"m.q_proj.weight": base, "norm.weight": torch.zeros(3)})
    (tmp_path / "bit").mkdir()
    state = {
        "m.q_proj.mask": pack(tuned >= base),
        "m.q_proj.coeff": torch.nn.Parameter(coefficient),
        "norm.weight": norm,
    }
    torch.save(state, tmp_path / "bit" / "diff.pt")
    found = built(tmp_path, mix("bit", **TASK))
    expected = base + coefficient * torch.where(tuned >= base, 1.0, -1.0)
    assert relative_rms(found["m.q_proj.weight"], expected) < 1e-6
    assert torch.equal(found["norm.weight"], norm)


@pytest.mark.parametrize(
    ("mask", "coefficient"),
    [
        (torch.ones(2, 2), torch.ones(())),
        (torch.ones(2, dtype=torch.int32), torch.ones(())),
        (torch.ones(2, 2, dtype=torch.int32), torch.ones(2)),
    ],
)
def test_malformed_bitdelta_is_refused(mask: torch.Tensor, coefficient: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / "bit").mkdir()
    torch.save({"m.mask": mask, "m.coeff": coefficient}, tmp_path / "bit" / "diff.pt")
    with pytest.raises(FileError, match="module 'm'"):
        read(folder_source("bit", tmp_path).files)


def test_a_task_of_emr_is_its_share_of_the_unified_vector(tmp_path: Path) -> None:
    torch.manual_seed(2)
    base, unified = torch.randn(4, 5), torch.randn(4, 5)
    mask = torch.rand(4, 5) > 0.5
    write_model(tmp_path / "base", {"w": base})
    (tmp_path / "emr").mkdir()
    state = {"w.unified": unified, "w.mask": mask, "rescaler": torch.tensor(1.5)}
    save_file(state, tmp_path / "emr" / "task.safetensors")
    assert relative_rms(built(tmp_path, mix("emr", **TASK))["w"], base + 1.5 * mask * unified) < 1e-6
    for bent in ({"w.mask": mask[:1]}, {"rescaler": torch.ones(2)}, {"quux": torch.ones(2)}):
        save_file({name: t.contiguous() for name, t in (state | bent).items()}, tmp_path / "emr" / "task.safetensors")
        with pytest.raises(InputError):
            read(folder_source("emr", tmp_path).files)
