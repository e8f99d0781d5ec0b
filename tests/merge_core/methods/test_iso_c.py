import torch

from merge_core.methods.iso_c import IsoC
from tests.merge_core.methods.spectra import is_near, merged_delta, random_deltas, singular_values


def test_the_spectrum_is_even_and_its_sum_stays():
    deltas = random_deltas(3, 9, 6)
    before = singular_values(deltas[0] + deltas[1] + deltas[2])
    assert is_near(singular_values(merged_delta(IsoC(), *deltas)), before.mean().expand(6), 1e-6)


def test_directions_in_which_nothing_changes_stay_so():
    deltas = random_deltas(2, 30, 20, rank=2)
    after = singular_values(merged_delta(IsoC(), *deltas))
    assert is_near(after[:4], singular_values(deltas[0] + deltas[1])[:4].mean().expand(4), 1e-6)
    assert after[4:].max() < 1e-6 * after[0]


def test_low_rank_inputs_merge_as_in_core_space():
    (b0, b1), (a0, a1) = random_deltas(2, 30, 2), random_deltas(2, 2, 20, seed=1)
    u = torch.linalg.svd(torch.cat([b0, b1], dim=1).double(), full_matrices=False).U
    v = torch.linalg.svd(torch.cat([a0, a1]).double(), full_matrices=False).Vh.T
    p, sigma, qt = torch.linalg.svd(sum(u.T @ (b.double() @ a.double()) @ v for b, a in ((b0, a0), (b1, a1))))
    in_core = u @ (sigma.mean() * (p @ qt)) @ v.T
    assert is_near(merged_delta(IsoC(), b0 @ a0, b1 @ a1), in_core, 1e-6)


def test_deltas_that_cancel_leave_the_base():
    (delta,) = random_deltas(1, 6, 4)
    assert torch.equal(merged_delta(IsoC(), delta, delta, weights=(1.0, -1.0)), torch.zeros(6, 4))


def test_a_matrix_of_one_row_is_the_sum():
    first, second = random_deltas(2, 1, 30)
    assert is_near(merged_delta(IsoC(), first, second), first.double() + second.double())
