"""The output kind ternary: what it refuses in planning, and what is left when it fails."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from merge_core.compression import describe_compression
from merge_core.errors import FileError, InputError
from merge_core.formats.ternary import adapter_tensors
from tests.merge_core.building import built, execute, mix, planned, write_adapter, write_model

TERNARY = {"kind": "ternary"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A base, its fine-tune, two LoRAs and one DoRA, and an adapter of another kind."""
    torch.manual_seed(0)
    write_model(tmp_path / "base", {"w.weight": torch.randn(6, 4)})
    write_model(tmp_path / "tuned", {"w.weight": torch.randn(6, 4)})
    for name in ("one", "two"):
        write_adapter(tmp_path / name, {"w": (torch.randn(2, 4), torch.randn(6, 2))})
    other = tmp_path / "other"
    other.mkdir()
    (other / "adapter_config.json").write_text(json.dumps({"peft_type": "LOHA", "r": 2, "alpha": 2}))
    keys = {"w1_a": (6, 2), "w1_b": (2, 4), "w2_a": (6, 2), "w2_b": (2, 4)}
    tensors = {f"base_model.model.w.hada_{key}": torch.randn(shape) for key, shape in keys.items()}
    save_file(tensors, other / "adapter_model.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("recipe", "where"),
    [
        (mix("tuned", method="passthrough"), "base"),
        (mix("one", "two", method="linear"), "method"),
        (mix("one", method="linear", dtype="float16"), "dtype"),
        (mix("tuned", base="base", method="linear", dtype="float32"), "dtype"),
        (mix("other", method="passthrough"), "peft_type"),
        (
            mix("tuned", base="base", method="linear") | {"output": {"kind": "ternary", "density": 1.1}},
            "output.density",
        ),
        (mix("tuned", base="base", method="linear") | {"output": {"kind": "ternary", "alpha": 0.0}}, "output.alpha"),
        (mix("tuned", base="base", method="linear") | {"output": {"kind": "ternary", "form": "warm"}}, "output.form"),
        (mix("tuned", base="base", method="linear") | {"output": {"kind": "ternary", "densty": 0.1}}, "output.densty"),
        (mix("tuned", base="base", method="linear") | {"output": {"kind": "ternary", "rank": 4}}, "output.rank"),
        (mix("tuned", base="base", method="linear") | {"output": {"kind": "patch", "density": 0.1}}, "output.density"),
    ],
)
def test_what_no_ternary_file_can_say_is_refused_in_planning(root: Path, recipe: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as caught:
        planned(root, {"output": TERNARY} | recipe)
    assert where in str(caught.value.where)


def test_a_merge_of_adapters_is_compressed_as_the_delta_that_it_is(root: Path) -> None:
    """λ Σ w τ itself: no weight of the base has a say in it."""
    wish = mix("one", "two", base="base", method="task_arithmetic", scale=1e-6, weights=(0.5, -2.0))
    execute(planned(root, wish | {"output": {"kind": "ternary", "density": 0.5}}), root / "out", durable=False)
    (root / "large").mkdir()
    write_model(root / "large" / "base", {"w.weight": torch.full((6, 4), 1e4)})
    large = wish | {"base": "large/base", "output": {"kind": "ternary", "density": 0.5}}
    execute(planned(root, large), root / "large" / "out", durable=False)
    moved = [
        built(root, mix(source, base="zero", method="task_arithmetic"))["w.weight"]
        for source in ("out", "large/out")
        if (root / "zero").exists() or write_model(root / "zero", {"w.weight": torch.zeros(6, 4)})
    ]
    assert torch.equal(*moved)
    assert moved[0].count_nonzero() == 12


def test_nothing_is_left_of_a_compression_that_fails(root: Path) -> None:
    write_model(root / "huge", {"w.weight": torch.full((6, 4), 3e38)})
    recipe = mix("huge", base="base", method="task_arithmetic", scale=9.0, output=TERNARY)
    with pytest.raises(FileError):
        execute(planned(root, recipe), root / "out", durable=False)
    assert list((root / "out").iterdir()) == []


def test_a_copy_beside_the_factors_stays_whole(root: Path) -> None:
    path = root / "one" / "adapter_model.safetensors"

    head = torch.randn(3, 4)
    save_file(load_file(path) | {"base_model.model.head.weight": head}, path)
    execute(planned(root, mix("one", method="passthrough", output=TERNARY)), root / "out", durable=False)
    back = built(root, mix("out", base="base", method="task_arithmetic"))
    assert torch.equal(back["head.weight"], head)


@pytest.mark.parametrize("form", ["hot", "cold"])
def test_an_adapter_of_each_kind_is_read_from_its_ternary_file(root: Path, form: str) -> None:
    """What PEFT's file of the decoded tensors would give: factors of IA3 around 1, DoRA's magnitudes whole."""
    weight = load_file(root / "base/model.safetensors")["w.weight"]
    configs = {
        "ia3": {"peft_type": "IA3", "target_modules": ["w"], "feedforward_modules": []},
        "dora": {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["w"], "use_dora": True},
    }
    parts = {
        "ia3": {"ia3_l": 1 + 0.1 * torch.randn(6, 1)},
        "dora": {
            "lora_A.weight": torch.randn(2, 4),
            "lora_B.weight": torch.randn(6, 2),
            "lora_magnitude_vector": weight.norm(dim=1) + 0.1,
        },
    }
    for kind, config in configs.items():
        for folder, tensors in ((kind, parts[kind]), (f"{kind}-decoded", None)):
            (root / folder).mkdir()
            (root / folder / "adapter_config.json").write_text(json.dumps(config))
            if tensors is not None:
                named = {f"base_model.model.w.{key}": tensor for key, tensor in tensors.items()}
                save_file(named, root / folder / "adapter_model.safetensors")
        wish = mix(kind, method="passthrough", output=TERNARY | {"form": form, "density": 0.5, "scope": "tensor"})
        execute(planned(root, wish), root / f"{kind}-small", durable=False)
        decoded = adapter_tensors({path.name: path for path in (root / f"{kind}-small").iterdir()})
        values = {name: torch.from_numpy(one.storage().reshape(one.spec.shape).copy()) for name, one in decoded.items()}
        save_file(values, root / f"{kind}-decoded" / "adapter_model.safetensors")
        found, expected = (
            built(root, mix(source, base="base", method="task_arithmetic"))["w.weight"]
            for source in (f"{kind}-small", f"{kind}-decoded")
        )
        assert torch.equal(found, expected)
        assert not torch.equal(found, weight)
    factors = values["base_model.model.w.lora_A.weight"]
    assert factors.count_nonzero() == 4
    assert torch.equal(values["base_model.model.w.lora_magnitude_vector"], parts["dora"]["lora_magnitude_vector"])


@pytest.mark.parametrize(("scope", "kept"), [("model", (50_000, 6_000)), ("tensor", (35_000, 21_000))])
def test_of_equal_entries_the_first_of_the_first_tensors_are_kept(
    tmp_path: Path, scope: str, kept: tuple[int, int]
) -> None:
    signs = {"a": torch.ones(50_000), "b": torch.ones(30_000)}
    for sign in signs.values():
        sign[::3] = -1.0
    write_model(tmp_path / "tuned", signs)
    write_model(tmp_path / "base", {name: torch.zeros_like(sign) for name, sign in signs.items()})
    wish = mix("tuned", base="base", method="passthrough", output=TERNARY | {"density": 0.7, "scope": scope})
    execute(planned(tmp_path, wish), tmp_path / "out", durable=False)
    back = built(tmp_path, mix("out", base="base", method="task_arithmetic"))
    whole = torch.cat(list(signs.values())).std()
    for name, count in zip(signs, kept, strict=True):
        value = whole if scope == "model" else signs[name].std()
        torch.testing.assert_close(back[name][:count], value * signs[name][:count])
        assert not back[name][count:].any()


def test_entries_that_are_all_equal_have_no_spread_and_one_alone_is_its_own(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"equal": torch.zeros(9), "one": torch.zeros(1), "zero": torch.zeros(4)})
    write_model(
        tmp_path / "tuned", {"equal": torch.full((9,), 0.1), "one": torch.tensor([-0.3]), "zero": torch.zeros(4)}
    )
    wish = mix("tuned", base="base", method="passthrough", output=TERNARY | {"density": 1.0, "scope": "tensor"})
    plan = planned(tmp_path, wish)
    execute(plan, tmp_path / "out", durable=False)
    back = built(tmp_path, mix("out", base="base", method="task_arithmetic"))
    assert not back["equal"].any()
    assert not back["zero"].any()
    assert back["one"].tolist() == torch.tensor([-0.3]).tolist()
    errors = {row["name"]: row["relative_error"] for row in describe_compression(tmp_path / "out", plan)["by_tensor"]}
    assert errors == {"equal": 1.0, "one": 0.0, "zero": 0.0}
