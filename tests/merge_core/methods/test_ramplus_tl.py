import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import merged, mix, relative_rms


def plus(*deltas: torch.Tensor, name: str = "ramplus_tl", **settings: object) -> torch.Tensor:
    names = [f"m{i}" for i in range(len(deltas))]
    models = {"base": {"w": torch.zeros_like(deltas[0])}}
    models |= {model: {"w": delta} for model, delta in zip(names, deltas, strict=True)}
    return merged(models, mix(*names, base="base", method={"name": name, **settings}))["w"]


FIRST = torch.tensor([4.0, 4.0, 4.0, 4.0, 0.0])
SECOND = torch.tensor([0.0, 0.0, 2.0, 2.0, 2.0])


def test_own_changes_grow_with_the_part_that_is_shared():
    """The first shares 2 and owns 2 (ρ 1), the second shares 2 and owns 1 (ρ 2, cut off at α 1.5)."""
    found = plus(FIRST, SECOND, r=0.5, alpha=1.5)
    assert relative_rms(found, torch.tensor([6.0, 6.0, 3.0, 3.0, 3.5])) < 1e-7


def test_without_r_or_alpha_it_is_ram():
    deltas = torch.randint(-1, 2, (3, 500)) / 4
    expected = plus(*deltas, name="ram")
    assert torch.equal(plus(*deltas, r=0.0), expected)
    assert torch.equal(plus(*deltas, alpha=0.0), expected)


def test_nothing_grows_where_all_is_shared_or_nothing_is():
    values = torch.randn(40)
    assert torch.equal(plus(values, values, epsilon=0.0), values)
    assert torch.equal(plus(values, epsilon=0.0), values)
    assert not plus(torch.zeros(4), torch.zeros(4)).any()


@pytest.mark.parametrize("shape", [(), (0,), (0, 3)])
def test_small_shapes_are_merged(shape):
    assert torch.equal(plus(torch.ones(shape), torch.zeros(shape)), torch.ones(shape))


def test_negative_parameters_are_refused():
    for name in ("r", "alpha", "epsilon"):
        with pytest.raises(RecipeError, match=rf"{name}.*found -1"):
            plus(torch.ones(2), **{name: -1.0})
