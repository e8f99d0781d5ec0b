import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import merged, mix


def nearswap(delta: torch.Tensor, **settings: object) -> torch.Tensor:
    models = {"base": {"w": torch.zeros_like(delta)}, "m": {"w": delta}}
    return merged(models, mix("m", base="base", method={"name": "nearswap", **settings}))["w"]


def test_close_entries_are_swapped_and_far_ones_move_by_t():
    delta = torch.tensor([0.25, -0.5, 0.75, -4.0, 0.0, 1e-30])
    assert torch.equal(nearswap(delta, t=0.5), torch.tensor([0.25, -0.5, 0.5, -0.5, 0.0, 1e-30]))


def test_a_t_of_zero_is_the_base_and_a_large_one_the_other_model():
    delta = torch.randn(50)
    assert not nearswap(delta, t=0.0).any()
    assert torch.equal(nearswap(delta, t=100.0), delta)


def test_a_small_t_moves_by_t_too():
    assert torch.allclose(nearswap(torch.tensor([1e-7, 1.0]), t=1e-8), torch.tensor(1e-8))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3)])
def test_small_shapes_are_merged(shape):
    assert torch.equal(nearswap(torch.ones(shape), t=0.25), torch.full(shape, 0.25))


def test_a_negative_t_and_weights_are_refused():
    with pytest.raises(RecipeError, match=r"method.*t.*found -1"):
        nearswap(torch.ones(2), t=-1.0)
    models = {"base": {"w": torch.zeros(2)}, "m": {"w": torch.ones(2)}}
    with pytest.raises(RecipeError, match="gives its inputs no weights"):
        merged(models, mix("m", weights=(2.0,), base="base", method="nearswap"))
