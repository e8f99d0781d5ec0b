import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import merged, mix, relative_rms

BASE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def nuslerp(first: torch.Tensor, second: torch.Tensor, weights: tuple[float, float] = (1.0, 1.0), **settings: object):
    """The merged delta; with `base` None the merged weights."""
    base = settings.pop("base", torch.zeros_like(first))
    recipe = mix("a", "b", weights=weights, method={"name": "nuslerp", **settings})
    models = {"a": {"w": first}, "b": {"w": second}}
    if base is None:
        return merged(models, recipe)["w"]
    shifted = {name: {"w": tensors["w"] + base} for name, tensors in models.items()}
    return merged({"base": {"w": base}, **shifted}, recipe | {"base": "base"})["w"] - base


def test_halfway_between_perpendicular_deltas_keeps_the_length():
    first, second = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert relative_rms(nuslerp(first, second), torch.full((1, 2), 2.0**0.5)) < 1e-7


def test_with_a_base_the_angle_is_that_of_the_deltas_and_without_that_of_the_weights():
    first, second = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    base = torch.tensor([[4.0, 4.0]])
    assert relative_rms(nuslerp(first, second, base=base), nuslerp(first, second)) < 1e-6
    weights = nuslerp(first + base, second + base, base=None)
    assert not torch.allclose(weights - base, nuslerp(first, second), rtol=0.1)


@pytest.mark.parametrize("per", ["tensor", "row", "column"])
def test_equal_inputs_come_back(per):
    values = torch.randn(6, 5)
    assert torch.equal(nuslerp(values, values, (3.0, 1.0), per=per), values)


@pytest.mark.parametrize("per", ["tensor", "row", "column"])
def test_opposite_inputs_and_zero_ones_are_interpolated_on_a_line(per):
    values = torch.tensor([[1.0, -2.0], [0.0, 0.0], [0.5, 8.0]])
    assert torch.equal(nuslerp(values, -values, (1.0, 3.0), per=per), -values / 2)
    assert torch.equal(nuslerp(values, torch.zeros(3, 2), (1.0, 3.0), per=per), values / 4)
    assert torch.equal(nuslerp(torch.zeros(3, 2), torch.zeros(3, 2), per=per), torch.zeros(3, 2))


def test_rows_and_columns_are_arcs_of_their_own():
    first, second = torch.randn(4, 70), torch.randn(4, 70)
    by_row = nuslerp(first, second, per="row")
    for i in range(4):
        assert relative_rms(by_row[i : i + 1], nuslerp(first[i : i + 1], second[i : i + 1])) < 1e-7
    turned = nuslerp(first.T.contiguous(), second.T.contiguous(), per="column").T
    assert relative_rms(turned, by_row) < 1e-7


@pytest.mark.parametrize("per", ["tensor", "row", "column"])
@pytest.mark.parametrize("shape", [(), (7,), (0, 3), (1,)])
def test_few_dimensions_are_one_vector(shape, per):
    first, second = torch.ones(shape), torch.full(shape, 2.0)
    assert torch.equal(nuslerp(first, second, per=per), torch.full(shape, 1.5))


def test_weights_that_cancel_are_refused():
    with pytest.raises(RecipeError, match=r"weights cannot be normalised; found \[1.0, -1.0\]"):
        nuslerp(BASE, BASE, (1.0, -1.0))
