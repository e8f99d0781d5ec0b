"""What must hold of merges whatever the numbers are: over random tensors of every shape and dtype."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from merge_core.errors import RecipeError
from merge_core.methods import METHODS
from tests.merge_core.building import FLOATS, ROUNDING, built, merged, mix, raw, write_model
from tests.merge_core.oracles_statistics import write_statistics

SHAPES = [(), (1,), (63,), (0,), (0, 5), (7, 9), (1, 1, 1), (3, 5, 2, 2), (129, 127)]
STORED_EXACTLY = (torch.float32, torch.float16, torch.bfloat16)
"""The dtypes that float32 holds without rounding; float64 is computed in float32."""

dtypes = st.sampled_from(FLOATS)
exact_dtypes = st.sampled_from(STORED_EXACTLY)
DELTA_METHODS = ["task_arithmetic", "ties"]
Draw = Callable[[st.SearchStrategy], object]


@st.composite
def tensors(draw: Draw, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Normal values over a few orders of magnitude, some of them zero; in whole steps, so never subnormal."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    size = 10.0 ** draw(st.integers(-2, 2))
    values = torch.randn(shape, generator=generator, dtype=torch.float64) * size
    zeros = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.2, 1.0]))
    return torch.where(zeros, 0.0, values).to(dtype)


@st.composite
def grids(draw: Draw, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Small multiples of 1/8: sums and differences of a few are exact in every dtype, and many are equal."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    return (torch.randint(-8, 9, shape, generator=generator) / 8).to(dtype)


@st.composite
def stocks(draw: Draw, count: int, dtypes: st.SearchStrategy, values: Callable = tensors) -> list[Tensor]:
    """`count` tensors of one shape and dtype."""
    dtype, shape = draw(dtypes), draw(st.sampled_from(SHAPES))
    return [draw(values(dtype, shape)) for _ in range(count)]


def merge(inputs: list[Tensor], base: Tensor | None = None, **recipe: object) -> Tensor:
    models = {f"m{i}": {"x": tensor} for i, tensor in enumerate(inputs)}
    if base is not None:
        recipe["base"], models["base"] = "base", {"x": base}
    names = [f"m{i}" for i in range(len(inputs))]
    weights = tuple(recipe.pop("weights", ()))
    found = merged(models, mix(*names, weights=weights, **recipe))["x"]
    assert found.dtype == (inputs[0] if base is None else base).dtype
    assert found.shape == inputs[0].shape
    return found


def near(found: Tensor, exact: Tensor, *terms: Tensor, steps: float = 4.0) -> bool:
    """Within a few roundings of the largest of the terms that were added, and one to the stored type."""
    size = torch.stack([term.double().abs() for term in (exact, *terms)]).amax(0)
    slack = steps * 2.0**-24 * size + 0.5 * ROUNDING[found.dtype] * exact.double().abs() + 2.0**-25
    return bool(((found.double() - exact.double()).abs() <= slack).all())


@given(stocks(1, exact_dtypes), st.sampled_from([1.0, 0.3, 7.5, -2.0]))
def test_one_model_of_any_weight_averages_to_itself_bit_for_bit(stock: list[Tensor], weight: float) -> None:
    assert raw(merge(stock, weights=(weight,), method="linear")) == raw(stock[0])


@given(stocks(1, st.just(torch.float64)))
def test_one_float64_model_averages_to_itself_rounded_to_float32(stock: list[Tensor]) -> None:
    assert raw(merge(stock, method="linear")) == raw(stock[0].float().double())


@given(stocks(1, st.just(torch.float32)))
def test_a_plain_conversion_rounds_once_to_nearest_even(stock: list[Tensor]) -> None:
    for label, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        found = merged({"m0": {"x": stock[0]}}, mix("m0", method="linear", dtype=label))["x"]
        assert raw(found) == raw(stock[0].to(dtype))


@given(stocks(2, exact_dtypes, grids), st.sampled_from(DELTA_METHODS))
def test_a_delta_that_subtracts_exactly_comes_back_exactly(stock: list[Tensor], method: str) -> None:
    base, model = stock
    assert torch.equal(merge([model], base, method=method), model)


@given(stocks(2, dtypes), st.sampled_from(DELTA_METHODS))
def test_one_model_of_weight_one_comes_back_up_to_the_rounding_of_its_delta(stock: list[Tensor], method: str) -> None:
    base, model = stock
    assert near(merge([model], base, method=method), model, base, model)


@given(stocks(3, exact_dtypes), st.sampled_from([{"name": "ties", "density": 0.0}, {"name": "task_arithmetic"}]))
def test_nothing_kept_or_scale_zero_gives_the_base(stock: list[Tensor], method: dict[str, object]) -> None:
    base, *models = stock
    scale = 0.0 if method["name"] == "task_arithmetic" else 1.0
    assert torch.equal(merge(models, base, method=method, scale=scale), base)


@given(stocks(1, exact_dtypes), st.sampled_from(DELTA_METHODS), st.sampled_from([0.0, 0.3, 1.0]))
def test_models_equal_to_the_base_give_the_base(stock: list[Tensor], method: str, density: float) -> None:
    settings = {"name": method} | ({"density": density} if method == "ties" else {})
    assert torch.equal(merge([stock[0], stock[0]], stock[0], method=settings, scale=1.7), stock[0])


@given(stocks(3, dtypes))
def test_ties_of_full_density_on_one_model_is_task_arithmetic(stock: list[Tensor]) -> None:
    base, model, _ = stock
    whole = merge([model], base, method={"name": "ties", "density": 1.0}, scale=0.7)
    assert raw(whole) == raw(merge([model], base, method="task_arithmetic", scale=0.7))


@given(stocks(4, exact_dtypes, grids), st.permutations(range(3)), st.sampled_from(["mean", "sum", "max"]))
def test_the_order_of_models_does_not_matter_to_ties(stock: list[Tensor], order: list[int], aggregate: str) -> None:
    """Bit for bit where sums are exact; else a vote near zero may turn on a rounding."""
    base, *models = stock
    method, weights = {"name": "ties", "density": 0.4, "aggregate": aggregate}, (1.0, 0.5, 2.0)
    first = merge(models, base, method=method, weights=weights)
    again = merge([models[i] for i in order], base, method=method, weights=[weights[i] for i in order])
    assert torch.equal(first, again)


@given(stocks(4, dtypes), st.permutations(range(3)), st.sampled_from(["linear", "task_arithmetic"]))
def test_the_order_of_models_does_not_matter_to_sums(stock: list[Tensor], order: list[int], method: str) -> None:
    base, *models = stock
    weights = (1.0, 0.5, 2.0)
    first = merge(models, base, method=method, weights=weights)
    again = merge([models[i] for i in order], base, method=method, weights=[weights[i] for i in order])
    step = ROUNDING[first.dtype]
    size = sum(2 * tensor.double().abs() for tensor in stock)
    assert ((first.double() - again.double()).abs() <= step * first.double().abs() + 2.0**-20 * size).all()


@given(stocks(3, exact_dtypes), st.sampled_from([0.25, 0.5, 2.0]))
def test_a_power_of_two_in_scale_or_in_the_weights_is_the_same(stock: list[Tensor], scale: float) -> None:
    base, *models = stock
    in_scale = merge(models, base, method="task_arithmetic", weights=(0.3, -1.1), scale=scale)
    in_weights = merge(models, base, method="task_arithmetic", weights=(0.3 * scale, -1.1 * scale))
    assert raw(in_scale) == raw(in_weights)


@given(stocks(3, dtypes), st.floats(-2, 2))
def test_scaling_commutes_with_the_sum(stock: list[Tensor], scale: float) -> None:
    base, *models = stock
    found = merge(models, base, method="task_arithmetic", scale=scale)
    terms = [base, *(scale * (model.double() - base.double()) for model in models)]
    assert near(found, base.double() + sum(terms[1:]), *terms, *models, steps=16)


@given(stocks(3, exact_dtypes), st.sampled_from([0.5, 2.0, 4.0]))
def test_equal_factors_on_all_weights_leave_a_mean_as_it_is(stock: list[Tensor], factor: float) -> None:
    base, *models = stock
    for method in ({"name": "ties", "density": 0.5}, {"name": "linear"}):
        one = merge(models, base, method=method, weights=(1.0, 0.5))
        assert raw(one) == raw(merge(models, base, method=method, weights=(factor, 0.5 * factor)))


@given(stocks(2, dtypes))
def test_a_negative_weight_forgets(stock: list[Tensor]) -> None:
    base, model = stock
    found = merge([model], base, method="task_arithmetic", weights=(-1.0,))
    assert near(found, 2 * base.double() - model.double(), base, model, steps=8)


@given(stocks(4, exact_dtypes, grids))
def test_an_analogy_is_c_and_b_without_a(stock: list[Tensor]) -> None:
    base, a, b, c = (tensor.float() for tensor in stock)
    found = merge([c, b, a], base, method="task_arithmetic", weights=(1.0, 1.0, -1.0))
    assert torch.equal(found, c + b - a)


@given(stocks(2, exact_dtypes))
def test_slerp_begins_at_the_first_and_ends_at_the_second(stock: list[Tensor]) -> None:
    for t, end in ((0.0, stock[0]), (1.0, stock[1])):
        assert torch.equal(merge(stock, method={"name": "slerp", "t": t}), end)


@given(stocks(1, dtypes), st.floats(0, 1))
def test_slerp_between_equals_stays_there(stock: list[Tensor], t: float) -> None:
    assert near(merge([stock[0], stock[0]], method={"name": "slerp", "t": t}), stock[0])


@given(stocks(2, dtypes), st.floats(0.01, 0.99))
def test_slerp_backwards_is_the_same_path(stock: list[Tensor], t: float) -> None:
    there = merge(stock, method={"name": "slerp", "t": t})
    back = merge(stock[::-1], method={"name": "slerp", "t": 1 - t})
    size = stock[0].double().abs() + stock[1].double().abs()
    assert ((there.double() - back.double()).abs() <= 4 * ROUNDING[there.dtype] * size + 2.0**-24).all()


def test_selma_without_weights_takes_one_kth_of_each() -> None:
    selma = next(method for method in METHODS if method.title() == "selma")
    assert [selma().default_weight(count) for count in (1, 2, 3, 7)] == [1, 1 / 2, 1 / 3, 1 / 7]


def merged_by_any(method: str, models: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """m0 and m1 on the base, with statistics for methods that read them."""
    with tempfile.TemporaryDirectory() as folder:
        for position, (name, tensors) in enumerate(models.items()):
            write_model(Path(folder) / name, tensors)
            write_statistics(Path(folder) / name, position, {key: tuple(t.shape) for key, t in tensors.items()})
        return built(Path(folder), mix("m0", "m1", base="base", method=method))


@pytest.mark.parametrize("method", [m.title() for m in METHODS if m.complete_inputs and m.most_inputs != 1])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.int8, torch.bool])
def test_integers_are_kept_where_equal_and_refused_where_not(method: str, dtype: torch.dtype) -> None:
    ids, others = torch.tensor([0, 1, 1]).to(dtype), torch.tensor([0, 1, 0]).to(dtype)
    models = {name: {"ids": ids, "w": torch.ones(3)} for name in ("base", "m0", "m1")}
    assert raw(merged_by_any(method, models)["ids"]) == raw(ids)
    models["m1"] = {"ids": others, "w": torch.ones(3)}
    with pytest.raises(RecipeError, match=r"tensor 'ids': .*not averaged; found other values in 'm1'"):
        merged_by_any(method, models)


@pytest.mark.parametrize("weights", [(1.0, -1.0), (0.0, 0.0)])
@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_weights_that_cannot_be_normalised_are_refused(method: str, weights: tuple[float, float]) -> None:
    models = {name: {"w": torch.ones(3)} for name in ("m0", "m1")}
    with pytest.raises(RecipeError, match="tensor 'w': weights cannot be normalised"):
        merged(models, mix("m0", "m1", weights=weights, method=method))
