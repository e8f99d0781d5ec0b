import math

import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import merged, mix, relative_rms


def karcher(*tensors: torch.Tensor, weights: tuple[float, ...] = (), **recipe: object) -> torch.Tensor:
    names = [f"m{i}" for i in range(len(tensors))]
    models = {name: {"w": tensor} for name, tensor in zip(names, tensors, strict=True)}
    return merged(models, mix(*names, weights=weights, method={"name": "karcher", **recipe}))["w"]


def test_of_two_it_is_slerp_where_they_are_equally_long():
    first, second = torch.randn(2, 9, 7)
    second = second / second.norm() * first.norm()
    models = {"a": {"w": first}, "b": {"w": second}}
    slerp = merged(models, mix("a", "b", weights=(1.0, 3.0), method="slerp"))["w"]
    assert relative_rms(karcher(first, second, weights=(1.0, 3.0)), slerp) < 3e-7


def test_the_weighted_pulls_of_all_inputs_balance_at_the_mean():
    tensors = torch.randn(4, 50).double() + 0.7
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1]).double()
    mean = karcher(*tensors, weights=tuple(shares.tolist())).double()
    mean, units = mean / mean.norm(), tensors / tensors.norm(dim=1, keepdim=True)
    angles = (units @ mean).clamp(-1, 1).arccos()
    pulls = (angles / angles.sin())[:, None] * (units - (units @ mean)[:, None] * mean)
    assert (shares @ pulls).norm() < 1e-6


def test_the_length_is_the_mean_length():
    tensors = torch.randn(3, 40) * torch.tensor([1.0, 4.0, 0.2])[:, None]
    assert math.isclose(karcher(*tensors).norm(), tensors.norm(dim=1).mean(), rel_tol=1e-6)


def test_the_order_of_inputs_does_not_matter():
    tensors = torch.randn(3, 40)
    assert relative_rms(karcher(*tensors.flip(0)), karcher(*tensors)) < 3e-7


def test_one_input_and_equal_inputs_come_back():
    values = torch.randn(3, 4)
    assert torch.equal(karcher(values), values)
    assert relative_rms(karcher(values, values, values), values) < 1e-7


def test_inputs_that_cancel_have_no_mean_direction_and_are_averaged_on_a_line():
    values = torch.randn(3, 4)
    assert torch.equal(karcher(values, -values), torch.zeros(3, 4))
    assert relative_rms(karcher(values, -3 * values), -values) < 1e-6


def test_an_input_opposite_to_the_mean_pulls_nowhere():
    values = torch.randn(3, 4)
    assert relative_rms(karcher(values, values, -values), values) < 1e-6


def test_an_input_of_zeros_shortens_and_does_not_turn():
    first, second = torch.randn(2, 30)
    found = karcher(first, second, torch.zeros(30))
    assert relative_rms(found, karcher(first, second) * 2 / 3) < 3e-7
    assert torch.equal(karcher(torch.zeros(3), torch.zeros(3)), torch.zeros(3))


def test_an_input_of_weight_zero_counts_for_nothing():
    first, second = torch.randn(2, 30)
    assert relative_rms(karcher(first, second, weights=(1.0, 0.0)), first) < 1e-7


def test_no_iterations_give_the_direction_of_the_mean():
    first, second, third = torch.randn(3, 30)
    models = {name: {"w": t} for name, t in zip("abc", (first, second, third), strict=True)}
    start = merged(models, mix("a", "b", "c", method="multislerp"))["w"]
    assert relative_rms(karcher(first, second, third, max_iter=0), start) < 3e-7


def test_deltas_are_averaged_about_the_base():
    base, (first, second) = torch.randn(20) * 10, torch.randn(2, 20)
    models = {"base": {"w": base}, "a": {"w": base + first}, "b": {"w": base + second}}
    found = merged(models, mix("a", "b", base="base", method={"name": "karcher", "of": "deltas"}))["w"]
    assert relative_rms(found - base, karcher(first, second)) < 1e-5


@pytest.mark.parametrize("shape", [(), (5,), (0, 3)])
def test_small_shapes_are_merged(shape):
    assert torch.equal(karcher(torch.ones(shape), torch.full(shape, 3.0)), torch.full(shape, 2.0))


def test_what_has_no_defined_mean_is_refused():
    values = torch.ones(3)
    with pytest.raises(RecipeError, match=r"a mean has no negative shares; found \[2.0, -1.0\]"):
        karcher(values, values, weights=(2.0, -1.0))
    with pytest.raises(RecipeError, match="weights cannot be normalised"):
        karcher(values, values, weights=(0.0, 0.0))
    with pytest.raises(RecipeError, match="base: this method reads the base; found nothing"):
        karcher(values, values, of="deltas")


def test_a_mean_that_is_reached_exactly_stays_there_at_tolerance_zero():
    first, second = torch.tensor([3.0, 4.0]), torch.tensor([1.0, -1.0])
    torch.testing.assert_close(karcher(first, second, weights=(1.0, 0.0), tol=0.0), first)
