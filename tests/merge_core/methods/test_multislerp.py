import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import merged, mix, relative_rms


def multislerp(*tensors: torch.Tensor, weights: tuple[float, ...] = (), **settings: object) -> torch.Tensor:
    names = [f"m{i}" for i in range(len(tensors))]
    models = {name: {"w": tensor} for name, tensor in zip(names, tensors, strict=True)}
    return merged(models, mix(*names, weights=weights, method={"name": "multislerp", **settings}))["w"]


def test_the_length_is_the_mean_length_and_the_direction_that_of_the_mean_of_unit_vectors():
    first, second, third = torch.randn(3, 8, 9) * torch.tensor([1.0, 5.0, 0.1])[:, None, None]
    found = multislerp(first, second, third).double()
    lengths = [t.double().norm() for t in (first, second, third)]
    mean = sum(t.double() / length for t, length in zip((first, second, third), lengths, strict=True))
    assert relative_rms(found, mean / mean.norm() * sum(lengths) / 3) < 1e-6


def test_inputs_that_cancel_are_averaged_on_a_line():
    values = torch.randn(3, 4)
    assert torch.equal(multislerp(values, -values), torch.zeros(3, 4))
    assert relative_rms(multislerp(values, -3 * values), -values) < 1e-6
    corners = torch.tensor([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    assert multislerp(*corners).abs().max() < 1e-6


def test_one_input_and_equal_inputs_come_back():
    values = torch.randn(3, 4)
    assert torch.equal(multislerp(values), values)
    assert torch.equal(multislerp(values, values), values)
    assert torch.equal(multislerp(values, weights=(0.5,), normalize=False), values / 2)


def test_an_input_of_zeros_shortens_and_does_not_turn():
    values = torch.randn(3, 4)
    assert relative_rms(multislerp(values, torch.zeros(3, 4)), values / 2) < 1e-7
    assert torch.equal(multislerp(torch.zeros(3, 4), torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("shape", [(), (5,), (0, 3)])
def test_small_shapes_are_merged(shape):
    assert torch.equal(multislerp(torch.ones(shape), torch.full(shape, 3.0)), torch.full(shape, 2.0))


def test_weights_that_cancel_are_refused_only_where_they_are_normalised():
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    with pytest.raises(RecipeError, match="weights cannot be normalised"):
        multislerp(first, second, weights=(1.0, -1.0))
    assert multislerp(first, second, weights=(1.0, -1.0), normalize=False).isfinite().all()
