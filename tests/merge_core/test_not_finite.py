"""NaN, infinity and overflow: refused with the tensor and the input named, and nothing left on disk."""

from pathlib import Path

import pytest
import torch

from merge_core.errors import FileError
from merge_core.execute import execute
from merge_core.methods import METHODS, Method
from tests.merge_core.building import FLOATS, mix, planned, write_adapter, write_model
from tests.merge_core.oracles import TRIALS
from tests.merge_core.oracles_statistics import write_statistics

BAD = [float("nan"), float("inf"), float("-inf")]
SIZE = 70_000
SPOTS = [0, 16384, SIZE - 1]
COMPUTING = [method for method in METHODS if not method().copies]
of_checkpoints = pytest.mark.parametrize(
    "method", [method for method in COMPUTING if method.complete_inputs], ids=lambda method: method.title()
)


def fine(dtype: torch.dtype, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(SIZE, generator=generator).to(dtype) for name in ("a", "b", "c")}


def refused(root: Path, recipe: dict[str, object]) -> str:
    """What the build says on refusing; the folder it was to fill stays as empty as it was."""
    folder = root / "out"
    folder.mkdir()
    with pytest.raises(FileError) as failure:
        execute(planned(root, recipe), folder, durable=False)
    assert list(folder.iterdir()) == []
    return str(failure.value)


def write(root: Path, models: dict[str, dict[str, torch.Tensor]]) -> None:
    for position, (name, tensors) in enumerate(models.items()):
        write_model(root / name, tensors)
        write_statistics(root / name, position, {key: tuple(tensor.shape) for key, tensor in tensors.items()})


def recipe_of(method: type[Method], settings: dict[str, object], bad: str = "m1") -> dict[str, object]:
    """The models m0 and m1, or the `bad` one where the method takes a single input."""
    names = [bad] if method.most_inputs == 1 and bad != "base" else ["m0", "m1"][: method.most_inputs]
    return mix(*names, base="base", method={"name": method.title(), **settings})


# Every type, value and place once for each method, not each with each: the kernels' own tests have all of them.
@pytest.mark.parametrize(
    ("dtype", "bad", "culprit"), list(zip(FLOATS, [*BAD, BAD[0]], ["base", "m0", "m1", "m1"], strict=True))
)
@of_checkpoints
def test_a_value_that_is_not_finite_is_refused_and_named(
    method: type[Method], dtype: torch.dtype, bad: float, culprit: str, tmp_path: Path
) -> None:
    if culprit == "base" and method().works_on(True) == "weight" and not method.needs_base:
        culprit = "m0"
    culprit = min(culprit, f"m{(method.most_inputs or 2) - 1}")
    models = {name: fine(dtype, seed) for seed, name in enumerate(("base", "m0", "m1"))}
    models[culprit]["b"][SPOTS[BAD.index(bad)]] = bad
    write(tmp_path, models)
    message = refused(tmp_path, recipe_of(method, {}, culprit))
    assert "tensor 'b'" in message
    assert "NaN or infinity" in message
    assert ("the base" if culprit == "base" else f"ingredient {culprit[1]}") in message


@of_checkpoints
def test_every_setting_of_a_method_names_the_tensor_that_is_not_finite(method: type[Method], tmp_path: Path) -> None:
    models = {name: fine(torch.bfloat16, seed) for seed, name in enumerate(("base", "m0", "m1"))}
    models["m1"]["c"][SIZE // 2] = float("nan")
    write(tmp_path, models)
    for number, trial in enumerate(TRIALS[method.title()]):
        (tmp_path / f"{number}").mkdir()
        for name in models:
            (tmp_path / f"{number}" / name).symlink_to(tmp_path / name)
        assert "tensor 'c'" in refused(tmp_path / f"{number}", recipe_of(method, dict(trial.settings)))


@pytest.mark.parametrize("method", COMPUTING, ids=lambda method: method.title())
@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_a_factor_that_is_not_finite_is_refused_and_named(method: type[Method], factor: str, tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"b.weight": torch.randn(40, 30)})
    a, b = torch.randn(2, 30), torch.randn(40, 2)
    write_adapter(tmp_path / "m0", {"b": (a.clone(), b.clone())})
    (a if factor == "lora_A" else b)[1, 1] = float("nan")
    write_adapter(tmp_path / "m1", {"b": (a, b)})
    for position, name in enumerate(("m0", "m1")):
        write_statistics(tmp_path / name, position, {"b.weight": (40, 30)})
    message = refused(tmp_path, recipe_of(method, {}))
    assert "tensor 'b.weight'" in message
    assert f"NaN or infinity in ingredient {0 if method.most_inputs == 1 else 1}" in message


@pytest.mark.parametrize(
    ("dtype", "value", "label"),
    [(torch.float16, 40_000.0, "float16"), (torch.bfloat16, 3e38, "bfloat16"), (torch.float32, 3e38, "float32")],
)
def test_a_sum_too_large_for_the_output_is_refused_and_not_blamed_on_the_inputs(
    dtype: torch.dtype, value: float, label: str, tmp_path: Path
) -> None:
    for name in ("m0", "m1"):
        write_model(tmp_path / name, {"b": torch.tensor([1.0, value]).to(dtype)})
    message = refused(tmp_path, mix("m0", "m1", weights=(1, 1), method={"name": "linear", "normalize": False}))
    assert f"tensor 'b': a merged value is too large for {label}" in message


def test_a_scaled_delta_too_large_for_float16_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"b": torch.zeros(5).half()})
    write_model(tmp_path / "m0", {"b": torch.full((5,), 30_000.0).half()})
    message = refused(tmp_path, mix("m0", base="base", method="task_arithmetic", scale=3.0))
    assert "tensor 'b': a merged value is too large for float16; expected dtype: bfloat16 or float32" in message


def test_a_conversion_that_overflows_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m0", {"b": torch.tensor([1.0, 70_000.0])})
    assert "too large for float16" in refused(tmp_path, mix("m0", method="linear", dtype="float16"))


def test_a_float64_beyond_float32_is_refused_and_named(tmp_path: Path) -> None:
    write_model(tmp_path / "m0", {"b": torch.tensor([1.0, 1e300], dtype=torch.float64)})
    message = refused(tmp_path, mix("m0", method="linear"))
    assert "tensor 'b'" in message
    assert "beyond float32 in ingredient 0" in message


def test_an_untouched_tensor_is_copied_whatever_it_holds(tmp_path: Path) -> None:
    """A mask of minus infinity is data; only what is computed is checked."""
    mask = torch.tensor([0.0, float("-inf")])
    write_model(tmp_path / "base", {"b.weight": torch.ones(4, 4), "mask": mask})
    write_adapter(tmp_path / "m0", {"b": (torch.ones(1, 4), torch.ones(4, 1))})
    folder = tmp_path / "out"
    execute(planned(tmp_path, mix("m0", base="base", method="task_arithmetic")), folder, durable=False)
    assert (folder / "model.safetensors").exists()
