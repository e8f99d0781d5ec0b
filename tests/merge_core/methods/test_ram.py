import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import merged, mix, relative_rms


def ram(*deltas: torch.Tensor, weights: tuple[float, ...] = (), **settings: object) -> torch.Tensor:
    names = [f"m{i}" for i in range(len(deltas))]
    models = {"base": {"w": torch.zeros_like(deltas[0])}}
    models |= {name: {"w": delta} for name, delta in zip(names, deltas, strict=True)}
    return merged(models, mix(*names, weights=weights, base="base", method={"name": "ram", **settings}))["w"]


def test_what_one_has_is_kept_and_what_several_have_is_averaged():
    first, second, third = torch.tensor([[4.0, 4.0, 4.0, 0.0], [0.0, 2.0, -1.0, 0.0], [0.0, 0.0, 3.0, 0.0]])
    assert torch.equal(ram(first, second, third), torch.tensor([4.0, 3.0, 2.0, 0.0]))


def test_changes_of_at_most_epsilon_are_none():
    first, second = torch.tensor([0.25, 0.5, -0.25]), torch.tensor([1.0, 1.0, 0.0])
    assert torch.equal(ram(first, second, epsilon=0.25), torch.tensor([1.0, 0.75, 0.0]))
    assert torch.equal(ram(first, second, epsilon=0.0), torch.tensor([0.625, 0.75, -0.25]))


def test_one_input_equal_inputs_and_opposite_ones():
    values = torch.randn(40)
    assert torch.equal(ram(values, epsilon=0.0), values)
    assert torch.equal(ram(values, values, epsilon=0.0), values)
    assert not ram(values, -values).any()


@pytest.mark.parametrize("shape", [(), (0,), (0, 3)])
def test_small_shapes_are_merged(shape):
    assert torch.equal(ram(torch.ones(shape), torch.zeros(shape)), torch.ones(shape))


def test_with_more_than_some_models_it_is_still_a_mean():
    deltas = torch.rand(20, 30) + 0.5
    assert relative_rms(ram(*deltas), deltas.double().mean(0)) < 3e-7


def test_weights_are_refused():
    with pytest.raises(RecipeError, match="gives its inputs no weights"):
        ram(torch.ones(2), torch.ones(2), weights=(1.0, 2.0))
