import pytest
import torch

from merge_core.methods.swudi import Swudi
from tests.merge_core.methods.spectra import is_near, merged_delta, random_deltas


@pytest.mark.parametrize("settings", [{}, {"share": 1.0}, {"time": 5.0}])
def test_one_input_comes_back(settings):
    for delta in random_deltas(1, 8, 5) + random_deltas(1, 20, 30, rank=2):
        assert torch.equal(merged_delta(Swudi(**settings), delta), delta)


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"time": 0.0}])
def test_nowhere_and_no_time_are_the_sum(settings):
    first, second = random_deltas(2, 8, 5)
    assert is_near(merged_delta(Swudi(**settings), first, second), first.double() + second.double())


def test_tasks_with_inputs_of_their_own_are_added_up():
    first, second = random_deltas(2, 6, 8)
    first[:, 4:], second[:, :4] = 0, 0
    assert is_near(merged_delta(Swudi(share=1.0), first, second), first + second)


def _loss(theta: torch.Tensor, taus: list[torch.Tensor]) -> torch.Tensor:
    pairs = [(tau.double(), theta.double() - tau.double()) for tau in taus]
    return sum(((rest @ tau.T) ** 2).sum() / tau.norm() ** 2 for tau, rest in pairs)


def test_in_all_directions_it_is_the_minimum_of_the_loss():
    taus = random_deltas(2, 8, 5)
    theta = merged_delta(Swudi(share=1.0), *taus).double().requires_grad_()
    slope = torch.autograd.grad(_loss(theta, taus), theta)[0]
    start = (taus[0] + taus[1]).double().requires_grad_()
    assert slope.norm() < 1e-5 * torch.autograd.grad(_loss(start, taus), start)[0].norm()


def test_more_time_is_less_loss_down_to_the_limit():
    taus = random_deltas(3, 6, 20)
    losses = [float(_loss(merged_delta(Swudi(share=1.0, time=time), *taus), taus)) for time in (0.0, 1.0, 10.0, 1e6)]
    assert losses == sorted(losses, reverse=True)
    assert is_near(merged_delta(Swudi(share=1.0, time=1e6), *taus), merged_delta(Swudi(share=1.0), *taus), 1e-5)
