import pytest
import torch

from merge_core.methods.svc import Svc
from tests.merge_core import oracles_spectral as oracles
from tests.merge_core.methods.spectra import by_oracle, is_near, merged_delta, random_deltas


@pytest.mark.parametrize("of", ["task_arithmetic", "tsv_m", "swudi"])
@pytest.mark.parametrize("shape", [(7, 9), (9, 7), (1, 6), (30, 2), (3,)])
def test_a_merge_is_what_the_printed_formulas_give(of, shape):
    deltas = random_deltas(3, *shape) if len(shape) == 2 else list(torch.randn(3, *shape))
    expected = by_oracle(oracles.svc, *deltas, weights=(1.0, 0.5, 2.0), of=of)
    assert is_near(merged_delta(Svc(of=of), *deltas, weights=(1.0, 0.5, 2.0)), expected)


@pytest.mark.parametrize("of", ["task_arithmetic", "tsv_m", "swudi"])
def test_one_input_comes_back(of):
    for delta in random_deltas(1, 8, 5) + random_deltas(1, 20, 30, rank=2):
        assert torch.equal(merged_delta(Svc(of=of), delta), delta)


def test_what_all_tasks_say_is_not_said_as_often():
    (delta,) = random_deltas(1, 8, 5)
    assert is_near(merged_delta(Svc(), delta, delta, delta), delta)


def test_deltas_that_cancel_and_zero_deltas_leave_the_base():
    (delta,) = random_deltas(1, 8, 5)
    for deltas in ((delta, -delta), (torch.zeros(8, 5), torch.zeros(8, 5)), (torch.zeros(3), torch.zeros(3))):
        assert torch.equal(merged_delta(Svc(), *deltas), torch.zeros(deltas[0].shape))
