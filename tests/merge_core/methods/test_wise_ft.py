import json

import pytest
import torch
from safetensors.torch import load_file

from merge_core.errors import RecipeError
from tests.merge_core.building import built, merged, mix, raw, write_adapter, write_model
from tests.merge_core.test_golden import GOLDEN


def wise_ft(base: torch.Tensor, tuned: torch.Tensor, **settings: object) -> torch.Tensor:
    models = {"base": {"w": base}, "tuned": {"w": tuned}}
    return merged(models, mix("tuned", base="base", method={"name": "wise_ft", **settings}))["w"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_ends_are_the_base_and_the_fine_tune_bit_for_bit(dtype):
    base, tuned = torch.tensor([1e4, -0.0, 3.0]).to(dtype), torch.tensor([1e-4, 0.1, -0.0]).to(dtype)
    assert raw(wise_ft(base, tuned, alpha=0.0)) == raw(base)
    assert raw(wise_ft(base, tuned, alpha=1.0)) == raw(tuned)
    assert torch.equal(wise_ft(base, base), base)


def test_the_middle_is_the_mean_whatever_the_sizes():
    base, tuned = torch.tensor([1e8, 1.0]), torch.tensor([1.0, 3.0])
    assert torch.equal(wise_ft(base, tuned), torch.tensor([5e7, 2.0]))


def test_it_gives_what_the_authors_code_gave():
    case = json.loads((GOLDEN / "soup/wiseft_a0p75.json").read_text())
    tensors = load_file(GOLDEN / "soup/wiseft_a0p75.safetensors")
    part = {who: {n.removeprefix(who): t for n, t in tensors.items() if n.startswith(who)} for who in PARTS}
    models = {"base": part["in.base."], "tuned": part["in.ft0."]}
    method = {"name": "wise_ft", "alpha": case["params"]["alpha"]}
    found = merged(models, mix("tuned", base="base", method=method))
    for name, tensor in part["out."].items():
        close = {"rtol": case["compare"]["rtol"], "atol": case["compare"]["atol"]}
        torch.testing.assert_close(found[name], tensor, **close)


PARTS = ("in.base.", "in.ft0.", "out.")


def test_an_adapter_is_a_fine_tune(tmp_path):
    write_model(tmp_path / "base", {"b.weight": torch.ones(2, 2)})
    write_adapter(tmp_path / "tuned", {"b": (torch.ones(1, 2), torch.ones(2, 1))})
    found = built(tmp_path, mix("tuned", base="base", method={"name": "wise_ft", "alpha": 0.25}))
    assert torch.equal(found["b.weight"], torch.full((2, 2), 1.25))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3)])
def test_small_shapes_are_merged(shape):
    assert torch.equal(wise_ft(torch.zeros(shape), torch.ones(shape)), torch.full(shape, 0.5))


def test_a_base_is_needed_and_weights_are_refused():
    models = {"base": {"w": torch.ones(2)}, "tuned": {"w": torch.ones(2)}}
    with pytest.raises(RecipeError, match="base: this method reads the base; found nothing"):
        merged(models, mix("tuned", method="wise_ft"))
    with pytest.raises(RecipeError, match="gives its inputs no weights"):
        merged(models, mix("tuned", weights=(0.5,), base="base", method="wise_ft"))
