import torch

from merge_core.methods.tsv_m import TsvM
from tests.merge_core.methods.spectra import is_near, merged_delta, random_deltas, singular_values


def test_one_input_comes_back():
    for delta in random_deltas(1, 8, 5) + random_deltas(1, 20, 30, rank=2):
        assert torch.equal(merged_delta(TsvM(), delta), delta)


def test_tasks_in_perpendicular_spaces_are_added_up():
    first, second = torch.zeros(8, 8), torch.zeros(8, 8)
    first[:4, :4], second[4:, 4:] = random_deltas(2, 4, 4)
    assert is_near(merged_delta(TsvM(), first, second), first + second)


def test_the_spectrum_is_the_top_singular_values_of_every_task():
    deltas = random_deltas(3, 9, 12)
    kept = torch.cat([singular_values(delta)[:3] for delta in deltas]).sort(descending=True).values
    assert is_near(singular_values(merged_delta(TsvM(), *deltas)), kept, 1e-6)


def test_equal_low_rank_tasks_give_one_result():
    (delta,) = random_deltas(1, 20, 10, rank=2)
    # U = [u u] has the polar factor [u u] / √2, and so has V: twice half of it.
    assert is_near(merged_delta(TsvM(), delta, delta), delta)


def test_a_matrix_narrower_than_the_inputs_are_many_gets_their_mean():
    deltas = random_deltas(3, 2, 40)
    assert is_near(merged_delta(TsvM(), *deltas), sum(delta.double() for delta in deltas) / 3)


def test_a_negative_weight_turns_a_task_around():
    (delta,) = random_deltas(1, 6, 6)
    assert is_near(merged_delta(TsvM(), delta, weights=(-0.5,)), -0.5 * delta)
