"""What the papers' own code drops and prunes, with the masks that it drew, against our arithmetic.

Masks come from torch's generator, which we do not follow; so either an entry is compared under every seed that
keeps it, or the case's own mask is put in the place of our draws.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.random_drop import random_drop
from kernels.random_drop.reference import keep
from tests.merge_core.building import built, mix, write_model
from tests.merge_core.test_golden import LEAVE_THE_HEAD, Case, cases, original_ties

MOST_SEEDS = 1000


@pytest.mark.parametrize("name", cases("dare", "rand", "sweep"))
def test_an_entry_that_we_keep_has_the_value_that_dare_gives_it(name: str) -> None:
    """Seed after seed, until every entry that the original keeps has been kept by us."""
    case = Case(name)
    delta, density = case.tensors["in.delta"].float(), 1 - case.params["mask_rate"]
    expected, dropped = case.tensors["out.delta"].float(), case.tensors["in.drop_mask"].bool()
    assert not expected[dropped].any()
    rows, found = delta.reshape(1, -1).numpy(), np.full(delta.numel(), np.nan, np.float32)
    for seed in range(MOST_SEEDS):
        kept = random_drop(rows, seed, name, 0, density, case.params["use_rescale"])[0]
        found = np.where(kept != 0, kept, found)
        if not np.isnan(found[~dropped.flatten().numpy()]).any():
            break
    result = torch.where(dropped, 0.0, torch.from_numpy(found).reshape(delta.shape))
    case.check({"": result}, "out.delta")


@pytest.mark.parametrize("name", cases("dare", "rand", "sweep"))
def test_the_original_mask_in_place_of_our_draws_gives_what_dare_gives(name: str) -> None:
    case = Case(name)
    delta, is_kept = case.tensors["in.delta"].float(), ~case.tensors["in.drop_mask"].bool()
    found = keep(delta, is_kept, 1 - case.params["mask_rate"], case.params["use_rescale"])
    case.check({"": found}, "out.delta")


@pytest.mark.parametrize("name", cases("dare", "mag"))
def test_breadcrumbs_without_outliers_is_what_mergelm_masks_by_magnitude(name: str, tmp_path: Path) -> None:
    """It drops int(rate · n) entries, and rescales as if at random: here `scale`. Its rate 0 raises."""
    case = Case(name)
    delta, rate = case.tensors["in.delta"], case.params["mask_rate"]
    write_model(tmp_path / "base", {"t": torch.zeros_like(delta)})
    write_model(tmp_path / "ft", {"t": delta})
    method = {"name": "breadcrumbs", "gamma": 0.0, "density": 1 - int(rate * delta.numel()) / delta.numel()}
    scale = 1 / (1 - rate) if case.params["use_rescale"] else 1.0
    found = built(tmp_path, mix("ft", base="base", method=method, scale=scale))["t"]
    if "expect" in case.sidecar:
        assert torch.equal(found, delta)
    else:
        case.check({"": found}, "out.delta")


def thinned(case: Case, root: Path) -> list[str]:
    """The base, and each model moved from it by what the case's own mask leaves of its delta."""
    base, names = case.part("in.base."), []
    write_model(root / "base", base)
    for i, rate in enumerate(case.params["weight_mask_rates"]):
        masks, tuned = case.part(f"in.drop_mask.model{i}."), case.part(f"in.ft{i}.")
        for name, mask in masks.items():
            rest = keep(tuned[name] - base[name], ~mask.bool(), 1 - rate, case.params["use_weight_rescale"])
            tuned[name] = base[name] + rest
        names.append(write_model(root / f"ft{i}", tuned))
    return names


def merging_of(case: Case) -> dict[str, object]:
    how = case.params["mask_apply_method"]
    if how == "average_merging":
        return {"method": "linear"}
    scale = case.params["scaling_coefficient"]
    if how == "task_arithmetic":
        return {"method": "task_arithmetic", "scale": scale}
    size = sum(tensor.numel() for tensor in case.part("out.").values())
    share = (size - int(size * case.params["param_value_mask_rate"]) + 0.5) / size
    return {"method": original_ties(case, share), "scale": scale}


@pytest.mark.parametrize("name", cases("mergelm", "dare"))
def test_what_dare_leaves_merges_as_in_mergelm(name: str, tmp_path: Path) -> None:
    case = Case(name)
    names = thinned(case, tmp_path)
    case.check(built(tmp_path, mix(*names, base="base", tensors=LEAVE_THE_HEAD, **merging_of(case))), "out.")


def pruned(case: Case, inputs: list[torch.Tensor], weights: tuple[float, ...], root: Path) -> torch.Tensor:
    """Magnitude pruning as breadcrumbs without outliers; PEFT keeps int(density · n) entries of each tensor."""
    size = inputs[0].numel()
    root.mkdir()
    write_model(root / "base", {"t": torch.zeros_like(inputs[0])})
    names = [write_model(root / f"m{i}", {"t": tensor}) for i, tensor in enumerate(inputs)]
    method = {"name": "breadcrumbs", "gamma": 0.0, "density": int(case.params["density"] * size) / size}
    return built(root, mix(*names, weights=weights, base="base", method=method))["t"]


@pytest.mark.parametrize("name", ["peft_weighted/magprune_2", "peft_weighted/magprune_4"])
def test_breadcrumbs_without_outliers_is_what_peft_prunes_by_magnitude(name: str, tmp_path: Path) -> None:
    """PEFT gives A and B the root of weight · scaling each."""
    case = Case(name)
    scales = [alpha / rank for alpha, rank in zip(case.params["lora_alpha"], case.params["ranks"], strict=True)]
    weights = tuple((w * scale) ** 0.5 for w, scale in zip(case.params["weights"], scales, strict=True))
    for factor in case.part("out.base_model."):
        inputs = [case.tensors[f"in.a{i}.base_model.{factor}"] for i in range(len(weights))]
        found = pruned(case, inputs, weights, tmp_path / factor)
        case.check({"": found}, f"out.base_model.{factor}")


def test_pruned_deltas_have_the_low_rank_form_that_peft_gives_them(tmp_path: Path) -> None:
    case = Case("peft_weighted/magprune_svd_2")
    for module in ("q", "v"):
        inputs = [case.tensors[f"in.delta.a{i}.{module}"] for i in range(2)]
        merged = pruned(case, inputs, tuple(case.params["weights"]), tmp_path / module)
        u, s, v = torch.linalg.svd(merged.double(), full_matrices=False)
        rank = case.params["out_r"]
        case.check({"": (u[:, :rank] * s[:rank]) @ v[:rank]}, f"out.delta.{module}")
