"""Fisher merging beyond what the conformance suite asks."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merge_core.errors import FileError, RecipeError
from tests.merge_core.building import built, mix, write_adapter, write_model

BASE = {"w.weight": torch.arange(12.0).reshape(3, 4), "w.bias": torch.tensor(2.0), "none": torch.zeros(0, 5)}


def publish(folder: Path, **changes: torch.Tensor | None) -> None:
    fisher: dict[str, torch.Tensor | None] = {name: torch.ones_like(t) for name, t in BASE.items()}
    fisher |= {name.replace("_", "."): value for name, value in changes.items()}
    save_file({name: t for name, t in fisher.items() if t is not None}, folder / "fisher.safetensors")


def models(root: Path) -> dict[str, object]:
    """Two models apart by 1 either way, each with a Fisher information of 1 everywhere."""
    for name, step in (("m0", 1.0), ("m1", -1.0)):
        write_model(root / name, {key: tensor + step for key, tensor in BASE.items()})
        publish(root / name)
    return mix("m0", "m1", method="fisher")


def test_equal_information_gives_the_mean_and_weights_shift_it(tmp_path: Path) -> None:
    recipe = models(tmp_path)
    assert all(torch.equal(found, BASE[name]) for name, found in built(tmp_path, recipe).items())
    weighted = recipe | {"ingredients": [{"source": "m0", "weight": 3.0}, {"source": "m1", "weight": 1.0}]}
    assert torch.equal(built(tmp_path, weighted)["w.weight"], BASE["w.weight"] + 0.5)


def test_an_entry_that_one_model_knows_nothing_of_is_the_others(tmp_path: Path) -> None:
    recipe = models(tmp_path)
    publish(tmp_path / "m1", w_weight=torch.zeros(3, 4))
    found = built(tmp_path, recipe | {"method": {"name": "fisher", "floor": 1e-12}})
    torch.testing.assert_close(found["w.weight"], BASE["w.weight"] + 1, rtol=0, atol=1e-6)
    assert torch.equal(found["w.bias"], BASE["w.bias"])


def test_where_nobody_knows_anything_the_floor_gives_the_weighted_mean(tmp_path: Path) -> None:
    recipe = models(tmp_path)
    for name in ("m0", "m1"):
        publish(tmp_path / name, w_weight=torch.zeros(3, 4))
    assert torch.equal(built(tmp_path, recipe)["w.weight"], BASE["w.weight"])


def test_values_at_the_ends_of_float32_neither_overflow_nor_vanish(tmp_path: Path) -> None:
    recipe = models(tmp_path)
    for name, size in (("m0", 3e38), ("m1", 1e38)):
        publish(tmp_path / name, w_weight=torch.full((3, 4), size))
    torch.testing.assert_close(built(tmp_path, recipe)["w.weight"], BASE["w.weight"] + 0.5)


def test_an_adapter_publishes_statistics_of_the_weights_that_it_changes(tmp_path: Path) -> None:
    write_model(tmp_path / "base", BASE)
    for name, step in (("a", 1.0), ("b", -1.0)):
        write_adapter(tmp_path / name, {"w": (torch.ones(1, 4), torch.full((3, 1), step))})
        save_file({"w.weight": torch.full((3, 4), 2.0 + step)}, tmp_path / name / "fisher.safetensors")
    found = built(tmp_path, mix("a", "b", base="base", method="fisher"))
    assert torch.equal(found["w.weight"], BASE["w.weight"] + 0.5)
    assert torch.equal(found["w.bias"], BASE["w.bias"])


def test_a_missing_file_tensor_or_shape_is_refused_in_planning_by_name(tmp_path: Path) -> None:
    recipe = models(tmp_path)
    publish(tmp_path / "m1", w_bias=None)
    with pytest.raises(RecipeError, match=r"tensor 'w\.bias': .*missing; found nothing in fisher.safetensors of 'm1'"):
        built(tmp_path, recipe)
    assert set(built(tmp_path, recipe | {"tensors": [{"match": "w.bias", "take": 0}]})) == set(BASE)
    publish(tmp_path / "m1", w_bias=torch.ones(2))
    with pytest.raises(RecipeError, match=r"tensor 'w\.bias': .*found \[2\] in .* of 'm1'; expected float32 \[\]"):
        built(tmp_path, recipe)
    publish(tmp_path / "m1", w_bias=torch.tensor(1.0).double())
    with pytest.raises(FileError, match=r"fisher.safetensors: tensor 'w\.bias': .* found float64; expected float32"):
        built(tmp_path, recipe)
    (tmp_path / "m1" / "fisher.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"ingredients: fisher reads .* found no fisher.safetensors in 'm1'"):
        built(tmp_path, recipe)
    nested = mix("m0", method="fisher") | {"ingredients": [{"source": mix("m0", method="linear")}]}
    with pytest.raises(RecipeError, match=r"found no fisher\.safetensors in a nested recipe"):
        built(tmp_path, nested)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_what_is_no_information_is_refused_by_tensor_and_ingredient(bad: float, tmp_path: Path) -> None:
    recipe = models(tmp_path)
    publish(tmp_path / "m1", w_weight=torch.tensor([[1.0] * 4, [1.0] * 4, [1.0, 1.0, 1.0, bad]]))
    with pytest.raises(FileError, match=r"fisher.safetensors: tensor 'w\.weight': .* in ingredient 1"):
        built(tmp_path, recipe)


@pytest.mark.parametrize("weights", [(1.0, -0.5), (0.0, 0.0)])
def test_weights_that_are_no_shares_are_refused(weights: tuple[float, float], tmp_path: Path) -> None:
    models(tmp_path)
    with pytest.raises(RecipeError, match=r"ingredients\[\]\.weight: tensor"):
        built(tmp_path, mix("m0", "m1", weights=weights, method="fisher"))
