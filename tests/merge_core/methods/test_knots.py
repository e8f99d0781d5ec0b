import pytest
import torch

from merge_core.methods.knots import Knots
from tests.merge_core.methods.spectra import is_near, merged_delta, random_deltas


@pytest.mark.parametrize("merge_by", ["ties", "dare_ties", "dare_linear", "task_arithmetic"])
def test_one_input_at_density_1_comes_back(merge_by):
    for delta in random_deltas(1, 8, 5) + random_deltas(1, 20, 30, rank=2):
        assert torch.equal(merged_delta(Knots(merge_by=merge_by), delta), delta)


@pytest.mark.parametrize("density", [1.0, 0.4])
def test_zeros_have_no_votes(density):
    first, second = random_deltas(2, 20, 12)
    first[:, :4] = second[:, 4:8] = 0
    beside_nothing = merged_delta(Knots(density=density), first, torch.zeros(20, 12), second)
    assert is_near(beside_nothing, merged_delta(Knots(density=density), first, second))
    if density == 1:
        assert is_near(beside_nothing[:, :8], (first + second)[:, :8])


def test_task_arithmetic_in_the_common_basis_is_task_arithmetic():
    first, second = random_deltas(2, 8, 5)
    found = merged_delta(Knots(merge_by="task_arithmetic"), first, second, weights=(0.5, -2.0))
    assert is_near(found, 0.5 * first.double() - 2.0 * second.double())


@pytest.mark.parametrize("merge_by", ["ties", "dare_ties", "dare_linear"])
def test_density_0_leaves_the_base(merge_by):
    found = merged_delta(Knots(merge_by=merge_by, density=0.0), *random_deltas(2, 8, 5))
    assert torch.equal(found, torch.zeros(8, 5))


def test_deltas_under_the_threshold_leave_the_base():
    tiny = [delta * 1e-7 for delta in random_deltas(2, 8, 5)]
    assert torch.equal(merged_delta(Knots(), *tiny), torch.zeros(8, 5))


def test_random_draws_follow_the_seed():
    deltas = random_deltas(2, 8, 5)
    method = Knots(merge_by="dare_linear", density=0.5)
    first, again, other = (merged_delta(method, *deltas, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_turning_the_outputs_turns_the_result():
    """TIES on the plain entries depends on the basis; on the aligned parts it does not."""
    deltas = random_deltas(2, 6, 10)
    turn = torch.linalg.qr(random_deltas(1, 6, 6, seed=3)[0].double()).Q
    turned = merged_delta(Knots(density=0.4), *((turn @ delta.double()).float() for delta in deltas))
    assert is_near(turned, turn @ merged_delta(Knots(density=0.4), *deltas).double(), 1e-5)
