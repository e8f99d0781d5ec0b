import pytest
import torch

from tests.merge_core.methods.on_zero import merge, normal


def kept_ranks(delta: torch.Tensor, **settings: float) -> list[int]:
    """Places, from the largest magnitude, of the entries that one model keeps."""
    found = merge([delta], {"name": "breadcrumbs", **settings})
    assert ((found == delta) | (found == 0)).all()
    order = delta.abs().sort(descending=True, stable=True).indices
    return torch.nonzero(found[order]).flatten().tolist()


@pytest.mark.parametrize(
    ("size", "gamma", "density", "expected"),
    [
        (100, 0.05, 0.2, range(5, 25)),
        (100, 0.07, 1.0, range(7, 100)),
        (100, 0.0, 0.07, range(7)),
        (99, 0.01, 0.5, range(50)),
        (10, 0.25, 0.11, range(2, 4)),
        (3, 0.01, 0.1, range(1)),
        (1, 0.9, 0.5, range(1)),
        (10, 1.0, 1.0, range(0)),
        (10, 0.6, 0.0, range(0)),
    ],
)
def test_the_largest_go_the_next_stay_the_rest_go(size: int, gamma: float, density: float, expected: range) -> None:
    assert kept_ranks(normal(size), gamma=gamma, density=density) == list(expected)


def test_of_equal_magnitudes_the_lower_index_counts_as_larger() -> None:
    delta = torch.tensor([1.0, -1.0, 1.0, 2.0, -1.0, 1.0])
    found = merge([delta], {"name": "breadcrumbs", "gamma": 0.34, "density": 0.5})
    assert found.tolist() == [0.0, -1.0, 1.0, 0.0, -1.0, 0.0]


def test_each_tensor_and_each_model_has_thresholds_of_its_own() -> None:
    deltas = [normal(1000), 100 * normal(1000, seed=1)]
    found = merge(deltas, {"name": "breadcrumbs", "gamma": 0.1, "density": 0.3})
    alone = [merge([delta], {"name": "breadcrumbs", "gamma": 0.1, "density": 0.3}) for delta in deltas]
    assert [torch.count_nonzero(one).item() for one in alone] == [300, 300]
    assert torch.equal(found, alone[0] + alone[1])


def test_the_electing_form_elects_among_what_the_band_leaves() -> None:
    """Outliers have no vote: the −9 is gone before signs are elected."""
    deltas = [torch.tensor([1.0, 5.0, 0.5, 2.0]), torch.tensor([-9.0, 1.0, 0.5, 4.0])]
    found = merge(deltas, {"name": "breadcrumbs_ties", "gamma": 0.25, "density": 0.75})
    assert found.tolist() == [1.0, 1.0, 0.5, 3.0]
