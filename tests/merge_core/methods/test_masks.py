"""Consensus, TALL masks, EMR and Localize-and-Stitch at their edges and on examples worked by hand."""

import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.methods.on_zero import ODD_SHAPES, merge, merge_models, normal

WHOLE = {"consensus_ta": {}, "tall_mask": {}, "emr": {}, "localize_and_stitch": {"density": 1.0}}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_one_input_comes_back_in_any_shape(name: str, shape: tuple[int, ...]) -> None:
    delta = normal(*shape)
    assert torch.equal(merge([delta], {"name": name, **WHOLE[name]}), delta)


@pytest.mark.parametrize("name", [*WHOLE, "pcb"])
def test_models_equal_to_the_base_give_the_base(name: str) -> None:
    zero = torch.zeros(7, 9)
    assert not merge([zero, zero], name, scale=3.0).any()
    assert torch.isfinite(merge([zero, normal(7, 9)], name)).all()


COLUMNS = [torch.tensor([1.0, 4.0, 0.0, 2.0]), torch.tensor([1.0, 0.0, 0.0, -2.0]), torch.tensor([1.0, 1.0, 0.0, 0.5])]


def test_consensus_keeps_the_sum_where_enough_tasks_own_the_entry() -> None:
    assert merge(COLUMNS, "consensus_ta").tolist() == [3, 0, 0, 0.5]
    assert merge(COLUMNS, {"name": "consensus_ta", "owners": 1}).tolist() == [3, 5, 0, 0.5]
    assert merge(COLUMNS, {"name": "consensus_ta", "owners": 9}).tolist() == [3, 0, 0, 0.5]


def test_a_tall_mask_gives_one_task_its_part_of_the_sum() -> None:
    assert merge(COLUMNS, {"name": "tall_mask", "task": 0}).tolist() == [3, 5, 0, 0.5]
    assert merge(COLUMNS, {"name": "tall_mask", "task": 2}).tolist() == [3, 0, 0, 0.5]


def test_emr_unifies_masks_and_rescales_over_all_tensors() -> None:
    deltas = [
        {"a": torch.tensor([1.0, -2.0, 3.0, 0.0]), "b": torch.tensor([[2.0, 2.0]])},
        {"a": torch.tensor([2.0, 1.0, 1.0, 4.0]), "b": torch.tensor([[-1.0, 6.0]])},
    ]
    # Unified: a = [2, −2, 3, 4], b = [2, 6]; the first task masks a's last entry.
    scale = (6 / 4 + 4 / 2) / (7 / 4 + 8 / 2)
    found = merge_models(deltas, {"name": "emr", "task": 0})
    assert torch.allclose(found["a"], scale * torch.tensor([2.0, -2.0, 3.0, 0.0]))
    assert torch.allclose(found["b"], scale * torch.tensor([[2.0, 6.0]]))


@pytest.mark.parametrize("name", ["emr", "tall_mask"])
def test_a_task_that_the_recipe_lacks_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"method\.task: there is no such ingredient; found 2; expected 0 to 1"):
        merge([normal(3), normal(3)], {"name": name, "task": 2})


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_emr_refuses_a_weight_that_is_not_above_zero(weight: float) -> None:
    with pytest.raises(RecipeError, match="expected weights above 0"):
        merge([normal(3), normal(3)], "emr", weights=(1.0, weight))


def test_stitching_draws_one_threshold_over_all_tensors() -> None:
    deltas = [{"a": torch.tensor([9.0, 1.0, 8.0]), "b": torch.tensor([2.0, 7.0, 3.0])}]
    deltas += [{"a": torch.tensor([4.0, 0.0, 6.0]), "b": torch.tensor([-5.0, 1.0, 1.0])}]
    found = merge_models(deltas, {"name": "localize_and_stitch", "density": 0.5})
    assert found["a"].tolist() == [6.5, 0.0, 7.0]
    assert found["b"].tolist() == [-5.0, 7.0, 0.0]
