import torch

from tests.merge_core.methods.on_zero import merge


def test_votes_that_cancel_do_so_whatever_the_density() -> None:
    """x / 0.9 is rounded; were votes taken after the division, 0.5·2 + 0.5·4 − 3 would elect a sign by rounding."""
    deltas = [torch.full((3000,), value) for value in (2.0, 4.0, -3.0)]
    found = merge(deltas, {"name": "dare_ties", "density": 0.9, "aggregate": "sum"}, weights=(0.5, 0.5, 1.0))
    whole = torch.tensor([0.5 * 2, 0.5 * 4, 3.0, 0.5 * 2 + 0.5 * 4]) / 0.9
    allowed = torch.cat([torch.zeros(1), whole, -whole])
    assert torch.isclose(found[:, None], allowed).any(1).all()
    # All three stay with probability 0.729, and then nothing is elected.
    assert abs((found == 0).double().mean() - 0.729 - 0.001) < 0.05


def test_the_agreeing_that_were_not_dropped_are_averaged() -> None:
    deltas = [torch.full((4000,), 1.0), torch.full((4000,), 3.0)]
    found = merge(deltas, {"name": "dare_ties", "density": 0.5})
    shares = [(found == value).double().mean() for value in (0.0, 2.0, 6.0, 4.0)]
    assert sum(shares) == 1
    assert all(abs(share - 0.25) < 0.05 for share in shares)
