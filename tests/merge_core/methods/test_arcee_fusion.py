import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import merged, mix


def fused(base: torch.Tensor, tuned: torch.Tensor, **settings: object) -> torch.Tensor:
    models = {"base": {"w": base}, "m": {"w": tuned}}
    return merged(models, mix("m", base="base", method={"name": "arcee_fusion", **settings}))["w"]


def test_in_one_row_the_largest_changes_stand_out():
    """The divergence is the same for all of a row: importance is |τ|, quartiles 1, 2, 3, so the threshold is 5."""
    delta = torch.tensor([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 6.0, -7.0]) / 8
    found = fused(torch.zeros(10), delta)
    assert torch.equal(found, torch.where(delta.abs() > 5 / 8, delta, 0.0))


def test_a_row_whose_softmax_moves_more_counts_more():
    delta = torch.zeros(40, 6)
    delta[:, 0] = 2.0**-4
    delta[7, 1:3] = torch.tensor([4.0, -4.0])
    found = fused(torch.zeros(40, 6), delta)
    assert found[7, :3].all()
    assert torch.equal(found[7], delta[7])


def test_an_unchanged_model_and_one_shifted_as_a_whole_come_back():
    base = torch.randn(9, 7)
    assert torch.equal(fused(base, base), base)
    grid = torch.randint(-8, 8, (9, 7)) / 8
    assert torch.equal(fused(grid, grid + 1.0, eps=1e-30), grid + 1.0), "softmax is blind to a shift: all count 0"


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (4, 1)])
def test_where_rows_have_one_entry_the_fine_tune_is_taken(shape):
    assert torch.equal(fused(torch.zeros(shape), torch.ones(shape)), torch.ones(shape))


def test_large_logits_do_not_overflow():
    base = torch.tensor([[1e4, -1e4, 0.0, 0.0, 0.0]])
    assert fused(base, base.flip(1)).isfinite().all()


def test_two_inputs_and_weights_are_refused():
    models = {name: {"w": torch.ones(2)} for name in ("base", "m", "n")}
    with pytest.raises(RecipeError, match="arcee_fusion takes another number of ingredients; found 2; expected 1"):
        merged(models, mix("m", "n", base="base", method="arcee_fusion"))
    with pytest.raises(RecipeError, match="gives its inputs no weights"):
        merged(models, mix("m", weights=(2.0,), base="base", method="arcee_fusion"))
