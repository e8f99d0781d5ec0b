import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import merged, mix, relative_rms


def sce(*deltas: torch.Tensor, weights: tuple[float, ...] = (), **settings: object) -> torch.Tensor:
    names = [f"m{i}" for i in range(len(deltas))]
    models = {"base": {"w": torch.zeros_like(deltas[0])}}
    models |= {name: {"w": delta} for name, delta in zip(names, deltas, strict=True)}
    return merged(models, mix(*names, weights=weights, base="base", method={"name": "sce", **settings}))["w"]


def test_a_worked_example():
    """Variances 1, 0, 4, 9 (times 4): half of them keeps the last two; shares 5² + 3² = 34 to 1² + 3² = 10."""
    first, second = torch.tensor([1.0, 2.0, 5.0, 3.0]), torch.tensor([0.0, 2.0, 1.0, -3.0])
    found = sce(first, second, select_topk=0.5)
    # The last entries cancel: nobody is elected. Of the third both agree.
    assert relative_rms(found, torch.tensor([0.0, 0.0, (34 * 5 + 10 * 1) / 44, 0.0])) < 1e-7


def test_minority_signs_are_erased():
    found = sce(torch.tensor([3.0, 1.0]), torch.tensor([-1.0, 1.0]))
    assert relative_rms(found, torch.tensor([3.0, 1.0])) < 1e-7


def test_of_equal_variances_the_lower_index_is_selected_and_the_number_is_exact():
    first, second = torch.ones(10), torch.zeros(10)
    for share, kept in ((0.0, 0), (0.01, 1), (0.3, 3), (0.31, 4), (0.999, 10), (1.0, 10)):
        assert sce(first, second, select_topk=share).nonzero().flatten().tolist() == list(range(kept))


def test_tiny_changes_are_weighed_like_large_ones():
    deltas = torch.randn(3, 1000)
    for share in (0.2, 1.0):
        small = sce(*(deltas * 2.0**-60), select_topk=share) * 2.0**60
        assert torch.equal(small, sce(*deltas, select_topk=share))


def test_the_order_of_inputs_does_not_matter():
    deltas = torch.randint(-8, 9, (3, 1000)) / 16
    assert relative_rms(sce(*deltas.flip(0), select_topk=0.3), sce(*deltas, select_topk=0.3)) < 2e-7


def test_one_input_equal_inputs_and_zeros_come_back():
    values = torch.randn(30)
    assert torch.equal(sce(values), values)
    assert torch.equal(sce(values, select_topk=0.3), values)
    assert not sce(values, select_topk=0.0).any()
    assert torch.equal(sce(values, values), values)
    assert torch.equal(sce(torch.zeros(4), torch.zeros(4)), torch.zeros(4))
    assert relative_rms(sce(values, torch.zeros(30)), values) < 1e-7


def test_opposite_inputs_leave_the_base():
    values = torch.randn(30)
    assert not sce(values, -values).any()


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3)])
def test_small_shapes_are_merged(shape, share):
    assert torch.equal(sce(torch.ones(shape), torch.zeros(shape), select_topk=share), torch.ones(shape))


def test_shares_beyond_one_and_weights_are_refused():
    with pytest.raises(RecipeError, match=r"select_topk.*found 30"):
        sce(torch.ones(2), select_topk=30.0)
    with pytest.raises(RecipeError, match="gives its inputs no weights"):
        sce(torch.ones(2), torch.ones(2), weights=(1.0, 2.0))
