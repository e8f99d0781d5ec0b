import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import built, merged, mix, raw, write_adapter, write_model


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1 + 2.0**-40], dtype=torch.float64),
        torch.tensor([float("nan"), float("inf"), -0.0]),
        torch.tensor([[1.0, 2.0]]).to(torch.float8_e4m3fn),
        torch.tensor([2**62 + 1]),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
        torch.tensor(0.1, dtype=torch.bfloat16),
    ],
    ids=["float64", "not finite", "float8", "int64", "bool", "empty", "scalar"],
)
def test_stored_bytes_are_copied_whatever_they_are(tensor):
    found = merged({"m": {"w": tensor}}, mix("m", method="passthrough"))["w"]
    assert found.dtype == tensor.dtype
    assert found.shape == tensor.shape
    assert raw(found) == raw(tensor)


def test_integers_that_differ_from_the_bases_are_copied_too():
    models = {"base": {"w": torch.ones(3, dtype=torch.int64)}, "m": {"w": torch.zeros(3, dtype=torch.int64)}}
    assert not merged(models, mix("m", base="base", method="passthrough"))["w"].any()


def test_a_scale_multiplies():
    found = merged({"m": {"w": torch.tensor([1.0, -2.0])}}, mix("m", method={"name": "passthrough", "scale": 0.5}))
    assert torch.equal(found["w"], torch.tensor([0.5, -1.0]))


def test_an_adapter_is_added_to_its_base(tmp_path):
    write_model(tmp_path / "base", {"b.weight": torch.ones(2, 2), "c": torch.ones(1)})
    write_adapter(tmp_path / "m", {"b": (torch.ones(1, 2), torch.ones(2, 1))})
    found = built(tmp_path, mix("m", base="base", method="passthrough"))
    assert torch.equal(found["b.weight"], torch.full((2, 2), 2.0))
    assert torch.equal(found["c"], torch.ones(1))


def test_a_dtype_still_converts():
    found = merged({"m": {"w": torch.tensor([0.1])}}, mix("m", method="passthrough", dtype="bfloat16"))["w"]
    assert torch.equal(found, torch.tensor([0.1]).bfloat16())


def test_two_inputs_weights_and_the_scale_of_deltas_are_refused():
    models = {"m": {"w": torch.ones(2)}, "n": {"w": torch.ones(2)}}
    with pytest.raises(RecipeError, match="passthrough takes another number of ingredients; found 2; expected 1"):
        merged(models, mix("m", "n", method="passthrough"))
    with pytest.raises(RecipeError, match="gives its inputs no weights"):
        merged(models, mix("m", weights=(0.5,), method="passthrough"))
    with pytest.raises(RecipeError, match="scale applies to a merged delta"):
        merged(models, mix("m", method="passthrough", scale=0.5))
