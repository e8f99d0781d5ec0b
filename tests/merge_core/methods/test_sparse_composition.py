"""Sparse fine-tunings composed as the original applies, masks and reverts them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import built, mix, planned, raw, write_model
from tests.merge_core.formats.golden_cases import Case, cases
from tests.merge_core.formats.test_sparse_formats import encoding, named, write_sft


def composed(**settings: Any) -> dict[str, Any]:
    return {"name": "sparse_composition", **settings}


@pytest.mark.parametrize("case", cases("composable_sft"), ids=named)
def test_composable_sft_is_added_as_the_original_adds_it(case: Case, tmp_path: Path) -> None:
    write_model(tmp_path / "base", case.part("in.base."))
    for position, file in enumerate(case.files()):
        (tmp_path / f"sft{position}").mkdir()
        (tmp_path / f"sft{position}" / "pytorch_diff.bin").write_bytes(file.read_bytes())
        names, with_abs = [f"sft{at}" for at in range(position + 1)], case.sidecar["params"]["with_abs"]
        method = {"name": "sparse_composition", "with_abs": with_abs[: position + 1]}
        found = built(tmp_path, mix(*names, base="base", method=method))
        for name, expected in case.part(f"out.after_apply{position}.").items():
            case.check_close(found[name], expected)


@pytest.mark.parametrize("case", cases("composable_sft"), ids=named)
def test_a_weight_of_minus_one_takes_a_fine_tuning_back_out_and_leaves_what_was_replaced(
    case: Case, tmp_path: Path
) -> None:
    last = len(case.files()) - 1
    write_model(tmp_path / "composed", case.part(f"out.after_apply{last}."))
    for position, file in enumerate(case.files()):
        (tmp_path / f"sft{position}").mkdir()
        (tmp_path / f"sft{position}" / "pytorch_diff.bin").write_bytes(file.read_bytes())
    names = [f"sft{position}" for position in range(last + 1)]
    recipe = mix(*names, weights=(-1.0,) * (last + 1), base="composed", method=composed())
    found = built(tmp_path, recipe)
    for name, expected in case.part("out.after_revert_all.").items():
        case.check_close(found[name], expected)


@pytest.mark.parametrize("case", cases("lt_sft_mask"), ids=named)
def test_a_mask_of_the_k_most_changed_entries_is_the_originals(case: Case, tmp_path: Path) -> None:
    base, before = case.part("in.orig."), case.part("in.mask_before.")
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "tuned", case.part("in.tuned."))
    marks = {
        name: {
            "size": mask.shape,
            "index_steps": torch.diff(
                mask.permute(*range(mask.ndim)[::-1]).flatten().nonzero().flatten(), prepend=torch.zeros(1)
            )
            .long()
            .tolist(),
            "values": torch.ones(int(mask.sum())),
        }
        for name, mask in before.items()
    }
    write_sft(tmp_path / "before", {"diffs": marks, "abs": {}})
    masks = [{"top": case.params["k"], "beside": 1}, None]
    rest = [{"match": name, "take": "base"} for name in base if name not in before]
    recipe = mix("tuned", "before", weights=(1.0, 0.0), base="base", method=composed(masks=masks), tensors=rest)
    found = built(tmp_path, recipe)
    for name, mask in case.part("out.mask.").items():
        changed = case.tensors[f"in.tuned.{name}"] != base[name]
        assert torch.equal(found[name] != base[name], mask & changed), name


@pytest.mark.parametrize("case", cases("sft_extract"), ids=named)
def test_a_threshold_keeps_what_the_originals_extraction_keeps(case: Case, tmp_path: Path) -> None:
    base = case.part("in.orig.")
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "tuned", case.part("in.tuned."))
    rules = [{"match": "frozen*", "take": "base"}, {"match": "head*", "take": 0}]
    method = composed(masks=[{"threshold": case.params["eps"]}])
    found = built(tmp_path, mix("tuned", base="base", method=method, tensors=rules))
    for name, expected in case.part("out.diff.").items():
        assert torch.equal(found[name] != base[name], expected != 0)
        case.check_close(found[name] - base[name], expected)
    for name, expected in case.part("out.abs.").items():
        assert raw(found[name]) == raw(expected)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    for name in ("base", "language", "task"):
        write_model(tmp_path / name, {"a": torch.randn(4, 5), "b": torch.randn(6)})
    return tmp_path


def test_a_mask_can_be_anothers_support_so_that_a_dense_tuning_composes_with_a_language(models: Path) -> None:
    masks = [{"density": 0.2}, {"support_of": 0}]
    alone = built(models, mix("language", base="base", method=composed(masks=masks[:1])))
    both = built(models, mix("language", "task", base="base", method=composed(masks=masks)))
    base = built(models, mix("base", method="linear"))
    kept = sum(int((alone[name] != base[name]).sum()) for name in base)
    assert kept == 6  # ⌈0.2 · 26⌉
    for name in base:
        assert torch.equal(alone[name] != base[name], both[name] != base[name])


def test_all_of_the_largest_that_are_equal_are_kept_and_of_none_nothing(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"a": torch.zeros(5)})
    write_model(tmp_path / "tuned", {"a": torch.tensor([1.0, -2.0, 2.0, 0.5, 2.0])})
    for top, expected in ((1, [0.0, -2.0, 2.0, 0.0, 2.0]), (0, [0.0] * 5), (9, [1.0, -2.0, 2.0, 0.5, 2.0])):
        found = built(tmp_path, mix("tuned", base="base", method=composed(masks=[{"top": top}])))
        assert found["a"].tolist() == expected


def test_the_last_that_may_replaces_a_tensor_whatever_its_weight_and_a_new_one_comes_along(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"w": torch.zeros(2, 3), "h": torch.zeros(2)})
    for position in range(3):
        whole = {"h": torch.full((2,), position + 1.0), "new": torch.full((3,), position + 1.0)}
        write_sft(tmp_path / f"s{position}", {"diffs": {"w": encoding()}, "abs": whole})
    recipe = mix("s0", "s1", "s2", weights=(1.0, 0.5, -1.0), base="base", method=composed())
    found = built(tmp_path, recipe)
    assert (found["h"].tolist(), found["new"].tolist()) == ([2.0] * 2, [2.0] * 3)
    assert found["w"].flatten().unique().tolist() == [0.0, 0.5]
    nobody = mix("s0", "s1", base="base", method=composed(with_abs=[False, False]))
    assert "new" not in built(tmp_path, nobody)


def test_a_change_to_what_another_has_replaced_before_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"w": torch.zeros(2, 3)})
    write_sft(tmp_path / "one", {"diffs": {}, "abs": {"w": torch.ones(2, 3)}})
    write_sft(tmp_path / "two", {"diffs": {"w": encoding()}, "abs": {}})
    with pytest.raises(RecipeError, match=r"tensor 'w'.*replaces whole; found 'two' after 'one'"):
        planned(tmp_path, mix("one", "two", base="base", method=composed()))
    assert torch.equal(built(tmp_path, mix("two", "one", base="base", method=composed()))["w"], torch.ones(2, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"with_abs": [True]}, "with_abs.*found 1"),
        ({"masks": [None]}, "masks.*found 1"),
        ({"masks": [{"support_of": 2}, None]}, "another ingredient"),
        ({"masks": [{"support_of": 0}, None]}, "another ingredient"),
        ({"masks": [{"support_of": 1}, {"support_of": 0}]}, "another ingredient"),
        ({"masks": [{}, None]}, "one of top, density, threshold and support_of"),
        ({"masks": [{"top": 1, "density": 0.5}, None]}, "one of top"),
        ({"masks": [{"density": 1.5}, None]}, "density"),
        ({"masks": [{"top": -1}, None]}, "top"),
        ({"masks": [{"quux": 1}, None]}, "quux"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_field(settings: Any, message: str, models: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        planned(models, mix("language", "task", base="base", method=composed(**settings)))
