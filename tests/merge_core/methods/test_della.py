import pytest
import torch

from merge_core.errors import RecipeError
from merge_core.methods import Della
from merge_core.recipe import Recipe
from tests.merge_core.methods.on_zero import merge, normal


def shares_kept(delta: torch.Tensor, seeds: int, **settings: float) -> torch.Tensor:
    method = {"name": "della_linear", "rescale": False, **settings}
    return torch.stack([merge([delta], method, seed=seed) != 0 for seed in range(seeds)]).double().mean(0)


def test_large_entries_of_a_row_are_kept_more_often_than_small_ones() -> None:
    delta = torch.stack([torch.linspace(1, 5, 5), -torch.linspace(50, 10, 5)])
    kept = shares_kept(delta, 400, density=0.5, epsilon=0.8)
    rising = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    assert (kept - torch.stack([rising, rising.flip(0)])).abs().max() < 0.12


def test_a_kept_entry_is_divided_by_its_own_chance() -> None:
    delta = torch.linspace(1, 5, 5)
    chances = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    for seed in range(20):
        found = merge([delta], {"name": "della_linear", "density": 0.5, "epsilon": 0.8}, seed=seed)
        assert torch.where(found == 0, delta / chances, found).allclose(delta / chances)


def test_a_vector_is_one_row_and_a_row_of_one_entry_has_the_density() -> None:
    assert (shares_kept(torch.linspace(1, 2, 2), 300, density=0.5, epsilon=1.0) == torch.tensor([0.0, 1.0])).all()
    for shape in [(300,), (300, 1)]:
        kept = shares_kept(torch.arange(1.0, 301.0).reshape(shape), 40, density=0.5, epsilon=1.0).flatten()
        assert kept[-50:].mean() > 0.85 if len(shape) == 1 else abs(kept[-50:].mean() - 0.5) < 0.1
    assert merge([torch.tensor(2.0)], {"name": "della_linear", "density": 0.5}).item() in (0.0, 4.0)


@pytest.mark.parametrize(
    ("density", "shares"),
    [(0.5, (0.425, 0.575)), (0.05, (0.0, 0.1)), (0.95, (0.9, 1.0)), (0.0, (0.0, 0.0)), (1.0, (1.0, 1.0))],
)
def test_the_usual_epsilon_gives_way_to_the_ends(density: float, shares: tuple[float, float]) -> None:
    assert Della(density=density).shares() == pytest.approx(shares)


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_no_epsilon_has_a_say_where_all_or_nothing_is_kept(density: float) -> None:
    assert Della(density=density, epsilon=0.3).shares() == (density, density)


@pytest.mark.parametrize("density", [0.075, 0.3, 0.7, 0.925])
def test_an_epsilon_that_just_fits_is_taken(density: float) -> None:
    low, high = Della(density=density, epsilon=2 * min(density, round(1 - density, 9))).shares()
    assert 0 <= low <= high <= 1


@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_an_epsilon_that_leaves_the_unit_range_is_refused_by_name(name: str) -> None:
    data = {
        "base": "b",
        "method": {"name": name, "density": 0.9, "epsilon": 0.25},
        "ingredients": [{"source": "m"}],
    }
    with pytest.raises(RecipeError, match=r"method\.epsilon: .*found 0\.25; expected at most 0\.2"):
        Recipe.parse(data)


def test_rows_of_any_number_of_chunks_are_ranked_apart() -> None:
    """The largest of each row always stays at density 0.5 and epsilon 1, the smallest never."""
    delta = normal(300, 1000)
    found = merge([delta], {"name": "della", "density": 0.5, "epsilon": 1.0})
    order = delta.abs().argsort(dim=1)
    assert torch.equal(found.gather(1, order[:, -1:]), delta.gather(1, order[:, -1:]))
    assert not found.gather(1, order[:, :1]).any()
