"""Planning: every mismatch is found from headers, named with tensor, found, expected and the rule that settles it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from merge_core.errors import CapacityError, FileError, NotFoundError, RecipeError
from merge_core.plan import Plan, make_plan
from merge_core.recipe import Recipe
from merge_core.sources import Source, folder_source
from tests.merge_core.building import Tensors, built, mix, planned, write_adapter, write_model
from tests.merge_core.formats.raw_safetensors import entry, raw_file

BODY = {"layer.0.weight": (4, 6), "layer.1.weight": (4, 6), "norm.bias": (4,)}


def body(prefix: str = "", value: float = 1.0) -> dict[str, torch.Tensor]:
    return {prefix + name: torch.full(shape, value) for name, shape in BODY.items()}


def head(rows: int = 2, value: float = 5.0) -> dict[str, torch.Tensor]:
    return {"classifier.weight": torch.full((rows, 4), value)}


POSITIONS = {"position_ids": torch.arange(5)}

SUM = {"base": "base", "method": "task_arithmetic"}


def models(root: Path, **tensors: Tensors) -> Path:
    for name, content in tensors.items():
        write_model(root / name, content)
    return root


@pytest.mark.parametrize(("base", "tuned"), [("", "bert."), ("bert.", ""), ("model.bert.", ""), ("", "model.bert.")])
def test_a_prefix_is_bridged_in_both_directions(base: str, tuned: str, tmp_path: Path) -> None:
    models(tmp_path, base=body(base), a=body(tuned, 3.0))
    found = built(tmp_path, mix("a", **SUM))
    assert found.keys() == body(base).keys()
    assert all((tensor == 3.0).all() for tensor in found.values())


def test_a_head_is_kept_as_it_is_with_a_warning(tmp_path: Path) -> None:
    models(tmp_path, base=body(), a=body("bert.", 3.0) | head(), b=body(value=2.0))
    plan = planned(tmp_path, mix("a", "b", **SUM))
    assert "tensor 'classifier.weight' is only in 'a': kept as it is there" in plan.warnings
    assert torch.equal(built(tmp_path, mix("a", "b", **SUM))["classifier.weight"], head()["classifier.weight"])


@pytest.mark.parametrize("base", ["bert.", ""])
def test_two_heads_are_refused_with_the_rule_to_add(base: str, tmp_path: Path) -> None:
    models(tmp_path, base=body(base), a=body() | head(2), b=body() | head(3))
    recipe = mix("a", "b", **SUM)
    rule = r"rule in `tensors` such as \{match: 'classifier.weight', take: 0\}"
    with pytest.raises(RecipeError, match=rf"tensor 'classifier.weight'.*found 'a' and 'b'; expected a {rule}"):
        planned(tmp_path, recipe)
    found = built(tmp_path, recipe | {"tensors": [{"match": "classifier.weight", "take": 1}]})
    assert found["classifier.weight"].shape == (3, 4)
    found = built(tmp_path, recipe | {"tensors": [{"match": "classifier.*", "take": "base"}]})
    assert found.keys() == body(base).keys()


def test_heads_of_models_without_a_base_are_refused_with_a_rule_that_holds(tmp_path: Path) -> None:
    models(tmp_path, a=body() | head(), b=body())
    recipe = mix("a", "b", method="linear")
    with pytest.raises(RecipeError, match=r"tensor 'classifier.weight'.*nothing in 'b'.*take: 0\}"):
        planned(tmp_path, recipe)
    assert "classifier.weight" in built(tmp_path, recipe | {"tensors": [{"match": "classifier.weight", "take": 0}]})


def test_heads_of_two_shapes_without_a_base_are_refused(tmp_path: Path) -> None:
    models(tmp_path, a=body() | head(2), b=body() | head(3))
    with pytest.raises(RecipeError, match=r"'classifier.weight'.*\[3, 4\] in 'b'; expected \[2, 4\] as in 'a'"):
        planned(tmp_path, mix("a", "b", method="linear"))


def test_a_missing_integer_buffer_is_noted(tmp_path: Path) -> None:
    models(tmp_path, base=body() | POSITIONS, a=body("bert."))
    plan = planned(tmp_path, mix("a", **SUM))
    assert plan.warnings == ("tensor 'position_ids' (int64) is not in 'a': kept as in the base",)


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_an_integer_buffer_that_only_the_base_lacks_is_copied(method: str, tmp_path: Path) -> None:
    models(tmp_path, base=body(), a=body() | POSITIONS, b=body() | POSITIONS)
    found = built(tmp_path, mix("a", "b", base="base", method=method))
    assert torch.equal(found["position_ids"], POSITIONS["position_ids"])


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_integer_buffers_that_differ_are_refused_with_the_rule_to_add(method: str, tmp_path: Path) -> None:
    models(tmp_path, base=body(), a=body() | POSITIONS, b=body() | {"position_ids": torch.arange(5) + 1})
    with pytest.raises(RecipeError, match=r"int64 tensors are not averaged; found other values in 'b'.*take: 0\}"):
        planned(tmp_path, mix("a", "b", base="base", method=method))


def test_a_missing_float_tensor_is_refused_with_the_rule_to_add(tmp_path: Path) -> None:
    models(tmp_path, base=body(), a={name: t for name, t in body().items() if name != "norm.bias"})
    rule = r"a rule in `tensors` such as \{match: 'norm.bias', take: base\}"
    with pytest.raises(RecipeError, match=rf"tensor 'norm.bias': the tensor is missing; found nothing in 'a'.*{rule}"):
        planned(tmp_path, mix("a", **SUM))
    rules = {"tensors": [{"match": "norm.bias", "take": "base"}]}
    assert torch.equal(built(tmp_path, mix("a", **SUM, **rules))["norm.bias"], body()["norm.bias"])


def test_a_shape_that_differs_names_tensor_model_found_and_expected(tmp_path: Path) -> None:
    models(tmp_path, base=body(), a=body() | {"layer.1.weight": torch.ones(4, 7)})
    message = r"tensor 'layer.1.weight': shapes differ; found \[4, 7\] in 'a'; expected \[4, 6\] as in the base 'base'"
    with pytest.raises(RecipeError, match=message):
        planned(tmp_path, mix("a", **SUM))


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_dtype_that_is_not_merged_is_refused(method: str, tmp_path: Path) -> None:
    small = {"x": torch.ones(3).to(torch.float8_e4m3fn)}
    models(tmp_path, base=body() | small, a=body() | {"x": torch.ones(3)}, b=body() | small, c=body() | POSITIONS)
    with pytest.raises(RecipeError, match=r"tensor 'x': this dtype is not merged; found float8_e4m3fn in the base"):
        planned(tmp_path, mix("a", base="base", method=method))
    with pytest.raises(RecipeError, match=r"tensor 'x': this dtype is not merged; found float8_e4m3fn in 'b'"):
        planned(tmp_path, mix("b", base="a", method=method))
    models(tmp_path, d=body() | {"layer.0.weight": torch.ones(4, 6).int()})
    with pytest.raises(RecipeError, match=r"tensor 'layer.0.weight': this dtype is not merged; found int32 in 'd'"):
        planned(tmp_path, mix("d", base="c", method=method))


def test_small_floats_that_only_the_base_lacks_are_refused_before_they_are_averaged(tmp_path: Path) -> None:
    small = {"x": torch.ones(3).to(torch.float8_e5m2)}
    models(tmp_path, base=body(), a=body() | small, b=body() | small)
    with pytest.raises(RecipeError, match=r"tensor 'x': this dtype is not merged; found float8_e5m2"):
        planned(tmp_path, mix("a", "b", base="base", method="linear"))


@pytest.mark.parametrize("rules", [[], [{"match": "layer*", "take": 0}]])
def test_a_delta_on_an_integer_tensor_is_refused(rules: list[dict[str, object]], tmp_path: Path) -> None:
    models(tmp_path, base=body() | {"layer.0.weight": torch.ones(4, 6).to(torch.int8)})
    write_adapter(tmp_path / "adapter", {"layer.0": (torch.ones(1, 6), torch.ones(4, 1))})
    with pytest.raises(RecipeError, match=r"tensor 'layer.0.weight'.*int8"):
        planned(tmp_path, mix("adapter", **SUM, tensors=rules))


def test_a_taken_delta_of_another_shape_is_refused(tmp_path: Path) -> None:
    models(tmp_path, base=body())
    write_adapter(tmp_path / "adapter", {"layer.0": (torch.ones(1, 5), torch.ones(4, 1))})
    with pytest.raises(RecipeError, match=r"tensor 'layer.0.weight': shapes differ; found \[4, 5\] in 'adapter'"):
        planned(tmp_path, mix("adapter", **SUM, tensors=[{"match": "*", "take": 0}]))


def test_two_spellings_of_one_tensor_are_refused(tmp_path: Path) -> None:
    models(tmp_path, base=body(), a=body("bert.") | {"norm.bias": torch.ones(4)})
    with pytest.raises(RecipeError, match=r"tensor 'norm.bias': two tensors mean the same tensor of the base.*'a'"):
        planned(tmp_path, mix("a", **SUM))


def test_a_rule_that_applies_to_nothing_is_noted(tmp_path: Path) -> None:
    models(tmp_path, base=body(), a=body())
    plan = planned(tmp_path, mix("a", **SUM, tensors=[{"match": "lm_haed*", "take": "base"}]))
    assert plan.warnings == ("rule tensors[0], match 'lm_haed*', applies to no tensor",)


@pytest.mark.parametrize(
    ("declared", "base", "noted"),
    [
        ("team/tiny", "tiny", False),
        ("Team/Tiny", "tiny", False),
        ("/models/tiny/", "tiny", False),
        ("tiny", "sub/tiny", False),
        ("team/other", "tiny", True),
        ("", "tiny", False),
        (None, "tiny", False),
    ],
)
def test_an_adapter_made_for_another_base_is_noted(
    declared: str | None, base: str, noted: bool, tmp_path: Path
) -> None:
    models(tmp_path, **{base: body()})
    factors = {"layer.0": (torch.ones(1, 6), torch.ones(4, 1))}
    write_adapter(tmp_path / "adapter", factors, base_model_name_or_path=declared)
    plan = planned(tmp_path, mix("adapter", base=base, method="task_arithmetic"))
    assert any(f"its base is '{declared}'" in note for note in plan.warnings) == noted


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "scale with a method on weights": (
        mix("a", base="base", method="linear", scale=0.5),
        "scale: .*found 0.5; expected 1.0",
    ),
    "a delta method without a base": (
        mix("a", method="task_arithmetic"),
        "base: .*found nothing; expected the base's name",
    ),
    "an adapter without a base": (mix("adapter", method="linear"), "base: .*nothing, for 'adapter'"),
    "an adapter as base": (mix("a", base="adapter", method="linear"), "base: .*found peft_lora in 'adapter'"),
    "slerp of three": (mix("a", "a", "a", method="slerp"), "ingredients: slerp takes.*found 3; expected 2"),
    "slerp of one": (mix("a", method="slerp"), "ingredients: slerp takes.*found 1; expected 2"),
    "weights that cancel": (
        mix("a", "a", weights=(1, -1), method="linear"),
        r"weights cannot be normalised.*\[1.0, -1.0\]",
    ),
    "selma of a checkpoint": (mix("a", base="base", method="selma"), "'a': selma merges adapters; found checkpoint"),
    "selma of a recipe": (
        {"base": "base", "method": "selma", "ingredients": [{"source": mix("a", method="linear")}]},
        "the nested recipe: selma merges adapters",
    ),
    "a tensor to take that is not there": (
        mix("adapter", "a", **SUM, tensors=[{"match": "extra", "take": 0}]),
        "tensor 'extra': the tensor to take is missing.*nothing in 'adapter'",
    ),
    "too many files": (
        mix("wide", method="linear", output={"max_shard_bytes": 1}),
        "output.max_shard_bytes.*1000 files",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_recipe_that_does_not_fit_is_refused(kind: str, tmp_path: Path) -> None:
    models(tmp_path, base=body(), a=body() | {"extra": torch.ones(1)})
    models(tmp_path, wide={f"t{number}": torch.ones(1) for number in range(1000)})
    write_adapter(tmp_path / "adapter", {"layer.0": (torch.ones(1, 6), torch.ones(4, 1))})
    recipe, message = WRONG[kind]
    with pytest.raises(RecipeError, match=message):
        planned(tmp_path, recipe)


@pytest.mark.parametrize("name", ["nowhere", "../nowhere", "~nobody-of-that-name/x", "a" * 4000, "a\0b", "base/config"])
def test_a_source_that_is_not_there_is_not_found(name: str, tmp_path: Path) -> None:
    models(tmp_path, base=body())
    with pytest.raises(NotFoundError, match=r"source '.*no such folder or file; found .*; expected a model's"):
        planned(tmp_path, mix(name, **SUM))


def test_an_error_in_a_file_names_its_source(tmp_path: Path) -> None:
    models(tmp_path, base=body(), a=body())
    (tmp_path / "a/model.safetensors").write_bytes(bytes(100))
    with pytest.raises(FileError, match=r"^source 'a': model.safetensors: the header"):
        planned(tmp_path, mix("a", **SUM))


def test_too_little_memory_names_tensor_method_and_need(tmp_path: Path) -> None:
    models(tmp_path, base=body(), a=body())
    need = planned(tmp_path, mix("a", **SUM)).memory_bytes
    assert planned(tmp_path, mix("a", **SUM), memory_bytes=need).memory_bytes == need
    message = rf"tensor 'layer.0.weight': task_arithmetic needs.*found {need} bytes; expected at most {need - 1}"
    with pytest.raises(CapacityError, match=message):
        planned(tmp_path, mix("a", **SUM), memory_bytes=need - 1)


def test_a_plan_describes_itself_as_json(tmp_path: Path) -> None:
    models(tmp_path, base=body() | POSITIONS, a=body() | head(), b=body())
    nested = {"source": mix("a", "b", **SUM)}
    plan = planned(tmp_path, {**SUM, "ingredients": [nested, {"source": "b"}], "output": {"max_shard_bytes": 100}})
    described = json.loads(json.dumps(plan.describe(), allow_nan=False))
    assert {tensor["name"] for tensor in described["tensors"]} == plan.tensors.keys()
    assert sum(file["size"] for file in described["files"] if file["path"].endswith(".safetensors")) == plan.total_bytes


TERABYTE = 2**40


def terabyte(root: Path, name: str) -> None:
    (root / name).mkdir()
    path = root / name / "model.safetensors"
    path.write_bytes(raw_file({"big": entry("F32", [2**19, 2**19], [0, TERABYTE])}, b""))
    os.truncate(path, path.stat().st_size + TERABYTE)


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", {"name": "ties", "density": 0.2, "scope": "model"}])
def test_planning_three_terabytes_reads_none_of_them(method: object, tmp_path: Path) -> None:
    for name in ("base", "a", "b"):
        terabyte(tmp_path, name)
    before = _read_bytes()
    plan = planned(tmp_path, mix("a", "b", base="base", method=method), memory_bytes=2**30)
    assert plan.total_bytes > TERABYTE
    assert _read_bytes() - before < 2**20


def _read_bytes() -> int:
    """Bytes that this process got from files by reading, and pages of files that it touched, times their size."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    resident = int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")
    return int(fields["rchar"]) + resident


class TestDigest:
    """Equal digests mean equal files, so all that matters is in it, and nothing else."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return models(tmp_path, base=body(), a=body(value=2.0), b=body(value=3.0))

    def plan(self, root: Path, hashes: dict[str, dict[str, str]] | None = None, **changes: object) -> Plan:
        def resolve(name: str) -> Source:
            files = folder_source(name, root).files
            known = {path: f"{name}-{path}" for path in files} | (hashes or {}).get(name, {})
            return Source(name, files, known)

        return make_plan(Recipe.parse(mix("a", "b", **(SUM | changes))), resolve)

    def test_the_same_inputs_give_the_same(self, root: Path) -> None:
        assert self.plan(root).digest == self.plan(root).digest
        assert self.plan(root, scale=1).digest == self.plan(root).digest

    @pytest.mark.parametrize(
        "changes",
        [
            {"scale": 0.5},
            {"seed": 1},
            {"dtype": "bfloat16"},
            {"method": {"name": "ties", "density": 0.5}},
            {"tensors": [{"match": "norm.bias", "take": "base"}]},
            {"output": {"max_shard_bytes": 100}},
            {"ingredients": [{"source": "b"}, {"source": "a"}]},
            {"ingredients": [{"source": "a", "weight": 2.0}, {"source": "b"}]},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_each_field_of_the_recipe_counts(self, changes: dict[str, object], root: Path) -> None:
        assert self.plan(root, **changes).digest != self.plan(root).digest

    @pytest.mark.parametrize("name", ["base", "a", "b"])
    @pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
    def test_each_file_that_is_read_counts(self, name: str, path: str, root: Path) -> None:
        assert self.plan(root, {name: {path: "other"}}).digest != self.plan(root).digest

    @pytest.mark.parametrize("path", ["README.md", "modeling.py", "logo.png", "trainer.log"])
    def test_a_file_that_is_not_read_does_not(self, path: str, root: Path) -> None:
        assert self.plan(root, {"a": {path: "other"}}).digest == self.plan(root).digest

    def test_without_hashes_names_and_sizes_count(self, root: Path) -> None:
        before = planned(root, mix("a", **SUM)).digest
        assert planned(root, mix("a", **SUM)).digest == before
        save_file(body() | head(), root / "a/model.safetensors")
        assert planned(root, mix("a", **SUM)).digest != before
