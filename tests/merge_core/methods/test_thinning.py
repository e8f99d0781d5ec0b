"""What holds of every method that thins task vectors out, whichever way it chooses."""

import pytest
import torch

from tests.merge_core.methods.on_zero import ODD_SHAPES, merge, normal

LINEAR = {"dare_linear": {}, "della_linear": {}, "breadcrumbs": {"gamma": 0.0}}
ELECTING = {"dare_ties": {}, "della": {}, "breadcrumbs_ties": {"gamma": 0.0}}
ALL = LINEAR | ELECTING
DRAWING = [name for name in ALL if not name.startswith("breadcrumbs")]

every = pytest.mark.parametrize("name", ALL)


@every
@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_density_one_returns_one_input_and_zero_the_base_in_any_shape(name: str, shape: tuple[int, ...]) -> None:
    delta = normal(*shape)
    assert torch.equal(merge([delta], {"name": name, "density": 1.0, **ALL[name]}), delta)
    assert not merge([delta, delta], {"name": name, "density": 0.0, **ALL[name]}).any()
    assert merge([delta], {"name": name, "density": 0.5, **ALL[name]}).shape == delta.shape


@every
def test_models_equal_to_the_base_give_the_base(name: str) -> None:
    zero = torch.zeros(7, 9)
    assert not merge([zero, zero], {"name": name, "density": 0.5, **ALL[name]}, scale=3.0).any()


@pytest.mark.parametrize("name", LINEAR)
def test_at_full_density_the_linear_forms_are_task_arithmetic(name: str) -> None:
    deltas = [normal(40, 30, seed=i) for i in range(3)]
    settings = {"weights": (1.0, -0.5, 0.25), "scale": 0.7}
    found = merge(deltas, {"name": name, **LINEAR[name]}, **settings)
    assert torch.equal(found, merge(deltas, "task_arithmetic", **settings))


@pytest.mark.parametrize("aggregate", ["mean", "sum", "max"])
@pytest.mark.parametrize("name", ELECTING)
def test_at_full_density_the_electing_forms_are_ties(name: str, aggregate: str) -> None:
    deltas = [normal(40, 30, seed=i) for i in range(3)]
    found = merge(deltas, {"name": name, "aggregate": aggregate, **ELECTING[name]}, weights=(1.0, 0.5, 0.25))
    ties = {"name": "ties", "density": 1.0, "aggregate": aggregate}
    assert torch.equal(found, merge(deltas, ties, weights=(1.0, 0.5, 0.25)))


@pytest.mark.parametrize("name", LINEAR)
def test_normalizing_divides_by_the_sum_of_weights(name: str) -> None:
    deltas, method = [normal(40, 30, seed=i) for i in range(2)], {"name": name, "density": 0.5, **LINEAR[name]}
    plain = merge(deltas, method, weights=(1.0, 3.0))
    assert torch.equal(merge(deltas, method | {"normalize": True}, weights=(1.0, 3.0)), plain / 4)


@pytest.mark.parametrize("name", DRAWING)
def test_draws_follow_the_seed_and_the_position_of_the_ingredient(name: str) -> None:
    delta, method = normal(50, 40), {"name": name, "density": 0.5, "rescale": False, **ALL[name]}
    first = merge([delta], method, seed=1)
    assert torch.equal(first, merge([delta], method, seed=1))
    assert not torch.equal(first, merge([delta], method, seed=2))
    # Beside a model that says nothing, the second draws for itself.
    second = merge([torch.zeros_like(delta), delta], method, seed=1)
    both = (first != 0).double().mean(), (second != 0).double().mean(), ((first != 0) == (second != 0)).double().mean()
    assert all(abs(share - 0.5) < 0.05 for share in both)


@pytest.mark.parametrize("name", DRAWING)
def test_without_rescaling_an_entry_stays_as_it_is_or_goes(name: str) -> None:
    delta = normal(50, 40)
    found = merge([delta], {"name": name, "density": 0.5, "rescale": False, **ALL[name]})
    assert ((found == delta) | (found == 0)).all()
    assert 0.4 < (found != 0).double().mean() < 0.6


@pytest.mark.parametrize("name", DRAWING)
def test_over_seeds_the_mean_of_one_thinned_model_is_that_model(name: str) -> None:
    delta = normal(6, 5)
    method = {"name": name, "density": 0.5, **ALL[name]}
    mean = torch.stack([merge([delta], method, seed=seed) for seed in range(300)]).double().mean(0)
    # At the least chance, 0.425, an entry's deviation over 300 seeds is 0.067 of it.
    assert ((mean - delta).abs() < 5 * 0.067 * delta.abs()).all()
