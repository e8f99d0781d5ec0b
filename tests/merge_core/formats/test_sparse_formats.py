"""Sparse fine-tunes as their own libraries write them: added as those add them, or refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from merge_core.errors import FileError, RecipeError, UnsupportedError
from merge_core.formats import inspect, read
from merge_core.formats.composable_sft import row_major
from merge_core.sources import folder_source
from tests.merge_core.building import built, mix, planned, raw, write_model
from tests.merge_core.formats.golden_cases import Case, cases


def named(case: Case) -> str:
    return case.name


def write_sft(folder: Path, content: Any) -> str:
    folder.mkdir()
    torch.save(content, folder / "pytorch_diff.bin")
    return folder.name


def write_spiel(folder: Path, deltas: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> str:
    """Module → (values, indices)."""
    folder.mkdir()
    tensors = {}
    for module, (values, indices) in deltas.items():
        tensors[f"base_model.model.{module}.sft_delta.values"] = values
        tensors[f"base_model.model.{module}.sft_delta.indices"] = indices
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "SFT", "num_deltas": {"l": 3}}))
    return folder.name


@pytest.mark.parametrize("case", cases("composable_sft"), ids=named)
def test_composable_sft_is_decoded_as_the_original_decodes_it(case: Case, tmp_path: Path) -> None:
    for position, file in enumerate(case.files()):
        (tmp_path / f"{position}").mkdir()
        (tmp_path / f"{position}" / "pytorch_diff.bin").write_bytes(file.read_bytes())
        deltas = read(folder_source(f"{position}", tmp_path).files).deltas
        for name, expected in case.part(f"out.decoded{position}.").items():
            out = np.empty(expected.numel(), dtype=np.float32)
            deltas[name].open().load_delta(out, 0, None)
            assert torch.equal(torch.from_numpy(out).reshape(expected.shape), expected.float())


@pytest.mark.parametrize("case", cases("composable_sft", failing=True), ids=named)
def test_where_the_originals_decoding_corrupts_memory_the_encoded_tensor_comes_back(case: Case, tmp_path: Path) -> None:
    base = case.part("in.base.")
    encoded = case.part("out.enc0.")
    diffs = {
        name: {
            "size": tensor.shape,
            "index_steps": encoded[f"{name}.index_steps"].tolist(),
            "values": encoded[f"{name}.values"],
        }
        for name, tensor in base.items()
    }
    write_model(tmp_path / "base", base)
    write_sft(tmp_path / "sft", {"diffs": diffs, "abs": {}})
    found = built(tmp_path, mix("sft", base="base", method="task_arithmetic"))
    for name, dense in case.part("in.dense_diff0.").items():
        case.check_close(found[name], base[name] + dense)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_sparse_tensor_of_any_shape_comes_back_from_its_encoding(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5)))
    columns = np.array(sorted(data.draw(st.sets(st.integers(0, int(np.prod(shape)) - 1)))), dtype=np.int64)
    dense = np.zeros(shape)
    dense.reshape(-1)[row_major(columns, shape)] = 1.0
    assert np.flatnonzero(dense.reshape(-1, order="F")).tolist() == columns.tolist()


@pytest.mark.parametrize("case", cases("spiel_sparse_delta"), ids=named)
def test_spiel_is_added_as_the_original_adds_it(case: Case, tmp_path: Path) -> None:
    base = case.tensors["in.base"]
    for position in range(2 if "in.delta1.values" in case.tensors else 1):
        write_model(tmp_path / f"base{position}", {"m.l.weight": base, "m.l.bias": torch.ones(3)})
        pair = case.tensors[f"in.delta{position}.values"], case.tensors[f"in.delta{position}.indices"]
        write_spiel(tmp_path / f"sft{position}", {"m.l": pair})
        found = built(tmp_path, mix(f"sft{position}", base=f"base{position}", method="task_arithmetic"))
        base = case.tensors[f"out.after_merge{position}"]
        case.check_close(found["m.l.weight"], base)


def test_spiel_values_are_rounded_to_the_weights_type_before_they_are_added(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"l.weight": torch.full((2, 2), 0.5).to(torch.bfloat16)})
    write_spiel(tmp_path / "sft", {"l": (torch.tensor([0.0019543]), torch.tensor([3], dtype=torch.int32))})
    found = built(tmp_path, mix("sft", base="base", method="task_arithmetic"))["l.weight"]
    expected = torch.tensor(0.5).to(torch.bfloat16) + torch.tensor(0.0019543).to(torch.bfloat16)
    assert raw(found.reshape(-1)[3]) == raw(expected)


def test_spiel_values_of_the_same_entry_add_up(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"l.weight": torch.zeros(2, 2)})
    write_spiel(tmp_path / "sft", {"l": (torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2, 0, 2]))})
    found = built(tmp_path, mix("sft", base="base", method="task_arithmetic"))["l.weight"]
    assert found.reshape(-1).tolist() == [2.0, 0.0, 5.0, 0.0]


@pytest.mark.parametrize("index", [-1, 4, 2**40])
def test_a_spiel_index_outside_of_the_weight_is_named_with_its_tensor_and_size(index: int, tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"l.weight": torch.zeros(2, 2)})
    write_spiel(tmp_path / "sft", {"l": (torch.ones(2), torch.tensor([0, index]))})
    message = rf"'sft'.*'l\.weight': an index is outside of the tensor; found index {index} .*expected from 0 to 3"
    with pytest.raises(FileError, match=message):
        planned(tmp_path, mix("sft", base="base", method="task_arithmetic"))


@pytest.mark.parametrize(
    ("values", "indices", "message"),
    [
        (torch.ones(2), torch.ones(3, dtype=torch.int64), "do not fit"),
        (torch.ones(2, 1), torch.ones(2, dtype=torch.int64), "no list of numbers"),
        (torch.ones(2), torch.ones(2), "indices are integers"),
        (torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64), "no list of numbers"),
    ],
)
def test_malformed_spiel_parts_are_refused(
    values: torch.Tensor, indices: torch.Tensor, message: str, tmp_path: Path
) -> None:
    write_model(tmp_path / "base", {"l.weight": torch.zeros(2, 2)})
    write_spiel(tmp_path / "sft", {"l": (values, indices)})
    with pytest.raises(FileError, match=message):
        planned(tmp_path, mix("sft", base="base", method="task_arithmetic"))


def test_a_spiel_delta_of_a_weight_that_the_base_lacks_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"l.weight": torch.zeros(2, 2)})
    write_spiel(tmp_path / "sft", {"k": (torch.ones(1), torch.tensor([0]))})
    with pytest.raises(RecipeError, match=r"lands on no tensor.*'k\.weight'.*'l\.weight'"):
        planned(tmp_path, mix("sft", base="base", method="task_arithmetic"))


def encoding(size: Any = (2, 3), steps: Any = (1, 2), values: Any = None) -> dict[str, Any]:
    return {"size": torch.Size(size), "index_steps": list(steps), "values": torch.ones(2) if values is None else values}


BENT: dict[str, tuple[Any, str]] = {
    "beyond": (encoding(steps=(1, 5)), r"'w': an index is outside of the tensor; found index 6 .*from 0 to 5"),
    "negative": (encoding(steps=(-1, 2)), "index_steps are malformed"),
    "back": (encoding(steps=(3, -1)), "index_steps are malformed"),
    "huge": (encoding(steps=(2**59, 2**59)), "outside of the tensor"),
    "wraps": (encoding(steps=[2**59] * 40, values=torch.ones(40)), "outside of the tensor"),
    "wider": (encoding(steps=(2**70, 1)), "index_steps are malformed"),
    "no integers": (encoding(steps=(1.5, 1)), "index_steps are malformed"),
    "fewer values": (encoding(values=torch.ones(1)), "do not fit"),
    "no numbers": (encoding(values=torch.ones(2, dtype=torch.int64)), "no list of numbers"),
    "a matrix": (encoding(values=torch.ones(2, 1)), "no list of numbers"),
    "no size": ({"index_steps": [1], "values": torch.ones(1)}, "encoding is malformed"),
    "huge size": (encoding(size=(2**40, 2**40)), "size is too large"),
    "empty": (encoding(size=(0, 3)), "the tensor has no elements"),
    "no dict": ([1], "encoding is malformed"),
}


@pytest.mark.parametrize(("content", "message"), BENT.values(), ids=BENT)
def test_a_bent_encoding_is_refused_naming_its_weight(content: Any, message: str, tmp_path: Path) -> None:
    write_sft(tmp_path / "sft", {"diffs": {"w": content}, "abs": {}})
    with pytest.raises(FileError, match=message):
        read(folder_source("sft", tmp_path).files)


def test_a_sparse_fine_tune_of_another_shape_is_refused_with_both(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"w": torch.zeros(3, 2)})
    write_sft(tmp_path / "sft", {"diffs": {"w": encoding()}, "abs": {}})
    with pytest.raises(RecipeError, match=r"shapes differ; found \[2, 3\] in 'sft'; expected \[3, 2\]"):
        planned(tmp_path, mix("sft", base="base", method="task_arithmetic"))


def spt_files(folder: Path, case: Case) -> None:
    """The state dict and the file of places as the original's two steps save them."""
    weight, bias = case.tensors["in.weight"], case.tensors["in.bias"]
    rows, columns = case.tensors["in.sparse_weight_indexes"]
    flat = rows * weight.shape[1] + columns
    other = torch.tensor([2, 5])
    places = [other, flat + 10, case.tensors["in.sparse_bias_indexes"][0] + 10 + weight.numel()]
    order, within = torch.sort(flat), torch.sort(case.tensors["in.sparse_bias_indexes"][0])
    folder.mkdir()
    torch.save(
        {
            "fc.sparse_weight": case.tensors["in.sparse_weight"][order.indices],
            "fc.sparse_bias": case.tensors["in.sparse_bias"][within.indices],
            "other.sparse_weight": torch.zeros(2),
        },
        folder / "checkpoint.pth",
    )
    shapes = {"other.weight": torch.Size([2, 5]), "fc.weight": weight.shape, "fc.bias": bias.shape}
    content = {
        "unstructured_name_shapes": shapes,
        "unstructured_name_shapes_int": {name: np.prod(list(shape)) for name, shape in shapes.items()},
        "unstructured_params": 0.4,
        "unstructured_indexes": torch.cat(places),
    }
    torch.save(content, folder / "param_req_0.4.pth")


@pytest.mark.parametrize("case", cases("spt_sparse_linear"), ids=named)
def test_spt_values_go_where_the_file_of_places_says(case: Case, tmp_path: Path) -> None:
    base = {
        "fc.weight": case.tensors["in.weight"],
        "fc.bias": case.tensors["in.bias"],
        "other.weight": torch.ones(2, 5),
    }
    write_model(tmp_path / "base", base)
    spt_files(tmp_path / "spt", case)
    found = built(tmp_path, mix("spt", base="base", method="task_arithmetic"))
    for name, expected in case.part("out.merged.").items():
        case.check_close(found[f"fc.{name}"], expected)


def test_spt_without_the_file_of_places_is_stored_and_refused_in_recipes(tmp_path: Path) -> None:
    spt_files(tmp_path / "spt", cases("spt_sparse_linear")[0])
    (tmp_path / "spt" / "param_req_0.4.pth").unlink()
    files = folder_source("spt", tmp_path).files
    with pytest.raises(UnsupportedError, match=r"do not say where they go.*expected one param_req_\*\.pth"):
        read(files)
    assert (inspect(files).kind, inspect(files).format) == ("files", "spt")


@pytest.mark.parametrize("places", [[-1, 2], [3, 10**6], [4, 4]])
def test_spt_places_outside_of_the_weights_or_there_twice_are_refused(places: list[int], tmp_path: Path) -> None:
    (tmp_path / "spt").mkdir()
    torch.save({"fc.sparse_weight": torch.ones(2)}, tmp_path / "spt" / "x.pth")
    content = {
        "unstructured_name_shapes": {"fc.weight": torch.Size([2, 5])},
        "unstructured_indexes": torch.tensor(places),
    }
    torch.save(content, tmp_path / "spt" / "param_req_1.pth")
    with pytest.raises(FileError, match=r"outside of the tensor|there twice"):
        read(folder_source("spt", tmp_path).files)


@pytest.mark.parametrize("case", cases("sara"), ids=named)
@pytest.mark.parametrize("told", ["by the order", "by position", "by counts"])
def test_sara_replaces_what_was_small_in_the_base(case: Case, told: str, tmp_path: Path) -> None:
    base = case.part("in.base.")
    names = {position: position if told == "by position" else f"l{9 - int(position)}.w" for position in base}
    write_model(tmp_path / "base", {names[position]: tensor for position, tensor in base.items()})
    (tmp_path / "sara").mkdir()
    (tmp_path / "sara" / "unet.pt").write_bytes(case.files()[0].read_bytes())
    if told == "by the order":
        (tmp_path / "sara" / "parameters.json").write_text(json.dumps(list(names.values())))
    found = built(tmp_path, mix("sara", base="base", method="task_arithmetic"))
    for position, expected in case.part("out.loaded.").items():
        case.check_close(found[names[position]], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sara_compares_in_the_weights_own_type_across_blocks(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(300, 700) * 0.01).to(dtype)
    weight[0, :9] = torch.tensor(0.002).to(dtype)
    mask = weight.abs() < 0.002
    write_model(tmp_path / "base", {"w": weight})
    (tmp_path / "sara").mkdir()
    values = torch.randn(int(mask.sum())).to(dtype)
    torch.save({"threshold": 0.002, 0: values}, tmp_path / "sara" / "unet.pt")
    expected = weight.clone()
    expected[mask] = values
    found = built(tmp_path, mix("sara", base="base", method="passthrough"))["w"]
    assert raw(found) == raw(expected)


def test_sara_of_another_base_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"0": torch.ones(4)})
    (tmp_path / "sara").mkdir()
    torch.save({"threshold": 0.1, 0: torch.ones(2)}, tmp_path / "sara" / "unet.pt")
    with pytest.raises(
        FileError, match=r"parameter 0 \('0'\): the values are of another base; found 2 values; expected 0"
    ):
        planned(tmp_path, mix("sara", base="base", method="task_arithmetic"))


def test_sara_that_could_mean_two_weights_asks_for_their_order(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"a": torch.zeros(2), "b": torch.zeros(2)})
    (tmp_path / "sara").mkdir()
    torch.save({"threshold": 0.1, 0: torch.ones(2)}, tmp_path / "sara" / "unet.pt")
    with pytest.raises(UnsupportedError, match=r"does not say which weight it changes.*expected parameters\.json"):
        planned(tmp_path, mix("sara", base="base", method="task_arithmetic"))
