import pytest
import torch

from merge_core.methods.iso_c import IsoC
from merge_core.methods.iso_cts import IsoCts
from tests.merge_core.methods.spectra import is_near, merged_delta, random_deltas, singular_values


def test_all_in_common_is_iso_c():
    deltas = random_deltas(3, 9, 6)
    assert is_near(merged_delta(IsoCts(common=1.0), *deltas), merged_delta(IsoC(), *deltas))


@pytest.mark.parametrize("common", [0.0, 0.5, 0.8])
def test_the_spectrum_is_even(common):
    after = singular_values(merged_delta(IsoCts(common=common), *random_deltas(2, 20, 12)))
    assert is_near(after, after.mean().expand(12), 1e-6)


def test_equal_tasks_bring_nothing_of_their_own():
    (delta,) = random_deltas(1, 20, 10, rank=2)
    assert is_near(merged_delta(IsoCts(), delta, delta), 2 * merged_delta(IsoC(), delta), 1e-6)


def test_what_the_sum_hides_comes_in_by_the_task():
    """Two tasks that cancel leave nothing in common; each still has a direction of its own."""
    (delta,) = random_deltas(1, 10, 10, rank=1)
    assert singular_values(merged_delta(IsoC(), delta, -delta)).max() == 0
    other = torch.zeros(10, 10)
    other[3, 4] = 5.0
    found = merged_delta(IsoCts(common=0.0), delta, other)
    assert is_near(singular_values(found)[:2], singular_values(found)[0].expand(2), 1e-6)
