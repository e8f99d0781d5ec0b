import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import merged, mix, relative_rms


def model_stock(*deltas: torch.Tensor, weights: tuple[float, ...] = (), **settings: object) -> torch.Tensor:
    names = [f"m{i}" for i in range(len(deltas))]
    models = {"base": {"w": torch.zeros_like(deltas[0])}}
    models |= {name: {"w": delta} for name, delta in zip(names, deltas, strict=True)}
    return merged(models, mix(*names, weights=weights, base="base", method={"name": "model_stock", **settings}))["w"]


def test_two_deltas_at_sixty_degrees_go_two_thirds_of_the_way():
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.75**0.5])
    assert relative_rms(model_stock(first, second), (first + second) / 2 * (2 * 0.5 / 1.5)) < 1e-6


def test_perpendicular_deltas_leave_the_base():
    assert torch.equal(model_stock(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0])), torch.zeros(2))


def test_one_input_and_equal_inputs_come_back():
    values = torch.randn(3, 4)
    assert torch.equal(model_stock(values), values)
    assert torch.equal(model_stock(values, values), values)


def test_deltas_that_cancel_leave_the_base():
    values = torch.randn(3, 4)
    assert torch.equal(model_stock(values, -values), torch.zeros(3, 4))
    assert torch.equal(model_stock(values, -3 * values), torch.zeros(3, 4))


def test_a_zero_delta_is_perpendicular_to_all():
    values = torch.randn(3, 4)
    assert torch.equal(model_stock(values, torch.zeros(3, 4)), torch.zeros(3, 4))
    # Of the three pairs one has cosine 1: t = 3·⅓ / (1 + 2·⅓) = 0.6, and the mean is ⅔ of the delta.
    assert relative_rms(model_stock(values, values, torch.zeros(3, 4)), 0.4 * values) < 1e-6


def test_tiny_deltas_are_as_good_as_large_ones():
    deltas = torch.randn(3, 8, 4) + 1.0
    assert relative_rms(model_stock(*(deltas * 2.0**-40)) * 2.0**40, model_stock(*deltas)) < 1e-7


def test_each_row_has_an_angle_of_its_own():
    first, second = torch.randn(2, 5, 60) + 0.5
    by_row = model_stock(first, second, per_row=True)
    for i in range(5):
        assert relative_rms(by_row[i], model_stock(first[i], second[i])) < 1e-6


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (2, 3, 2)])
def test_every_shape_is_merged(shape, per_row):
    assert torch.equal(model_stock(torch.ones(shape), torch.ones(shape), per_row=per_row), torch.ones(shape))


def test_weights_are_refused():
    with pytest.raises(RecipeError, match=r"this method gives its inputs no weights; found \[0.5, 1.0\]"):
        model_stock(torch.ones(2), torch.ones(2), weights=(0.5, 1.0))
